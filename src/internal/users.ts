/** The table `users(login, name, forname)` in each dialect: every statement of the repository, typed. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import type { Avatar } from "../Avatar.js"
import { DatabaseError, fromSqlError } from "../DatabaseError.js"
import { doorOf } from "./sqlitePool/door.js"

/** As it stands in the table: perhaps no avatar. */
export interface Row {
  readonly login: unknown
  readonly name: unknown
  readonly forname: unknown
}

/** The statements of lookups in SQLite: `key` is the place of a login among those that are wanted. */
const findOne =
  "select 0 as key, name as name, forname as forname from users where login collate binary = ? and typeof(login) = 'text'"
const findAll = `
  select wanted.key as key, users.name as name, users.forname as forname
  from json_each(?) as wanted
  cross join users on users.login = wanted.value collate binary and typeof(users.login) = 'text'
`

interface Found {
  readonly key: number | bigint
  readonly name: unknown
  readonly forname: unknown
}

const inOrder = (wanted: ReadonlyArray<string>, rows: ReadonlyArray<Found>): Array<Row | undefined> => {
  const found = wanted.map((): Row | undefined => undefined)
  for (const { forname, key, name } of rows) {
    found[Number(key)] = { login: wanted[Number(key)], name, forname }
  }
  return found
}

/** The same from the values of all rows. */
const fromValues = (wanted: ReadonlyArray<string>, values: ReadonlyArray<unknown>): Array<Row | undefined> => {
  const found = wanted.map((): Row | undefined => undefined)
  for (let i = 0; i < values.length; i += 3) {
    const key = values[i] as number
    found[key] = { login: wanted[key], name: values[i + 1], forname: values[i + 2] }
  }
  return found
}

export type Users = ReturnType<typeof makeUsers>

export const makeUsers = (client: SqlClient.SqlClient) => {
  const sql = client.withoutTransforms()
  const door = doorOf(client)
  const isSqlite = sql.onDialectOrElse({ sqlite: () => true, orElse: () => false })

  // Exact also on a table whose column folds case: an index of another collation is not used then, but nobody gets another's row.
  const login = sql.literal(isSqlite ? "login collate binary" : "login")

  // A text column of SQLite may hold a blob or, without affinity, a number.
  const isSomebody = sql.literal(isSqlite ? "typeof(login) = 'text'" : "login is not null")

  // A unique index that folds case takes another's login for a conflict: that one is not to be overwritten.
  const isSame = sql.literal(
    isSqlite
      ? "typeof(users.login) = 'text' and users.login = excluded.login collate binary"
      : "users.login = excluded.login"
  )

  // A table may spell its columns in another case.
  const columns = sql.literal("login as login, name as name, forname as forname")

  const find = (wanted: string): Effect.Effect<Row | undefined, DatabaseError> =>
    isSqlite
      ? Effect.map(read(sql.unsafe<Found>(findOne, [wanted])), (rows) => inOrder([wanted], rows)[0])
      : Effect.map(
        read(sql<Row>`select ${columns} from users where ${login} = ${wanted} and ${isSomebody}`),
        (rows) => rows[0]
      )

  /** Different logins, by one statement with one parameter; answers in their order. */
  const findMany = (wanted: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<Row | undefined>, DatabaseError> =>
    isSqlite
      ? Effect.map(read(sql.unsafe<Found>(findAll, [JSON.stringify(wanted)])), (rows) => inOrder(wanted, rows))
      : Effect.map(read(sql<Row>`select ${columns} from users where ${sql.in("login", wanted)}`), (rows) => {
        const found = new Map(rows.map((row) => [row.login, row] as const))
        return wanted.map((login) => found.get(login))
      })

  /** The same through the door of our pool, tried once; without an answer where it is worth to try again. */
  const sendMany = door === undefined ? undefined : (
    wanted: ReadonlyArray<string>,
    settle: (found: Exit.Exit<ReadonlyArray<Row | undefined>, DatabaseError> | undefined) => void
  ) => {
    const isOne = wanted.length === 1
    return door.read(isOne ? findOne : findAll, isOne ? wanted : [JSON.stringify(wanted)], (failure, values) => {
      if (failure === undefined) {
        return settle(Exit.succeed(fromValues(wanted, values)))
      }
      const error = fromSqlError(failure)
      settle(isWorthRepeating(error) ? undefined : Exit.fail(error))
    })
  }

  const insert = (avatar: Avatar): Effect.Effect<boolean, DatabaseError> =>
    Effect.map(
      typed(sql`
        insert into users (login, name, forname) values (${avatar.login}, ${avatar.name}, ${avatar.forname})
        on conflict (login) do nothing returning login
      `),
      (inserted) => inserted.length > 0
    )

  /**
   * Those of different logins whose login was free; answers their logins. Where one cannot be stored none is. Where the table makes another
   * login of one, so that nobody could tell whose it is, nothing is stored, and the answer is absent.
   */
  const insertMany = (
    avatars: ReadonlyArray<Avatar>
  ): Effect.Effect<ReadonlyArray<string> | undefined, DatabaseError> => {
    const values = avatars.map(({ forname, login, name }) => [login, name, forname])
    const wanted = new Set<unknown>(values.map(([login]) => login))
    const inserted = Effect.flatMap(
      isSqlite
        ? sql<Row>`
            insert into users (login, name, forname)
            select value ->> 0, value ->> 1, value ->> 2 from json_each(${JSON.stringify(values)}) where true
            on conflict (login) do nothing returning login as login
          `
        : sql<Row>`
            insert into users ${sql.insert(avatars.map(({ forname, login, name }) => ({ login, name, forname })))}
            on conflict (login) do nothing returning login as login
          `,
      (rows) =>
        rows.every(({ login }) => wanted.has(login))
          ? Effect.succeed(rows.map(({ login }) => String(login)))
          : Effect.fail(unmatched)
    )
    // A trigger may refuse one row and keep those before it: the transaction does not.
    return sql.withTransaction(inserted).pipe(
      // A stock client dies of a rollback for which SQLite has left nothing to undo.
      Effect.catchSomeDefect((defect) =>
        Predicate.isTagged(defect, "SqlError") ? Option.some(Effect.fail(unmatched)) : Option.none()
      ),
      Effect.catchIf((error) => error === unmatched, () => Effect.succeed(undefined)),
      Effect.mapError((error) => fromSqlError(error as SqlError))
    )
  }

  const update = (avatar: Avatar): Effect.Effect<boolean, DatabaseError> =>
    Effect.map(
      typed(sql`
        update users set name = ${avatar.name}, forname = ${avatar.forname}
        where ${login} = ${avatar.login} and ${isSomebody} returning login
      `),
      (updated) => updated.length > 0
    )

  const upsert = (avatar: Avatar): Effect.Effect<void, DatabaseError> =>
    Effect.flatMap(
      typed(sql`
        insert into users (login, name, forname) values (${avatar.login}, ${avatar.name}, ${avatar.forname})
        on conflict (login) do update set name = excluded.name, forname = excluded.forname
        where ${isSame} returning login
      `),
      (written) => written.length > 0 ? Effect.void : notStored()
    )

  const remove = (gone: string): Effect.Effect<boolean, DatabaseError> =>
    Effect.map(
      typed(sql`delete from users where ${login} = ${gone} and ${isSomebody} returning login`),
      (removed) => removed.length > 0
    )

  const pageOfAll = (after: string | undefined, limit: number) => {
    const start = after === undefined ? sql`${login} >= ''` : sql`${login} > ${after}`
    return read(
      sql<Row>`select ${columns} from users where ${start} and ${isSomebody} order by ${login} limit ${limit}`
    )
  }

  /**
   * SQLite takes any bytes for text. A login that is not UTF-8 reads as another than it is, so that nobody can be found by it, and the page
   * after it would begin in a wrong place: it is nobody, as one is that is no text.
   */
  const pageOfUtf8 = Effect.fnUntraced(function*(after: string | undefined, limit: number) {
    const found: Array<Row> = []
    let start = sql`${login} ${sql.literal(after === undefined ? ">=" : ">")} ${after ?? ""}`
    for (;;) {
      const rows = yield* read(sql<Row & { readonly bytes: Uint8Array }>`
        select ${columns}, cast(login as blob) as bytes from users
        where ${start} and ${isSomebody} order by ${login} limit ${limit}
      `)
      found.push(...rows.filter(({ bytes, login }) => Buffer.from(String(login)).equals(bytes)))
      const last = rows.at(-1)
      if (last === undefined || rows.length < limit || found.length >= limit) {
        return found.slice(0, limit)
      }
      start = sql`${login} > cast(${last.bytes} as text)`
    }
  })

  const page = (after: string | undefined, limit: number): Effect.Effect<ReadonlyArray<Row>, DatabaseError> =>
    Effect.flatMap(pageOfAll(after, limit), (rows) => {
      // What a text that is not UTF-8 is read as, and hardly ever a character of a login.
      const isDoubtful = rows.some((row) => typeof row.login === "string" && row.login.includes("\uFFFD"))
      return isDoubtful && isSqlite ? pageOfUtf8(after, limit) : Effect.succeed(rows)
    })

  const count: Effect.Effect<number, DatabaseError> = Effect.map(
    read(
      sql<{ readonly count: number | bigint | string }>`select count(*) as count from users where ${isSomebody}`
    ),
    (rows) => Number(rows[0]?.count ?? 0)
  )

  return { count, find, findMany, insert, insertMany, page, remove, sendMany, update, upsert }
}

const unmatched = "unmatched"

const notStored = () =>
  new DatabaseError({
    reason: "UniqueViolation",
    operation: "execute",
    message: "The database did not store the user: its table takes the login for that of another user."
  })

const typed = Effect.mapError((error: SqlError) => fromSqlError(error))

/** What the pool itself refuses fails fast. */
const isWorthRepeating = (error: DatabaseError) => error.isRetryable && error.operation !== "acquireConnection"

const retries = Schedule.intersect(
  Schedule.jittered(Schedule.union(Schedule.exponential("20 millis"), Schedule.spaced("500 millis"))),
  Schedule.recurs(4)
)

/** A read alone may be repeated; inside a transaction the whole transaction has to be. */
const read = <A>(statement: Effect.Effect<A, SqlError>): Effect.Effect<A, DatabaseError> =>
  Effect.retry(typed(statement), {
    schedule: retries,
    while: (error) =>
      isWorthRepeating(error)
        ? Effect.map(Effect.serviceOption(SqlClient.TransactionConnection), Option.isNone)
        : Effect.succeed(false)
  })

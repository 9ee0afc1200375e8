/** The table `users(login, name, forname)` in each dialect: every statement of the repository, typed. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { Avatar } from "../Avatar.js"
import type { DatabaseError } from "../DatabaseError.js"
import { fromSqlError } from "../DatabaseError.js"
import { makeMysqlUsers } from "./mysqlUsers.js"
import { notStored, only, read, typed } from "./row.js"
import type { Row } from "./row.js"

export type Users = ReturnType<typeof makeSqlUsers>

export const makeUsers = (client: SqlClient.SqlClient): Users => {
  const sql = client.withoutTransforms()
  return sql.onDialectOrElse({
    sqlite: () => makeSqlUsers(sql),
    mysql: () => textual({ ...makeSqlUsers(sql), ...makeMysqlUsers(sql) }),
    orElse: () => textual(makeSqlUsers(sql))
  })
}

/** What an engine of Unicode text cannot hold (U+0000, half a character) is nobody's login: it is not asked, and cannot be taken for another. */
const textual = (users: Users): Users => {
  const isText = (login: string) => login.isWellFormed() && !login.includes("\0")
  return {
    ...users,
    find: (wanted) => isText(wanted) ? users.find(wanted) : Effect.succeed(undefined),
    findMany: (wanted) => users.findMany(wanted.filter(isText)),
    update: (avatar) => isText(avatar.login) ? users.update(avatar) : Effect.succeed(false),
    remove: (gone) => isText(gone) ? users.remove(gone) : Effect.succeed(false),
    // No login comes between a text and the same with U+0000 after it.
    page: (after, limit) => users.page(after?.replace(/\0.*$/s, ""), limit)
  }
}

/** In the dialect of SQLite and PostgreSQL. */
const makeSqlUsers = (sql: SqlClient.SqlClient) => {
  const isSqlite = sql.onDialectOrElse({ sqlite: () => true, orElse: () => false })

  // In code-point order, also on a table whose column has another collation, whose index is not used then.
  const login = sql.literal(isSqlite ? "login collate binary" : "login::text collate \"C\"")

  // Exact also on a table whose column folds case. PostgreSQL finds by the index of any collation what it then compares.
  const is = (wanted: string) => isSqlite ? sql`${login} = ${wanted}` : sql`login = ${wanted} and ${login} = ${wanted}`

  // A text column of SQLite may hold a blob or, without affinity, a number.
  const isSomebody = sql.literal(isSqlite ? "typeof(login) = 'text'" : "login is not null")

  // A unique index that folds case takes another's login for a conflict: that one is not to be overwritten.
  const isSame = sql.literal(
    isSqlite
      ? "typeof(users.login) = 'text' and users.login = excluded.login collate binary"
      : "users.login::text collate \"C\" = excluded.login::text collate \"C\""
  )

  // A table may spell its columns in another case.
  const columns = sql.literal("login as login, name as name, forname as forname")

  const find = (wanted: string): Effect.Effect<Row | undefined, DatabaseError> =>
    Effect.map(
      read(sql<Row>`select ${columns} from users where ${is(wanted)} and ${isSomebody}`),
      (rows) => rows[0]
    )

  /** One statement and one parameter for any number of different logins. */
  const findMany = (wanted: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<Row>, DatabaseError> =>
    isSqlite
      ? read(sql<Row>`
          select users.login as login, users.name as name, users.forname as forname
          from json_each(${JSON.stringify(wanted)}) as wanted
          cross join users on users.login = wanted.value collate binary and typeof(users.login) = 'text'
        `)
      : Effect.map(
        read(sql<Row>`select ${columns} from users where login = any(${wanted as never})`),
        (rows) => only(wanted, rows)
      )

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
    const column = (i: number) => values.map((row) => row[i]) as never
    const wanted = new Set<unknown>(values.map(([login]) => login))
    const inserted = Effect.flatMap(
      isSqlite
        ? sql<Row>`
            insert into users (login, name, forname)
            select value ->> 0, value ->> 1, value ->> 2 from json_each(${JSON.stringify(values)}) where true
            on conflict (login) do nothing returning login as login
          `
        // In one order, so that two of them at once do not wait for each other.
        : sql<Row>`
            insert into users (login, name, forname)
            select * from unnest(${column(0)}::text[], ${column(1)}::text[], ${column(2)}::text[]) as wanted(a, b, c)
            order by a collate "C"
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
        where ${is(avatar.login)} and ${isSomebody} returning login
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
      typed(sql`delete from users where ${is(gone)} and ${isSomebody} returning login`),
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

  return { count, find, findMany, insert, insertMany, page, remove, update, upsert }
}

const unmatched = "unmatched"

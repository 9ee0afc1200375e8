/** The table `users(login, name, forname)` in each dialect: every statement of the repository, typed. */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { Avatar } from "../Avatar.js"
import type { DatabaseError } from "../DatabaseError.js"
import { doorOf } from "./door.js"
import type { Limits } from "./door.js"
import { makeMysqlUsers } from "./mysqlUsers.js"
import { foundByLogin, inOrder, insertedOnly, notStored, read, sender, typed } from "./row.js"
import type { Row } from "./row.js"
import { makeSqliteUsers } from "./sqliteUsers.js"

/** What the repository asks of the table, each as one statement of its own or of the current transaction. */
export interface Users {
  /** Of the client, where it has some. */
  readonly limits?: Limits | undefined

  readonly find: (login: string) => Effect.Effect<Row | undefined, DatabaseError>

  /** Different logins; answers in their order. */
  readonly findMany: (logins: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Row | undefined>, DatabaseError>

  /**
   * The same outside any transaction and without a fiber, where the client has a way: tried once. `settle` is called once, with nothing where
   * it is worth to try again. Answers what interrupts it.
   */
  readonly sendMany?: (
    logins: ReadonlyArray<string>,
    settle: (found: Exit.Exit<ReadonlyArray<Row | undefined>, DatabaseError> | undefined) => void
  ) => () => void

  /** Whether its login was free. */
  readonly insert: (avatar: Avatar) => Effect.Effect<boolean, DatabaseError>

  /** Whether the client itself has inserts that wait share a transaction, and answers each alone. */
  readonly isGrouping?: boolean

  /**
   * Those of different logins whose login was free; answers their logins. Where one cannot be stored none is. Where the table makes another
   * login of one, so that nobody could tell whose it is, nothing is stored, and the answer is absent.
   */
  readonly insertMany: (
    avatars: ReadonlyArray<Avatar>
  ) => Effect.Effect<ReadonlyArray<string> | undefined, DatabaseError>

  /** The same where nobody wants to know which: answers how many, in less time. */
  readonly countInserted?: (avatars: ReadonlyArray<Avatar>) => Effect.Effect<number, DatabaseError>

  /** Whether there was one. */
  readonly update: (avatar: Avatar) => Effect.Effect<boolean, DatabaseError>
  readonly upsert: (avatar: Avatar) => Effect.Effect<void, DatabaseError>

  /** Those of different logins. Whether all were written; where not, nobody knows which were: it is for a transaction that is rolled back then. */
  readonly upsertMany: (avatars: ReadonlyArray<Avatar>) => Effect.Effect<boolean, DatabaseError>
  readonly remove: (login: string) => Effect.Effect<boolean, DatabaseError>

  /** In code-point order of their logins. */
  readonly page: (after: string | undefined, limit: number) => Effect.Effect<ReadonlyArray<Row>, DatabaseError>
  readonly count: Effect.Effect<number, DatabaseError>
}

export const makeUsers = (client: SqlClient.SqlClient): Users => {
  const sql = client.withoutTransforms()
  const door = doorOf(client)
  const users: Users = sql.onDialectOrElse({
    sqlite: () => ({ ...makeSqlUsers(sql), ...makeSqliteUsers(sql, door) }),
    mysql: () => textual({ ...makeSqlUsers(sql), ...makeMysqlUsers(sql, door) }),
    orElse: () =>
      textual({
        ...makeSqlUsers(sql),
        ...(door === undefined ? {} : { sendMany: sender(door, byArray, foundByLogin) })
      })
  })
  return { ...users, limits: door?.limits }
}

const byArray = (wanted: ReadonlyArray<string>) =>
  ["select login, name, forname from users where login = any($1)", [wanted]] as const

/** What an engine of Unicode text cannot hold (U+0000, half a character) is nobody's login: it is not asked, and cannot be taken for another. */
const textual = (users: Users): Users => {
  const { sendMany } = users
  const isText = (login: string) => login.isWellFormed() && !login.includes("\0")
  return {
    ...users,
    find: (wanted) => isText(wanted) ? users.find(wanted) : Effect.succeed(undefined),
    findMany: (wanted) => {
      const texts = wanted.filter(isText)
      return Effect.map(users.findMany(texts), (found) => inOrder(wanted, found.flatMap((row) => row ?? [])))
    },
    ...(sendMany === undefined ? {} : {
      sendMany: (wanted, settle) => {
        if (wanted.every(isText)) {
          return sendMany(wanted, settle)
        }
        settle(undefined)
        return () => {}
      }
    }),
    update: (avatar) => isText(avatar.login) ? users.update(avatar) : Effect.succeed(false),
    remove: (gone) => isText(gone) ? users.remove(gone) : Effect.succeed(false),
    // No login comes between a text and the same with U+0000 after it.
    page: (after, limit) => users.page(after?.replace(/\0.*$/s, ""), limit)
  }
}

/** In the dialect of SQLite and PostgreSQL. */
const makeSqlUsers = (sql: SqlClient.SqlClient): Users => {
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

  const overwriting = sql`
    on conflict (login) do update set name = excluded.name, forname = excluded.forname
    where ${isSame} returning login
  `

  // A table may spell its columns in another case.
  const columns = sql.literal("login as login, name as name, forname as forname")

  const find = (wanted: string): Effect.Effect<Row | undefined, DatabaseError> =>
    Effect.map(
      read(sql<Row>`select ${columns} from users where ${is(wanted)} and ${isSomebody}`),
      (rows) => rows[0]
    )

  const findMany: Users["findMany"] = (wanted) =>
    Effect.map(
      read(sql<Row>`select ${columns} from users where login = any(${wanted as never})`),
      (rows) => inOrder(wanted, rows)
    )

  const insert = (avatar: Avatar): Effect.Effect<boolean, DatabaseError> =>
    Effect.map(
      typed(sql`
        insert into users (login, name, forname) values (${avatar.login}, ${avatar.name}, ${avatar.forname})
        on conflict (login) do nothing returning login
      `),
      (inserted) => inserted.length > 0
    )

  /** The rows of avatars, in one order, so that two statements at once do not wait for each other. */
  const rowsOf = (avatars: ReadonlyArray<Avatar>) => {
    const column = (of: (avatar: Avatar) => string) => avatars.map(of) as never
    return sql`
      select * from unnest(
        ${column(({ login }) => login)}::text[], ${column(({ name }) => name)}::text[],
        ${column(({ forname }) => forname)}::text[]
      ) as wanted(a, b, c)
      order by a collate "C"
    `
  }

  const insertMany: Users["insertMany"] = (avatars) =>
    insertedOnly(
      sql,
      avatars,
      sql<Row>`
        insert into users (login, name, forname) ${rowsOf(avatars)}
        on conflict (login) do nothing returning login as login
      `
    )

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
        ${overwriting}
      `),
      (written) => written.length > 0 ? Effect.void : notStored()
    )

  const upsertMany: Users["upsertMany"] = (avatars) =>
    Effect.map(
      typed(sql`
        insert into users (login, name, forname) ${rowsOf(avatars)}
        ${overwriting}
      `),
      (written) => written.length === avatars.length
    )

  const remove = (gone: string): Effect.Effect<boolean, DatabaseError> =>
    Effect.map(
      typed(sql`delete from users where ${is(gone)} and ${isSomebody} returning login`),
      (removed) => removed.length > 0
    )

  const page: Users["page"] = (after, limit) => {
    const start = after === undefined ? sql`${login} >= ''` : sql`${login} > ${after}`
    return read(
      sql<Row>`select ${columns} from users where ${start} and ${isSomebody} order by ${login} limit ${limit}`
    )
  }

  const count: Effect.Effect<number, DatabaseError> = Effect.map(
    read(
      sql<{ readonly count: number | bigint | string }>`select count(*) as count from users where ${isSomebody}`
    ),
    (rows) => Number(rows[0]?.count ?? 0)
  )

  return { count, find, findMany, insert, insertMany, page, remove, update, upsert, upsertMany }
}

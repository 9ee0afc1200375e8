/** Looks a database over: is it sound, does its table fit, are its rows avatars, and how is its pool set. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import { AvatarRepository } from "../../AvatarRepository.js"
import { type DatabaseError, fromSqlError } from "../../DatabaseError.js"
import type { SqlitePool } from "../../SqlitePool.js"
import { Failed, printable, tell } from "./terminal.js"

/** Prints a line a look; what is wrong is told on stderr, and the others go on. */
export const check: Effect.Effect<void, DatabaseError, SqlClient.SqlClient | AvatarRepository> = Effect.gen(
  function*() {
    const sql = yield* SqlClient.SqlClient
    const users = yield* AvatarRepository
    const look = looksOf(sql)
    yield* Console.log(`database: ${yield* typed(look.version)}`)

    const damages = yield* typed(look.integrity)
    yield* damages.length === 0
      ? Console.log("integrity: sound")
      : Effect.forEach(damages, (damage) => tell(new Failed("database", `The database is damaged: ${damage}`)))

    const columns = yield* typed(look.columns)
    const lack = lackOf(columns)
    if (lack !== undefined) {
      return yield* tell(lack)
    }
    yield* Console.log(printable(`columns: ${columns.join(", ")}`))
    yield* (yield* typed(look.isUnique))
      ? Console.log("logins: unique")
      : tell(new Failed("malformed", "The column login has no unique index: a login may be there twice."))

    const rows = { avatars: 0, malformed: 0 }
    yield* Stream.runForEach(users.stream, (user) => {
      rows[Either.isRight(user) ? "avatars" : "malformed"] += 1
      return Either.isLeft(user) ? tell(user.left) : Effect.void
    })
    const [counted] = yield* typed(sql<{ readonly count: number | string }>`select count(*) as count from users`)
    const nobodies = Number(counted?.count ?? 0) - rows.avatars - rows.malformed
    yield* Console.log(`users: ${rows.avatars} avatars, ${rows.malformed} malformed`)
    if (nobodies > 0) {
      const are = nobodies === 1 ? "1 row has" : `${nobodies} rows have`
      yield* tell(new Failed("malformed", `${are} no login, or one that is no text: nobody can be found by it.`))
    }
    yield* Effect.flatMap(
      typed(look.settings),
      (settings) => Console.log(`settings: ${settings.map(([name, value]) => `${name} ${value}`).join(", ")}`)
    )
  }
)

/** What a table needs to have users in it. */
const lackOf = (columns: ReadonlyArray<string>): Failed | undefined => {
  const missing = ["login", "name", "forname"].filter((column) => !columns.includes(column))
  return missing.length === 0
    ? undefined
    : new Failed(
      "database",
      columns.length === 0
        ? "No user can be looked up: there is no table users, which effect-avatars migrate makes."
        : `No user can be looked up: the table users has no column ${missing.join(", ")}.`
    )
}

/** Fails where there is no table that may have users in it. */
export const hasTable: Effect.Effect<void, Failed | DatabaseError, SqlClient.SqlClient> = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const lack = lackOf(yield* typed(looksOf(sql).columns))
  if (lack !== undefined) {
    return yield* Effect.fail(lack)
  }
})

/** Whether no user can be added since the database cannot tell whether a login is taken: what SQLite and PostgreSQL answer then has other reasons too. */
export const lacksUniqueLogin = ({ code }: DatabaseError): Effect.Effect<boolean, never, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    if (code !== "SQLITE_ERROR" && code !== "42P10") {
      return false
    }
    const look = looksOf(yield* SqlClient.SqlClient)
    return lackOf(yield* look.columns) === undefined && (yield* look.isTable) && !(yield* look.isUnique)
  }).pipe(Effect.orElseSucceed(() => false))

interface Looks {
  readonly version: Effect.Effect<string, SqlError>
  readonly integrity: Effect.Effect<ReadonlyArray<string>, SqlError>
  readonly columns: Effect.Effect<ReadonlyArray<string>, SqlError>
  /** And no view, whose logins cannot be made unique. */
  readonly isTable: Effect.Effect<boolean, SqlError>
  readonly isUnique: Effect.Effect<boolean, SqlError>
  readonly settings: Effect.Effect<ReadonlyArray<readonly [name: string, value: unknown]>, SqlError>
}

const looksOf = (sql: SqlClient.SqlClient): Looks =>
  sql.onDialectOrElse({
    sqlite: () => sqlite(sql),
    mysql: () => mysql(sql),
    orElse: () => postgres(sql)
  })

const typed = Effect.mapError((error: SqlError) => fromSqlError(error))

/** The first column of each row. */
const first = (sql: SqlClient.SqlClient, text: string) =>
  Effect.map(sql.unsafe(text).values, (rows) => rows.map((row) => String(row[0])))

const one = (sql: SqlClient.SqlClient, text: string) => Effect.map(first(sql, text), ([value]) => value ?? "")

const sqlite = (sql: SqlClient.SqlClient): Looks => ({
  version: Effect.map(one(sql, "select sqlite_version()"), (version) => `SQLite ${version}`),
  integrity: Effect.map(first(sql, "pragma integrity_check(20)"), (lines) => lines.filter((line) => line !== "ok")),
  columns: first(sql, "select lower(name) from pragma_table_info('users')"),
  isTable: Effect.map(
    one(
      sql,
      "select count(*) from sqlite_schema where lower(name) = 'users' and type = 'table' and sql not like 'create virtual%'"
    ),
    (count) => count !== "0"
  ),
  // An integer that is the primary key has no index.
  isUnique: Effect.map(
    one(
      sql,
      `select (select group_concat(lower(name)) from pragma_table_info('users') where pk > 0) = 'login' or exists (
         select * from pragma_index_list('users') as list
         where list."unique" = 1 and list.partial = 0
           and (select group_concat(lower(name)) from pragma_index_info(list.name)) = 'login'
       )`
    ),
    (found) => found === "1"
  ),
  settings: Effect.gen(function*() {
    const names = [
      "page_size",
      "page_count",
      "encoding",
      "synchronous",
      "foreign_keys",
      "trusted_schema"
    ]
    const values = yield* Effect.forEach(names, (name) => one(sql, `pragma ${name}`))
    const { readers } = yield* (sql as unknown as SqlitePool).stats
    return [...names.map((name, i) => [name, values[i]] as const), ["readers at most", readers.max]]
  })
})

const postgres = (sql: SqlClient.SqlClient): Looks => ({
  version: Effect.map(one(sql, "select current_setting('server_version')"), (version) => `PostgreSQL ${version}`),
  // A server looks after that itself.
  integrity: Effect.succeed([]),
  columns: first(
    sql,
    "select attname from pg_attribute where attrelid = to_regclass('users') and attnum > 0 and not attisdropped order by attnum"
  ),
  isTable: Effect.map(
    one(sql, "select relkind from pg_class where oid = to_regclass('users')"),
    (kind) => /[rp]/.test(kind)
  ),
  isUnique: Effect.map(
    one(
      sql,
      `select count(*) from pg_index join pg_attribute on attrelid = indrelid and attnum = indkey[0]
       where indrelid = to_regclass('users') and indisunique and indnkeyatts = 1 and indpred is null and attname = 'login'`
    ),
    (count) => count !== "0"
  ),
  settings: Effect.map(one(sql, "select current_setting('server_encoding')"), (value) => [["encoding", value]])
})

const mysql = (sql: SqlClient.SqlClient): Looks => ({
  version: Effect.map(one(sql, "select version()"), (version) => `MariaDB or MySQL ${version}`),
  integrity: Effect.succeed([]),
  columns: first(
    sql,
    `select lower(column_name) from information_schema.columns
     where table_schema = database() and table_name = 'users' order by ordinal_position`
  ),
  isTable: Effect.succeed(true),
  isUnique: Effect.map(
    one(
      sql,
      `select count(*) from (
         select index_name from information_schema.statistics
         where table_schema = database() and table_name = 'users' and non_unique = 0
         group by index_name having count(*) = 1 and min(lower(column_name)) = 'login'
       ) as found`
    ),
    (count) => count !== "0"
  ),
  settings: Effect.map(
    one(
      sql,
      `select coalesce(engine, '') from information_schema.tables
       where table_schema = database() and table_name = 'users'`
    ),
    (engine) => [["storage engine", engine]]
  )
})

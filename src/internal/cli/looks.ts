/** What the command line asks a database about itself, in the words of each. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { SqlitePool } from "../../SqlitePool.js"

export interface Looks {
  readonly version: Effect.Effect<string, SqlError>
  readonly integrity: Effect.Effect<ReadonlyArray<string>, SqlError>
  readonly columns: Effect.Effect<ReadonlyArray<string>, SqlError>
  /** Those of a user's that change texts, such as those that look like numbers. */
  readonly unfaithful: Effect.Effect<ReadonlyArray<string>, SqlError>
  /** Rows that have no login. */
  readonly nobodies: Effect.Effect<number, SqlError>
  /** And no view, whose logins cannot be made unique. */
  readonly isTable: Effect.Effect<boolean, SqlError>
  readonly isUnique: Effect.Effect<boolean, SqlError>
  /** Where they are unique: whether each differing one may be stored. */
  readonly isExact: Effect.Effect<boolean, SqlError>
  readonly settings: Effect.Effect<ReadonlyArray<readonly [name: string, value: unknown]>, SqlError>
}

export const looksOf = (sql: SqlClient.SqlClient): Looks =>
  sql.onDialectOrElse({
    sqlite: () => sqlite(sql),
    mysql: () => mysql(sql),
    orElse: () => postgres(sql)
  })

/** The first column of each row. */
const first = (sql: SqlClient.SqlClient, text: string) =>
  Effect.map(sql.unsafe(text).values, (rows) => rows.map((row) => String(row[0])))

const one = (sql: SqlClient.SqlClient, text: string) => Effect.map(first(sql, text), ([value]) => value ?? "")

const countOf = (sql: SqlClient.SqlClient, text: string) => Effect.map(one(sql, text), Number)

const ours = "lower(name) in ('login', 'name', 'forname')"

const sqlite = (sql: SqlClient.SqlClient): Looks => ({
  version: Effect.map(one(sql, "select sqlite_version()"), (version) => `SQLite ${version}`),
  integrity: Effect.map(first(sql, "pragma integrity_check(20)"), (lines) => lines.filter((line) => line !== "ok")),
  columns: first(sql, "select lower(name) from pragma_table_info('users')"),
  // Those of numeric affinity, by the rules of https://www.sqlite.org/datatype3.html#determination_of_column_affinity
  unfaithful: first(
    sql,
    `select lower(name) || ' ' || type from pragma_table_info('users') where ${ours} and (type like '%INT%' or not (
       type = '' or type like '%CHAR%' or type like '%CLOB%' or type like '%TEXT%' or type like '%BLOB%' or upper(type) = 'ANY' and exists (
         select * from pragma_table_list('users') where strict = 1
       )
     ))`
  ),
  nobodies: countOf(sql, "select count(*) from users where typeof(login) <> 'text'"),
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
  isExact: Effect.map(
    countOf(
      sql,
      `select count(*) from pragma_index_list('users') as list where list."unique" = 1 and (
         select group_concat(lower(name) || ' ' || upper(coll)) from pragma_index_xinfo(list.name) where key = 1
       ) in ('login NOCASE', 'login RTRIM')`
    ),
    (inexact) => inexact === 0
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
  unfaithful: first(
    sql,
    `select attname || ' ' || typname from pg_attribute join pg_type on pg_type.oid = atttypid
     where attrelid = to_regclass('users') and attname in ('login', 'name', 'forname') and (typcategory = 'N' or typname = 'bpchar')`
  ),
  nobodies: countOf(sql, "select count(*) from users where login is null"),
  isTable: Effect.map(
    one(sql, "select relkind from pg_class where oid = to_regclass('users')"),
    (kind) => /[rp]/.test(kind)
  ),
  isUnique: Effect.map(
    one(
      sql,
      `select count(*) from pg_index join pg_attribute on attrelid = indrelid and attnum = indkey[0]
       where indrelid = to_regclass('users') and indisunique and indimmediate and indnkeyatts = 1 and indpred is null and attname = 'login'`
    ),
    (count) => count !== "0"
  ),
  isExact: Effect.map(
    countOf(
      sql,
      `select count(*) from pg_attribute join pg_type on pg_type.oid = atttypid join pg_collation on pg_collation.oid = attcollation
       where attrelid = to_regclass('users') and attname = 'login' and (typname = 'citext' or not collisdeterministic)`
    ),
    (inexact) => inexact === 0
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
  unfaithful: first(
    sql,
    `select concat(lower(column_name), ' ', data_type) from information_schema.columns
     where table_schema = database() and table_name = 'users' and lower(column_name) in ('login', 'name', 'forname')
       and data_type regexp '^(bit|year|decimal|numeric|float|double|[a-z]*int)$'`
  ),
  nobodies: countOf(sql, "select count(*) from users where login is null"),
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
  isExact: Effect.map(
    countOf(
      sql,
      `select count(*) from information_schema.columns
       where table_schema = database() and table_name = 'users' and lower(column_name) = 'login' and collation_name not regexp '(nopad|0900)_bin$'`
    ),
    (inexact) => inexact === 0
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

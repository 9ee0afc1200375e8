/** The table `users`, made where it is missing. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"

/**
 * One statement a dialect, which may run any number of times and in many processes at once; where the table exists, no right to create is
 * needed. There are no advisory locks, which not every engine behind these protocols has: PostgreSQL fails all but one of those who create at
 * once, even by IF NOT EXISTS, so that whoever failed looks again.
 */
export const makeTable = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError> =>
  sql.onDialectOrElse({
    pg: () => {
      const isThere = exists(sql<Found>`select to_regclass('users') is not null as found`)
      const create = sql`
        create table if not exists users (
          login text collate "C" not null primary key, name text not null, forname text not null
        )
      `
      return ensure(isThere, create)
    },
    mysql: () => {
      const isThere = exists(sql<Found>`
        select count(*) as found from information_schema.tables where table_schema = database() and table_name = 'users'
      `)
      // Each knows the other's collation by no name.
      const create = Effect.flatMap(sql<{ readonly version: string }>`select version() as version`, ([server]) => {
        const collation = /mariadb/i.test(String(server?.version)) ? "utf8mb4_nopad_bin" : "utf8mb4_0900_bin"
        return sql.unsafe(`
          create table if not exists users (
            login varchar(255) not null primary key, name longtext not null, forname longtext not null
          ) character set utf8mb4 collate ${collation}
        `)
      })
      return ensure(isThere, create)
    },
    orElse: () =>
      Effect.asVoid(sql`
        create table if not exists users (login text not null primary key, name text not null, forname text not null)
      `)
  })

interface Found {
  readonly found: boolean | number | string
}

const exists = (look: Effect.Effect<ReadonlyArray<Found>, SqlError>) =>
  Effect.map(look, ([row]) => row !== undefined && row.found !== false && Number(row.found) !== 0)

const ensure = (isThere: Effect.Effect<boolean, SqlError>, create: Effect.Effect<unknown, SqlError>) =>
  Effect.flatMap(
    isThere,
    (found) =>
      found ?
        Effect.void :
        Effect.catchAll(Effect.asVoid(create), (error) =>
          Effect.flatMap(Effect.orElseSucceed(isThere, () => false), (found) =>
            found ? Effect.void : Effect.fail(error)))
  )

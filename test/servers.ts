/** The servers that the suites run on: those of TEST_POSTGRES_URL and TEST_MYSQL_URL, in databases of the tests' own. */
import { Reactivity } from "@effect/experimental"
import { SqlClient, SqlError } from "@effect/sql"
import { MysqlClient } from "@effect/sql-mysql2"
import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import { AvatarRepository, Database, DatabaseError } from "effect-avatars"
import { Context, Effect, Layer, Redacted, type Scope } from "effect"
import { randomUUID } from "node:crypto"

export interface Server {
  readonly name: string
  readonly url: string
  /** Why it cannot be tested here. */
  readonly missing: string | undefined
  /** Somebody who may do everything there, by the stock client. */
  readonly admin: Effect.Effect<SqlClient.SqlClient, never, Scope.Scope>
  /** The same in the database of a URL. */
  readonly adminOf: (url: string) => Effect.Effect<SqlClient.SqlClient, never, Scope.Scope>
  readonly create: (database: string) => string
  readonly drop: (database: string) => string
}

const server = (
  name: string,
  variable: string,
  make: (url: Redacted.Redacted) => Effect.Effect<SqlClient.SqlClient, unknown, Scope.Scope | Reactivity.Reactivity>,
  statements: Pick<Server, "create" | "drop">
): Server => {
  const url = process.env[variable]
  const adminOf = (url: string) => make(Redacted.make(url)).pipe(Effect.provide(Reactivity.layer), Effect.orDie)
  return {
    name,
    url: url ?? "",
    missing: url === undefined ? `${variable} names no server` : undefined,
    admin: adminOf(url ?? ""),
    adminOf,
    ...statements
  }
}

export const postgres = server("PostgreSQL", "TEST_POSTGRES_URL", (url) => PgClient.make({ url, maxConnections: 2 }), {
  create: (database) => `create database ${database} template template0`,
  drop: (database) => `drop database ${database} with (force)`
})

export const mariadb = server("MariaDB", "TEST_MYSQL_URL", (url) => MysqlClient.make({ url, maxConnections: 2 }), {
  create: (database) => `create database ${database}`,
  drop: (database) => `drop database ${database}`
})

export const servers: ReadonlyArray<Server> = [postgres, mariadb]

/** The URL of an empty database that goes with the scope. */
export const temporaryDatabase = (server: Server): Effect.Effect<string, never, Scope.Scope> =>
  Effect.gen(function*() {
    const database = `avatars_${randomUUID().replaceAll("-", "")}`
    const run = (statement: string) =>
      Effect.scoped(Effect.flatMap(server.admin, (sql) => Effect.orDie(sql.unsafe(statement).unprepared)))
    yield* Effect.acquireRelease(run(server.create(database)), () => run(server.drop(database)))
    const url = new URL(server.url)
    url.pathname = `/${database}`
    return url.href
  })

/** A URL with another user, host or options. */
export const changed = (url: string, change: (parts: URL) => void): string => {
  const parts = new URL(url)
  change(parts)
  return parts.href
}

export const openUrl = (url: string) =>
  Effect.map(
    Layer.build(Layer.fresh(Database.layer(url))),
    (context) => context.unsafeMap.get(SqlClient.SqlClient.key) as SqlClient.SqlClient
  )

export const repositoryOver = (sql: SqlClient.SqlClient) =>
  Effect.provideService(AvatarRepository.make, SqlClient.SqlClient, sql)

/** A test on an empty database of a server. */
export const claimOnServer = (server: Server) =>
(
  name: string,
  body: (url: string) => Effect.Effect<void, unknown, Scope.Scope>,
  timeout?: number
) =>
  it.scopedLive(
    name,
    (context) => {
      context.skip(server.missing !== undefined, server.missing)
      return Effect.flatMap(temporaryDatabase(server), body)
    },
    timeout
  )

export const withOptions = (url: string, options: string) => changed(url, (parts) => parts.search = options)

/** What a statement failed with, as data. */
export const reason = <A, E>(effect: Effect.Effect<A, E | SqlError.SqlError>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.instanceOf(error, SqlError.SqlError)
    return DatabaseError.fromSqlError(error as SqlError.SqlError)
  })

/** The connections of others than oneself to the database of a URL. */
export const connections = (server: Server, url: string) =>
  Effect.flatMap(server.admin, (sql) => {
    const database = new URL(url).pathname.slice(1)
    const rows = server === postgres
      ? sql<{ id: number }>`select pid as id from pg_stat_activity where datname = ${database}`
      : sql<{ id: number }>`select id from information_schema.processlist where db = ${database}`
    return Effect.map(rows, (rows) => rows.map(({ id }) => id))
  })

/** Outside of every transaction: a stock client would run in that of another client. */
export const kill = (server: Server, ids: ReadonlyArray<number>) =>
  Effect.flatMap(server.admin, (sql) =>
    Effect.forEach(
      ids,
      (id) => server === postgres ? sql`select pg_terminate_backend(${id})` : sql.unsafe(`kill ${id}`)
    )).pipe(Effect.scoped, Effect.mapInputContext((context: Context.Context<never>) => Context.pick()(context)))

export const identity = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql.unsafe<{ id: number }>(sql.onDialectOrElse({
      pg: () => "select pg_backend_pid() as id",
      orElse: () => "select connection_id() as id"
    })),
    (rows) => Number(rows[0]!.id)
  )

export const sleep = (server: Server, seconds: number) =>
  server === postgres ? `select pg_sleep(${seconds})` : `select sleep(${seconds})`

export const names = (sql: SqlClient.SqlClient) =>
  Effect.map(sql<{ login: string }>`select login from users order by login`, (rows) => rows.map(({ login }) => login))

/** The servers that the suites run on: those of TEST_POSTGRES_URL and TEST_MYSQL_URL, in databases of the tests' own. */
import { Reactivity } from "@effect/experimental"
import { SqlClient } from "@effect/sql"
import { MysqlClient } from "@effect/sql-mysql2"
import { PgClient } from "@effect/sql-pg"
import { it } from "@effect/vitest"
import { AvatarRepository, Database } from "effect-avatars"
import { Effect, Layer, Redacted, type Scope } from "effect"
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

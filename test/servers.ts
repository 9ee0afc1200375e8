/** The servers that the suites run on, one of each engine for the whole run, in which every test has a database of its own. */
import { Reactivity } from "@effect/experimental"
import { type SqlClient, SqlError } from "@effect/sql"
import { assert, it } from "@effect/vitest"
import { DatabaseError } from "effect-avatars"
import { Context, Effect, type Scope } from "effect"
import { inject } from "vitest"
import { type Engine, engines, openStock, temporaryDatabaseIn } from "./engines.js"

export { openUrl, repositoryOver } from "./engines.js"

/** What `globalSetup` gives to each file of tests: by engine the URL of a server, or why there is none. */
export type Provided = Record<Engine["name"], { readonly url: string } | { readonly missing: string }>

declare module "vitest" {
  interface ProvidedContext {
    readonly servers: Provided
  }
}

export interface Server {
  readonly name: Engine["name"]
  readonly url: string
  /** Why it cannot be tested here. */
  readonly missing: string | undefined
  /** Somebody who may do everything there, by the stock client. */
  readonly admin: Effect.Effect<SqlClient.SqlClient, never, Scope.Scope>
  /** The same in the database of a URL. */
  readonly adminOf: (url: string) => Effect.Effect<SqlClient.SqlClient, never, Scope.Scope>
}

const adminOf = (url: string) => openStock(url).pipe(Effect.provide(Reactivity.layer), Effect.orDie)

export const servers: ReadonlyArray<Server> = engines.map(({ name }) => {
  const server = inject("servers")[name]
  const url = "url" in server ? server.url : ""
  return {
    name,
    url,
    missing: "missing" in server ? server.missing : undefined,
    admin: adminOf(url),
    adminOf
  }
})

export const [postgres, mariadb] = servers as [Server, Server]

/** The URL of an empty database that goes with the scope. */
export const temporaryDatabase = (server: Server): Effect.Effect<string, never, Scope.Scope> =>
  temporaryDatabaseIn(server.url)

/** A URL with another user, host or options. */
export const changed = (url: string, change: (parts: URL) => void): string => {
  const parts = new URL(url)
  change(parts)
  return parts.href
}

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
const outside = Effect.mapInputContext((context: Context.Context<never>) => Context.pick()(context))

export const kill = (server: Server, ids: ReadonlyArray<number>) =>
  Effect.flatMap(server.admin, (sql) =>
    Effect.forEach(
      ids,
      (id) => server === postgres ? sql`select pg_terminate_backend(${id})` : sql.unsafe(`kill ${id}`)
    )).pipe(Effect.scoped, outside)

/** All connections of others to the database of a URL. */
export const killAll = (server: Server, url: string) =>
  outside(Effect.flatMap(Effect.scoped(connections(server, url)), (ids) => Effect.asVoid(kill(server, ids))))

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

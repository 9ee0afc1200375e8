/** A database in a server that a test may kill, as the tests of such faults open it. */
import type { SqlClient } from "@effect/sql"
import type { AvatarRepository, DatabaseError } from "effect-avatars"
import { Effect, type Scope } from "effect"
import { type Engine, execute, openUrl, repositoryOver, type Server } from "./engines.js"

export interface Db {
  readonly server: Server
  /** The database's own URL, with the options. */
  readonly url: string
  readonly sql: SqlClient.SqlClient
  readonly users: AvatarRepository.Service
  /** Closes all connections that the database has, as an administrator does. */
  readonly closeConnections: Effect.Effect<void>
  readonly closeConnection: (id: number) => Effect.Effect<void>
}

/** A client of the database of a URL, and a repository over it. */
export const connect = (
  url: string
): Effect.Effect<Pick<Db, "sql" | "users">, DatabaseError.DatabaseError, Scope.Scope> =>
  Effect.gen(function*() {
    const sql = yield* openUrl(url)
    return { sql, users: yield* repositoryOver(sql) }
  })

export const open = (
  engine: Engine,
  options: { readonly url?: string; readonly args?: ReadonlyArray<string> } = {}
): Effect.Effect<Db, DatabaseError.DatabaseError, Scope.Scope> =>
  Effect.gen(function*() {
    const server = yield* engine.start({ durable: true, args: options.args ?? [] })
    const database = yield* server.database
    const url = `${database}?${options.url ?? ""}`
    const close = (id: number) => Effect.ignore(execute(server.url, engine.close(id)))
    const closeConnections = execute<{ readonly id: number }>(
      server.url,
      engine.connectionsOf(new URL(database).pathname.slice(1))
    ).pipe(
      Effect.flatMap((found) => Effect.forEach(found, ({ id }) => close(id), { discard: true })),
      Effect.orDie
    )
    return { server, url, ...(yield* connect(url)), closeConnections, closeConnection: close }
  })

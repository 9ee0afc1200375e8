/** The servers that the suites run on, one of each engine for the whole run, in which every test has a database of its own. */
import { Reactivity } from "@effect/experimental"
import type { SqlClient } from "@effect/sql"
import { it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
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

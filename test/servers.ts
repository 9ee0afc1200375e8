/** The servers that the suites run on, one of each engine for the whole run, in which every test has a database of its own. */
import { Reactivity } from "@effect/experimental"
import type { SqlClient } from "@effect/sql"
import { Effect, type Scope } from "effect"
import { inject } from "vitest"
import { type Engine, engines, openStock, temporaryDatabaseIn } from "./engines.js"

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
}

export const servers: ReadonlyArray<Server> = engines.map(({ name }) => {
  const server = inject("servers")[name]
  const url = "url" in server ? server.url : ""
  return {
    name,
    url,
    missing: "missing" in server ? server.missing : undefined,
    admin: openStock(url).pipe(Effect.provide(Reactivity.layer), Effect.orDie)
  }
})

export const [postgres, mariadb] = servers as [Server, Server]

/** The URL of an empty database that goes with the scope. */
export const temporaryDatabase = (server: Server): Effect.Effect<string, never, Scope.Scope> =>
  temporaryDatabaseIn(server.url)

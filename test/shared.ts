/** The servers of this run of the tests, in which every test has a database of its own. */
import { Effect, type Scope } from "effect"
import { inject } from "vitest"
import { database, type Engine, engines } from "./servers.js"

/** What `globalSetup` gives to each file of tests: by engine the URL of a server, or why there is none. */
export type Provided = Record<Engine["name"], { readonly url: string } | { readonly absent: string }>

declare module "vitest" {
  interface ProvidedContext {
    readonly servers: Provided
  }
}

export interface Shared {
  readonly name: Engine["name"]
  /** Why there is no such server here. */
  readonly absent: string | undefined
  /** A new database, dropped with the scope: its URL. */
  readonly database: Effect.Effect<string, never, Scope.Scope>
}

export const shared: ReadonlyArray<Shared> = engines.map(({ name }) => {
  const server = inject("servers")[name]
  return "url" in server
    ? { name, absent: undefined, database: database(server.url) }
    : { name, absent: server.absent, database: Effect.dieMessage(server.absent) }
})

/** Before a run of the tests: the bundle of what was compiled last, and one server of each engine, which stops after them. */
import { Effect, Exit, Scope } from "effect"
import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { TestProject } from "vitest/node"
import { type Engine, engines } from "./engines.js"
import type { Provided } from "./servers.js"

const provide = (engine: Engine): Effect.Effect<Provided[Engine["name"]], never, Scope.Scope> => {
  const url = process.env[engine.variable]
  return url !== undefined
    ? Effect.succeed({ url })
    : engine.program === undefined
    ? Effect.succeed({ missing: `${engine.name} is not installed, and ${engine.variable} names no server` })
    : Effect.map(engine.start({ durable: false }), ({ url }) => ({ url }))
}

export default async function(project: TestProject) {
  execFileSync(process.execPath, [fileURLToPath(new URL("../bundle.mjs", import.meta.url))])
  const scope = Effect.runSync(Scope.make())
  const started = Effect.forEach(engines, (engine) => provide(engine), { concurrency: "unbounded" })
  const servers = await Effect.runPromise(Scope.extend(started, scope))
  project.provide("servers", Object.fromEntries(engines.map(({ name }, i) => [name, servers[i]])) as Provided)
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}

/** Opens a pool for a scope, and says in a sentence why where it cannot be opened. */
import type { SqlError } from "@effect/sql/SqlError"
import Sqlite from "better-sqlite3"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { fromUnknown } from "../../DatabaseError.js"
import { poolError } from "./errors.js"
import { Core, isMemory } from "./pool.js"
import type { Settings } from "./pool.js"

export const open = (settings: Settings): Effect.Effect<Core, SqlError, Scope.Scope> =>
  Effect.gen(function*() {
    const runFork = Runtime.runFork(yield* Effect.runtime())
    const { filename } = settings
    const wrapped = (thrown: unknown) => {
      const option = typeof thrown === "object" && thrown !== null && "option" in thrown
        ? ` with ${String(thrown.option)}`
        : ""
      const subject = `The database '${filename}' could not be opened${option}`
      const error = fromUnknown(thrown, { operation: "connect", subject })
      const message = error === thrown ? `${subject}: ${error.message}` : error.message
      return poolError(error.reason, "connect", message, error.outcome, error.code)
    }
    if (!isMemory(filename)) {
      yield* Effect.tryPromise({
        try: () => fs.stat(settings.readonly ? filename : path.dirname(filename)),
        catch: wrapped
      })
    }
    // A driver that only threads had loaded could crash the process when one of them ends.
    yield* Effect.try({ try: () => new Sqlite(":memory:").close(), catch: wrapped })
    const core = new Core(settings, (role, why) => {
      const next = isMemory(filename) ? "and its database with it" : "and is replaced"
      runFork(Effect.logWarning(`A ${role} thread of the pool '${settings.poolName}' ended ${next}: ${why}`))
    })
    yield* Effect.addFinalizer(() =>
      Effect.flatMap(Effect.promise(() => core.close()), (left) =>
        left === 0 ? Effect.void : Effect.logWarning(
          `The pool '${settings.poolName}' was closed, but ${left} of its threads run a statement that does not end; ` +
            `the process can only be ended by a signal.`
        ))
    )
    return yield* Effect.promise(() => core.start()).pipe(
      Effect.flatMap((error) => error === undefined ? Effect.succeed(core) : Effect.fail(wrapped(error.cause))),
      // The scope may last on.
      Effect.onError(() => Effect.promise(() => core.close()))
    )
  })

/** What every URL of a database must do: it is understood, or refused by a `DatabaseError` that shows nothing of it. */
import { Cause, Exit, Option } from "effect"
import type { Effect } from "effect"
import { Effect as Run } from "effect"
import * as assert from "node:assert/strict"
import { DatabaseError } from "../../../src/DatabaseError.js"

/** Stands in each URL where its password does. */
export const secret = "s3cr3t"

/** What was understood. */
export const understood = <A>(parsing: Effect.Effect<A, DatabaseError>): A | undefined => {
  const exit = Run.runSyncExit(parsing)
  if (Exit.isSuccess(exit)) {
    return exit.value
  }
  const error = Option.getOrUndefined(Cause.failureOption(exit.cause))
  assert.ok(error instanceof DatabaseError, Cause.pretty(exit.cause))
  assert.match(error.message, /^The database URL cannot be used: [^\n]*\.$/)
  assert.equal(JSON.stringify(error).includes(secret), false, "it shows the password")
  return undefined
}

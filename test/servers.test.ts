import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execute } from "./servers.js"
import { shared } from "./shared.js"

for (const { absent, database, name } of shared) {
  describe(`a test's database in ${name}`, () => {
    it.scopedLive("is its own, and goes with its scope", (ctx) =>
      Effect.gen(function*() {
        ctx.skip(absent !== undefined, absent)
        const url = yield* database
        const gone = yield* Effect.scoped(Effect.tap(database, (other) => execute(other, "create table t (a int)")))
        assert.notStrictEqual(url, gone)
        yield* execute(url, "create table t (a int)")
        yield* Effect.flip(execute(gone, "select 1"))
      }))
  })
}

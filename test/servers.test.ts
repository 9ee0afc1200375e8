import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execute } from "./engines.js"
import { servers, temporaryDatabase } from "./servers.js"

for (const server of servers) {
  describe(`a test's database in ${server.name}`, () => {
    it.scopedLive("is its own, and goes with its scope", (ctx) =>
      Effect.gen(function*() {
        ctx.skip(server.missing !== undefined, server.missing)
        const url = yield* temporaryDatabase(server)
        const gone = yield* Effect.scoped(
          Effect.tap(temporaryDatabase(server), (other) => execute(other, "create table t (a int)"))
        )
        assert.notStrictEqual(url, gone)
        yield* execute(url, "create table t (a int)")
        yield* Effect.flip(execute(gone, "select 1"))
      }))
  })
}

import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { engines } from "./engines.js"
import { type Db, open } from "./faults.js"
import { assertKept, show, underLoad } from "./load.js"

const load = { writers: 16, readers: 16 }

for (const engine of engines) {
  describe(`${engine.name} under load`, () => {
    const claim = (name: string, body: (db: Db) => Effect.Effect<void, unknown, Scope.Scope>, url = "") =>
      it.scopedLive(name, (ctx) => {
        ctx.skip(engine.program === undefined, `${engine.name} is not installed`)
        return Effect.flatMap(open(engine, { url }), body)
      })

    claim(
      "that is killed with -9 and started again, five times, loses nothing; all are told meanwhile",
      (db) =>
        Effect.gen(function*() {
          for (let round = 1; round <= 5; round++) {
            const told = yield* underLoad(
              db.users,
              { ...load, prefix: `round${round}` },
              (everybodyIsTold) =>
                db.server.kill.pipe(Effect.zipRight(everybodyIsTold), Effect.zipRight(db.server.start))
            )
            show(`${engine.name} killed for the ${round}. time`, told)
            assert.isAbove(told.writes.failures.length, 0)
            yield* assertKept(db.users, told)
          }
        })
    )

    claim(
      "that is stopped for a second goes on with everything that it had",
      ({ server, users }) =>
        Effect.gen(function*() {
          const told = yield* underLoad(
            users,
            { ...load, prefix: "stopped" },
            () => stopped(server, Effect.sleep("1 second"))
          )
          show(`${engine.name} stopped for a second`, told)
          assert.deepStrictEqual([told.writes.failures, told.lookups.failures], [[], []])
          yield* assertKept(users, told)
        })
    )

    claim(
      "that answers no more lets all its callers know, and serves them when it goes on",
      ({ server, users }) =>
        Effect.gen(function*() {
          const told = yield* underLoad(
            users,
            { ...load, prefix: "silent" },
            (everybodyIsTold) => stopped(server, everybodyIsTold)
          )
          show(`${engine.name} stopped until all know`, told)
          assert.isAbove(told.writes.failures.length, 0)
          assert.isAbove(told.lookups.failures.length, 0)
          yield* assertKept(users, told)
        })
    )

    claim(
      "whose connections an administrator closes again and again loses nothing",
      ({ closeConnections, users }) =>
        Effect.gen(function*() {
          const told = yield* underLoad(
            users,
            { ...load, prefix: "closed" },
            (everybodyIsTold) => Effect.repeatN(Effect.zipRight(closeConnections, everybodyIsTold), 19)
          )
          show(`${engine.name} with its connections closed 20 times`, told)
          assert.isAbove(told.writes.failures.length, 0)
          yield* assertKept(users, told)
        })
    )
  })
}

const stopped = (server: Db["server"], meanwhile: Effect.Effect<void>) =>
  server.freeze.pipe(Effect.zipRight(meanwhile), Effect.ensuring(server.thaw))

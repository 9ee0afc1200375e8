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
      "that is killed with -9 and started again, five times, loses nothing, and all know while it is dead",
      (db) =>
        Effect.gen(function*() {
          for (const round of [1, 2, 3, 4, 5]) {
            const told = yield* underLoad(
              db.users,
              { ...load, prefix: `round${round}` },
              (everybody) => db.server.kill.pipe(Effect.zipRight(everybody("failed")), Effect.zipRight(db.server.start))
            )
            show(`${engine.name} killed, round ${round}`, told)
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
            (everybody) => stopped(server, everybody("failed"))
          )
          show(`${engine.name} stopped until all know`, told)
          yield* assertKept(users, told)
        }),
      "connectTimeout=1 second&acquireTimeout=1 second&statementTimeout=1 second"
    )

    claim(
      "whose connections an administrator closes 20 times loses nothing",
      ({ closeConnections, users }) =>
        Effect.gen(function*() {
          const told = yield* underLoad(
            users,
            { ...load, prefix: "closed" },
            (everybody) => Effect.repeatN(Effect.zipRight(closeConnections, everybody("told")), 19)
          )
          show(`${engine.name} with its connections closed`, told)
          assert.isAbove(told.writes.failures.length, 0)
          yield* assertKept(users, told)
        })
    )
  })
}

const stopped = (server: Db["server"], meanwhile: Effect.Effect<void>) =>
  server.freeze.pipe(Effect.zipRight(meanwhile), Effect.ensuring(server.thaw))

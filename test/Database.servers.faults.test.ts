import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { type Db, open } from "./faults.js"
import { assertKept, show, underLoad } from "./load.js"
import { engines } from "./servers.js"

const load = { writers: 16, readers: 16 }

/** Short ones, that a test can wait for. */
const timeouts = "connectTimeout=2 seconds&acquireTimeout=2 seconds&statementTimeout=3 seconds"

/** What a call may take that waits for all of them, and that tries again (ms). */
const longestCall = 12_000

for (const engine of engines) {
  describe(`${engine.name} under load`, () => {
    const claim = (name: string, body: (db: Db) => Effect.Effect<void, unknown, Scope.Scope>) =>
      it.scopedLive(name, (ctx) => {
        ctx.skip(engine.program === undefined, `${engine.name} is not installed`)
        return Effect.flatMap(open(engine, { url: timeouts }), body)
      })

    claim(
      "that is killed with -9 and started again, five times, loses no acknowledged write",
      ({ server, users }) =>
        Effect.gen(function*() {
          for (let round = 0; round < 5; round++) {
            const told = yield* underLoad(
              users,
              { ...load, prefix: `round${round}` },
              Effect.zipRight(server.kill, server.start)
            )
            show(`${engine.name} killed, round ${round}`, told)
            assert.isAbove(told.writeFailures.length, 0)
            yield* assertKept(users, told)
            assert.isBelow(told.longestCall, longestCall)
          }
        })
    )

    claim(
      "that is stopped for a second goes on with everything that it had",
      ({ server, users }) =>
        Effect.gen(function*() {
          const told = yield* underLoad(users, { ...load, prefix: "stopped" }, stopped(server, 1))
          show(`${engine.name} stopped for 1 s`, told)
          assert.deepStrictEqual([told.writeFailures, told.lookupFailures], [[], []])
          yield* assertKept(users, told)
        })
    )

    claim("that is silent for longer than a statement may take fails its callers typed, and serves them again", (
      { server, users }
    ) =>
      Effect.gen(function*() {
        const told = yield* underLoad(users, { ...load, prefix: "silent" }, stopped(server, 20))
        show(`${engine.name} stopped for 20 s`, told)
        assert.isAbove(told.lookupFailures.length, 0)
        yield* assertKept(users, told)
        assert.isBelow(told.longestCall, longestCall)
      }))

    claim("whose connections an administrator closes again and again loses no acknowledged write", (
      { closeConnections, users }
    ) =>
      Effect.gen(function*() {
        const closed = Effect.repeatN(Effect.zipRight(closeConnections, Effect.sleep("50 millis")), 19)
        const told = yield* underLoad(users, { ...load, prefix: "closed" }, closed)
        show(`${engine.name} with connections closed`, told)
        yield* assertKept(users, told)
        assert.isBelow(told.longestCall, longestCall)
      }))
  })
}

const stopped = (server: Db["server"], seconds: number) =>
  server.freeze.pipe(Effect.zipRight(Effect.sleep(seconds * 1_000)), Effect.ensuring(server.thaw))

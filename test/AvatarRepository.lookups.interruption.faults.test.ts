/** An interrupted lookup harms no other, whenever it is interrupted and whoever asked first. */
import { assert, describe } from "@effect/vitest"
import { Effect, Exit, Fiber, FiberId } from "effect"
import { ask, atOnce, claimOn, clients, fill, login, nameIn, numbers, turns, until } from "./lookups.js"

/** Which of 20 askers are interrupted. */
const cases: ReadonlyArray<readonly [name: string, isInterrupted: (i: number) => boolean]> = [
  ["the first", (i) => i === 0],
  ["the last", (i) => i === 19],
  ["every other", (i) => i % 2 === 0],
  ["all but the first", (i) => i > 0],
  ["all but the last", (i) => i < 19],
  ["all", () => true]
]

for (const client of clients) {
  const claim = claimOn(client)

  describe(`of 20 lookups on ${client.name}`, () => {
    for (const [which, isInterrupted] of cases) {
      for (const logins of ["equal", "different"]) {
        const nameOf = (i: number) => logins === "equal" ? "user0" : `user${i}`
        const left = numbers(20).filter((i) => !isInterrupted(i))
        const expected = left.map((i) => `Name of ${nameOf(i)}`)

        claim(`of ${logins} logins ${which} may be interrupted before they leave`, function*({ sql, users }) {
          yield* fill(sql, 20)
          const fibers = yield* atOnce(numbers(20).map((i) => ask(users, nameOf(i)))).pipe(
            // In the same turn of the event loop.
            Effect.tap((fibers) => Effect.sync(() => fibers.filter((_, i) => isInterrupted(i)).forEach(interruptNow)))
          )
          assert.deepStrictEqual(yield* Fiber.joinAll(fibers.filter((_, i) => !isInterrupted(i))), expected)
          yield* settle(fibers)
          assert.strictEqual(yield* ask(users, "user0"), "Name of user0")
        })

        claim(`of ${logins} logins ${which} may be interrupted while the statement runs`, function*({ observed, sql }) {
          yield* fill(sql, 20)
          const gate = yield* Effect.makeLatch(false)
          observed.before = () => gate.await
          const fibers = yield* atOnce(numbers(20).map((i) => ask(observed.users, nameOf(i))))
          yield* until(() => observed.sent.length > 0)
          yield* turns(1)
          // Its caller does not wait for the statement.
          yield* Fiber.interruptAll(fibers.filter((_, i) => isInterrupted(i)))
          yield* gate.open
          assert.deepStrictEqual(yield* Fiber.joinAll(fibers.filter((_, i) => !isInterrupted(i))), expected)
          assert.strictEqual(yield* ask(observed.users, "user0"), "Name of user0")
        })
      }
    }
  })

  describe(`an interrupted lookup on ${client.name}`, () => {
    claim("harms none of those that wait with it while others are under way", function*({ observed, sql }) {
      yield* fill(sql, 400)
      const gate = yield* Effect.makeLatch(false)
      observed.before = () => gate.await
      const fibers: Array<Fiber.RuntimeFiber<string>> = []
      for (const i of numbers(400)) {
        fibers.push(...(yield* atOnce([ask(observed.users, `user${i >> 1}`)])))
        yield* i < 100 ? turns(0) : Effect.void
      }
      yield* Fiber.interruptAll(fibers.filter((_, i) => i % 3 === 0))
      yield* gate.open
      const others = fibers.filter((_, i) => i % 3 !== 0)
      const expected = numbers(400).filter((i) => i % 3 !== 0).map((i) => `Name of user${i >> 1}`)
      assert.deepStrictEqual(yield* Fiber.joinAll(others), expected)
    })

    claim("leaves nothing behind that keeps later ones waiting, though its statement never ends", function*({
      observed,
      sql
    }) {
      yield* fill(sql, 1)
      observed.before = () => Effect.never
      for (let round = 0; round < 10; round++) {
        const fibers: Array<Fiber.RuntimeFiber<string>> = []
        for (const i of numbers(40)) {
          fibers.push(...(yield* atOnce([ask(observed.users, `user${i}`)])))
          yield* turns(0)
        }
        yield* Fiber.interruptAll(fibers)
      }
      observed.before = () => Effect.void
      assert.strictEqual(yield* ask(observed.users, "user0"), "Name of user0")
    })

    claim("in bulk harms no single one beside it, and the other way round", function*({ observed, sql }) {
      yield* fill(sql, 100)
      const names = numbers(100).map((i) => login(`user${i}`))
      for (const isBulkInterrupted of [true, false]) {
        const gate = yield* Effect.makeLatch(false)
        observed.before = () => gate.await
        const [bulk] = yield* atOnce([observed.users.getUserAvatars(names)])
        const singles = yield* atOnce(numbers(100).map((i) => ask(observed.users, `user${i}`)))
        yield* turns(1)
        yield* isBulkInterrupted ? Fiber.interrupt(bulk!) : Fiber.interruptAll(singles)
        yield* gate.open
        if (isBulkInterrupted) {
          assert.deepStrictEqual(yield* Fiber.joinAll(singles), names.map((name) => `Name of ${name}`))
        } else {
          const found = yield* Fiber.join(bulk!)
          assert.deepStrictEqual(names.map((name) => nameIn(found, name)), names.map((name) => `Name of ${name}`))
        }
      }
    })

    claim("is one of 10 000, half of which are interrupted at random moments: each other is answered right", function*({
      sql,
      users
    }) {
      yield* fill(sql, 1_000)
      let seed = 1
      const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below
      const fibers: Array<Fiber.RuntimeFiber<string>> = []
      const interrupted = new Set<number>()
      for (const i of numbers(10_000)) {
        fibers.push(...(yield* atOnce([ask(users, `user${i % 1_100}`)])))
        if (random(2) === 0) {
          const victim = random(i + 1)
          interrupted.add(victim)
          interruptNow(fibers[victim]!)
        }
        yield* random(50) === 0 ? turns(random(3)) : Effect.void
      }
      const exits = yield* settle(fibers)
      exits.forEach((exit, i) => {
        if (Exit.isSuccess(exit)) {
          assert.strictEqual(exit.value, i % 1_100 < 1_000 ? `Name of user${i % 1_100}` : "UserNotFound")
        } else {
          assert.isTrue(interrupted.has(i) && Exit.isInterrupted(exit))
        }
      })
      assert.isAbove(exits.filter(Exit.isFailure).length, 100)
      assert.strictEqual(yield* ask(users, "user0"), "Name of user0")
    })
  })
}

/** Without waiting for it. */
function interruptNow(fiber: Fiber.RuntimeFiber<unknown>) {
  fiber.unsafeInterruptAsFork(FiberId.none)
}

function settle<A, E>(fibers: ReadonlyArray<Fiber.RuntimeFiber<A, E>>) {
  return Effect.forEach(fibers, Fiber.await)
}

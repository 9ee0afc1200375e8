/** That many lookups and creates at once leave as few statements, none above an engine's limit. */
import { assert, describe } from "@effect/vitest"
import { Effect } from "effect"
import { ask, avatar, claimOn, clients, concurrently, did, isInsert, login, loginsIn, numbers } from "./lookups.js"

/** SQLite's limit; a statement above it fails. */
const maxParameters = 32_766

for (const client of clients) {
  const claim = claimOn(client)

  describe(`coalescing many on ${client.name}`, () => {
    claim("sends twice the lookups as at most twice the statements, each below the engine's limit", function*({
      observed
    }) {
      const statementsOf = (count: number) =>
        Effect.map(concurrently(numbers(count), (i) => ask(observed.users, `user${i}`)), () => {
          const sent = observed.sent.splice(0)
          sent.forEach(({ params }) => assert.isAtMost(params.length, maxParameters))
          assert.lengthOf(loginsIn(sent), count)
          return sent.length
        })
      const [half, whole] = [yield* statementsOf(10_000), yield* statementsOf(20_000)]
      assert.isAtMost(half, 200)
      assert.isAtMost(whole, 2 * half + 4)
    })

    claim("sends a bulk of 20 000 as at most 100 statements, and each login once", function*({ observed }) {
      const names = numbers(20_000).map((i) => login(`user${i}`))
      yield* observed.users.getUserAvatars([...names, ...names])
      assert.isAtMost(observed.sent.length, 100)
      assert.lengthOf(loginsIn(observed.sent), 20_000)
    })

    claim("sends 5 000 creates at once as at most 200 statements, each below the engine's limit", function*({
      observed,
      sql
    }) {
      const answers = yield* concurrently(numbers(5_000), (i) => did(observed.users.create(avatar(`user${i}`))))
      assert.deepStrictEqual(new Set(answers), new Set(["done"]))
      const inserts = observed.sent.filter(isInsert)
      assert.isAtMost(inserts.length, 200)
      inserts.forEach(({ params }) => assert.isAtMost(params.length, maxParameters))
      assert.lengthOf(yield* sql`select login from users`, 5_000)
    })
  })
}

/** Coalesced lookups beside and inside transactions: each sees what its own transaction has written, and nobody else's. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Runtime } from "effect"

import { AvatarRepository, SqlitePool } from "effect-avatars"
import { Reactivity } from "@effect/experimental"
import { SqlClient } from "@effect/sql"
import type { Db } from "./lookups.js"
import {
  ask,
  avatar,
  claimOn,
  clients,
  concurrently,
  did,
  fill,
  isSelect,
  login,
  nameIn,
  numbers,
  open,
  turns
} from "./lookups.js"

const [pool] = clients

for (const client of clients) {
  const claim = claimOn(client)

  describe(`a lookup in a transaction on ${client.name}`, () => {
    claim("sees its uncommitted writes, also many at once and in bulk", function*({ sql, users }) {
      yield* fill(sql, 50)
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql`update users set name = 'new'`
        yield* users.create(avatar("created"))
        yield* users.remove(login("user0"))
        const answers = yield* concurrently(numbers(100), (i) => ask(users, `user${i}`))
        assert.deepStrictEqual(answers, numbers(100).map((i) => i > 0 && i < 50 ? "new" : "UserNotFound"))
        assert.strictEqual(yield* ask(users, "created"), "Name of created")
        const found = yield* users.getUserAvatars(["created", "user0", "user1"].map((text) => login(text)))
        assert.deepStrictEqual(["created", "user0", "user1"].map((text) => nameIn(found, text)), [
          "Name of created",
          undefined,
          "new"
        ])
      }))
      assert.strictEqual(yield* ask(users, "user1"), "new")
    })

    claim("is never answered with one outside of it, in 20 rounds of 64 of either", function*(db) {
      yield* db.users.create(avatar("a", "old"))
      const outside = yield* Effect.runtime()
      for (let i = 0; i < 20; i++) {
        const asked = yield* undone(db, (db) =>
          Effect.gen(function*() {
            yield* db.users.update(avatar("a", `uncommitted ${i}`))
            yield* db.users.upsert(avatar("b", `uncommitted ${i}`))
            // One inside, one outside, in turn, in one turn of the event loop.
            const inside = yield* Effect.runtime()
            const fibers = numbers(256).map((n) =>
              Runtime.runFork(n % 2 === 0 ? inside : outside)(ask(db.users, n % 4 < 2 ? "a" : "b"))
            )
            const answers = yield* Fiber.joinAll(fibers.filter((_, n) => n % 2 === 0))
            assert.deepStrictEqual(new Set(answers), new Set([`uncommitted ${i}`]))
            if (client.readsBesideTransactions) {
              yield* Fiber.joinAll(fibers.filter((_, n) => n % 2 === 1))
            }
            return fibers.filter((_, n) => n % 2 === 1)
          }))
        const answers = yield* Fiber.joinAll(asked)
        assert.deepStrictEqual(answers, numbers(128).map((n) => n % 2 === 0 ? "old" : "UserNotFound"))
      }
    })

    claim("does not wait for lookups outside, whose statements are all held", function*({ observed, sql }) {
      yield* fill(sql, 300)
      let isInside = false
      observed.before = (statement) => isSelect(statement) && !isInside ? Effect.never : Effect.void
      const held = yield* Effect.forEach(
        numbers(200),
        (i) => Effect.zipLeft(Effect.forkDaemon(ask(observed.users, `user${i}`)), turns(0))
      )
      isInside = true
      const inside = sql.withTransaction(concurrently(numbers(100), (i) => ask(observed.users, `user${i}`)))
      assert.deepStrictEqual(yield* inside, numbers(100).map((i) => `Name of user${i}`))
      yield* Fiber.interruptAll(held)
    })

    claim("sees the writes of the nested transaction that it is in, and no longer when that is undone", function*(db) {
      const { sql, users } = db
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* users.create(avatar("outer"))
        yield* undone(db, () =>
          Effect.gen(function*() {
            yield* users.create(avatar("inner"))
            yield* users.update(avatar("outer", "changed"))
            const answers = yield* concurrently(["outer", "inner", "outer"], (name) => ask(users, name))
            assert.deepStrictEqual(answers, ["changed", "Name of inner", "changed"])
          }))
        const answers = yield* concurrently(["outer", "inner"], (name) => ask(users, name))
        assert.deepStrictEqual(answers, ["Name of outer", "UserNotFound"])
      }))
      assert.strictEqual(yield* ask(users, "outer"), "Name of outer")
    })

    claim("after its rollback sees nothing of it, nor after its interruption", function*(db) {
      const { sql, users } = db
      for (let i = 0; i < 50; i++) {
        yield* undone(db, () => Effect.zipRight(users.create(avatar("a")), ask(users, "a")))
        assert.strictEqual(yield* ask(users, "a"), "UserNotFound")
        const written = yield* Deferred.make<void>()
        const fiber = yield* users.create(avatar("a")).pipe(
          Effect.zipRight(ask(users, "a")),
          Effect.zipRight(Deferred.succeed(written, undefined)),
          Effect.zipRight(Effect.never),
          sql.withTransaction,
          Effect.fork
        )
        yield* Deferred.await(written)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(
          yield* concurrently(numbers(10), () => ask(users, "a")),
          numbers(10).map(() => "UserNotFound")
        )
      }
    })

    claim("that outlives it ends, answered or failed, and harms no later one", function*({ sql, users }) {
      yield* users.create(avatar("a"))
      const left = yield* sql.withTransaction(concurrently(numbers(64), () => Effect.forkDaemon(ask(users, "a"))))
      const answers = yield* Fiber.joinAll(left)
      assert.isTrue(answers.every((answer) => answer === "Name of a" || answer === "ConnectionError"))
      assert.strictEqual(yield* ask(users, "a"), "Name of a")
    })

    claim("that is interrupted harms neither the transaction nor those beside it", function*({ sql, users }) {
      yield* fill(sql, 64)
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* users.create(avatar("a"))
        for (let i = 0; i < 20; i++) {
          const fibers = yield* Effect.forEach(numbers(64), (n) => Effect.fork(ask(users, `user${n}`)))
          yield* Effect.repeatN(Effect.yieldNow(), i % 5)
          yield* Fiber.interruptAll(fibers.filter((_, n) => n % 3 === 0))
          const others = yield* Fiber.joinAll(fibers.filter((_, n) => n % 3 !== 0))
          assert.deepStrictEqual(others, numbers(64).filter((n) => n % 3 !== 0).map((n) => `Name of user${n}`))
        }
      }))
      assert.strictEqual(yield* ask(users, "a"), "Name of a")
    })

    claim(
      "fails typed where the table is gone, and lookups outside are answered afterwards",
      function*({ observed, sql }) {
        yield* fill(sql, 10)
        yield* undone({ sql, users: observed.users }, () =>
          Effect.gen(function*() {
            yield* sql`drop table users`
            const answers = yield* concurrently(
              numbers(10),
              (i) => Effect.exit(observed.users.getUserAvatar(login(`user${i}`)))
            )
            assert.isTrue(answers.every(Exit.isFailure))
            assert.strictEqual(yield* did(observed.users.create(avatar("a"))), "SqlSyntaxError")
          }))
        // The plain driver remembers that a statement did not prepare, MariaDB commits what changes the schema.
        if (client.name !== "plain driver" && client.name !== "MariaDB") {
          assert.strictEqual(yield* ask(observed.users, "user7"), "Name of user7")
        }
      }
    )
  })
}

describe("a lookup over a pool", () => {
  it.scopedLive("in a snapshot sees its moment, and beside it what was written since", () =>
    Effect.gen(function*() {
      const sql = yield* SqlitePool.make({ filename: (yield* open(pool!)).file })
      const users = yield* repositoryOver(sql)
      yield* users.create(avatar("a", "old"))
      const outside = yield* Effect.runtime()
      yield* sql.snapshot(Effect.gen(function*() {
        assert.strictEqual(yield* ask(users, "a"), "old")
        const inside = yield* Effect.runtime()
        yield* Fiber.join(Runtime.runFork(outside)(users.update(avatar("a", "new"))))
        const answers = yield* Fiber.joinAll(
          numbers(64).map((n) => Runtime.runFork(n % 2 === 0 ? inside : outside)(ask(users, "a")))
        )
        assert.deepStrictEqual(answers, numbers(64).map((n) => n % 2 === 0 ? "old" : "new"))
      }))
    }).pipe(Effect.provide(Reactivity.layer)))

  it.scopedLive("inside a transaction of another pool is answered by its own", () =>
    Effect.gen(function*() {
      const [one, other] = [yield* open(pool!), yield* open(pool!)]
      yield* other.users.create(avatar("a", "other"))
      yield* one.sql.withTransaction(Effect.gen(function*() {
        yield* one.users.create(avatar("a", "one"))
        const answers = yield* concurrently(numbers(64), (n) => ask(n % 2 === 0 ? one.users : other.users, "a"))
        assert.deepStrictEqual(answers, numbers(64).map((n) => n % 2 === 0 ? "one" : "other"))
      }))
    }))

  it.scopedLive("ends when the pool is closed with 1 000 of them and 1 000 creates in flight", () =>
    Effect.gen(function*() {
      const [asked, created] = yield* Effect.scoped(Effect.gen(function*() {
        const { sql, users } = yield* open(pool!)
        yield* fill(sql, 1_000)
        const asked = yield* Effect.forEach(numbers(1_000), (i) => Effect.forkDaemon(ask(users, `user${i}`)))
        const created = yield* Effect.forEach(
          numbers(1_000),
          (i) => Effect.forkDaemon(did(users.create(avatar(`new${i}`))))
        )
        yield* turns(1)
        return [asked, created] as const
      }))
      const answers = yield* Fiber.joinAll(asked)
      assert.isTrue(answers.every((answer, i) => answer === `Name of user${i}` || answer === "ConnectionError"))
      assert.isTrue(
        (yield* Fiber.joinAll(created)).every((answer) => answer === "done" || answer === "ConnectionError")
      )
    }))
})

const repositoryOver = (sql: SqlClient.SqlClient) =>
  Effect.provideService(AvatarRepository.make, SqlClient.SqlClient, sql)

/** Runs it in a transaction that is undone, and answers what it answered. */
const undone = <A, E>(
  db: Pick<Db, "sql" | "users">,
  body: (db: Pick<Db, "sql" | "users">) => Effect.Effect<A, E>
) =>
  Effect.gen(function*() {
    const answer = yield* Deferred.make<A, E>()
    yield* Effect.exit(
      db.sql.withTransaction(Effect.zipRight(Effect.intoDeferred(body(db), answer), Effect.fail("undo")))
    )
    return yield* Deferred.await(answer)
  })

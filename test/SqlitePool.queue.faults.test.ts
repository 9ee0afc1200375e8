import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Stream } from "effect"
import { Avatar, AvatarRepository, Database, type SqlitePool } from "effect-avatars"
import { makePool, slowSql, until } from "./pool.js"

describe("a queue with room for one", () => {
  it.scopedLive("refuses nothing that an idle connection could take: two statements at once, on readers, on the writer, in a lease", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ maxQueue: 1, minReaders: 2 })
      yield* pool`create table t (a)`
      const twice = <A, E>(call: Effect.Effect<A, E>) => Effect.all([call, call], { concurrency: "unbounded" })
      const insert = pool`insert into t values (1)`
      for (let round = 0; round < 20; round++) {
        yield* twice(pool`select 1`)
        yield* twice(insert)
        yield* pool.withTransaction(twice(insert))
        yield* twice(Effect.all([pool`select 1`, insert], { concurrency: "unbounded" }))
      }
      assert.deepStrictEqual(yield* pool`select count(*) as n from t`, [{ n: 20 * 6 }])
    }))

  it.scopedLive("refuses no lookup of an idle pool that leaves with the first batches", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ maxQueue: 1 })
      const users = yield* Effect.zipRight(Database.migrate, AvatarRepository.make).pipe(
        Effect.provideService(SqlClient.SqlClient, pool)
      )
      const lookups = Array.from({ length: 2 * 128 }, (_, i) => users.findUserAvatar(Avatar.Login.make(`user${i}`)))
      for (let round = 0; round < 20; round++) {
        yield* Effect.all(lookups, { concurrency: "unbounded" })
      }
    }))
})

describe("a reader that is kept for somebody who wants it alone", () => {
  const endless = (pool: SqlitePool.SqlitePool) =>
    pool`with recursive n(i) as (select 1 union all select i + 1 from n) select i from n where i % 1000 = 0`

  it.scopedLive("serves others again after those who waited were interrupted or timed out", () =>
    Effect.gen(function*() {
      for (const acquireTimeout of ["30 seconds", "100 millis"] as const) {
        const pool = yield* makePool({ minReaders: 2, maxReaders: 2, acquireTimeout })
        const busy = yield* Effect.forEach([1, 2], () => Effect.fork(endless(pool)))
        yield* until(pool, ({ readers }) => readers.used === 2)
        const waiting = yield* Effect.fork(pool.snapshot(Effect.void))
        yield* acquireTimeout === "100 millis" ? Fiber.await(waiting) : Effect.sleep(50)
        yield* Fiber.interruptAll([waiting, ...busy])
        yield* until(pool, ({ readers }) => readers.used === 0)
        // Of two readers one is at a long statement: the other one answers.
        const slow = yield* Effect.fork(pool.unsafe(slowSql(4_000_000)))
        yield* until(pool, ({ readers }) => readers.used === 1)
        yield* Effect.repeatN(pool`select 1`, 20)
        assert.isNull(slow.unsafePoll(), "the quick reads waited for the slow one")
        yield* Fiber.join(slow)
      }
    }))

  it.scopedLive("is another one where the first does not end its statement: neither waits for it, nor gets what is given up", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ minReaders: 2, maxReaders: 3, statementTimeout: "1 second" })
      const stuck = yield* Effect.fork(pool.unsafe(slowSql(20_000_000)))
      yield* until(pool, ({ readers }) => readers.used === 1)
      const others = yield* Effect.forEach([1, 2], () => Effect.fork(endless(pool)))
      yield* until(pool, ({ readers }) => readers.used === 3)
      // All others have work at any moment, so that none is idle unless it is kept.
      const load = yield* Effect.forEach(
        Array.from({ length: 256 }),
        () => Effect.fork(Effect.forever(Effect.ignore(pool`select 1`)))
      )
      yield* Fiber.interruptAll(others)
      const waiting = yield* Effect.fork(pool.snapshot(pool`select 1 as a`))
      const stream = yield* Effect.fork(Stream.runCount(pool`select 1`.stream))
      const abandoned = until(pool, ({ abandoned }) => abandoned === 1)
      const exits = yield* Effect.zipRight(abandoned, Effect.all([Fiber.await(waiting), Fiber.await(stream)]))
      assert.deepStrictEqual<unknown>(exits, [Exit.succeed([{ a: 1 }]), Exit.succeed(1)])
      yield* Fiber.interruptAll(load)
      yield* Fiber.await(stuck)
      yield* until(pool, ({ abandoned }) => abandoned === 0)
    }))
})

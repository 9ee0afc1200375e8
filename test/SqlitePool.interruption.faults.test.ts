import { SqlClient, type SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Chunk, Duration, Effect, Exit, Fiber, Option, Stream } from "effect"
import { Avatar, AvatarRepository, Database, type SqlitePool } from "effect-avatars"
import { makePool, slowSql, until } from "./pool.js"

describe("interrupting", () => {
  it.scopedLive("a queued statement keeps it from running, and gives its place in the queue to others", () =>
    Effect.gen(function*() {
      const pool = yield* withTable({ maxQueue: 10 })
      yield* Effect.gen(function*() {
        yield* pool.reserve
        for (let round = 0; round < 10; round++) {
          const fibers = yield* Effect.forEach([1, 2, 3, 4], (id) => Effect.fork(insert(pool, id)))
          const waiter = yield* Effect.fork(pool.withTransaction(insert(pool, 5)))
          yield* Effect.sleep("2 millis")
          assert.strictEqual((yield* pool.stats).pending, 5)
          yield* Fiber.interruptAll([...fibers, waiter])
          assert.strictEqual((yield* pool.stats).pending, 0)
        }
      }).pipe(Effect.scoped)
      yield* insert(pool, 6)
      assert.deepStrictEqual(yield* pool`select id from t`, [{ id: 6 }])
    }))

  it.scopedLive("a statement that was sent and has not begun keeps it from running, and lets its caller go at once", () =>
    Effect.gen(function*() {
      const pool = yield* withTable({})
      const slow = yield* Effect.fork(pool.unsafe(`create table slow as ${slowSql(3_000_000)}`))
      yield* until(pool, ({ writer }) => writer.used === 1)
      const fiber = yield* Effect.fork(insert(pool, 1))
      yield* Effect.sleep("10 millis")
      yield* Fiber.interrupt(fiber)
      assert.isNull(slow.unsafePoll(), "the caller waited for another's statement")
      yield* Fiber.join(slow)
      assert.deepStrictEqual(yield* pool`select id from t`, [])
    }))

  it.scopedLive("a running read lets its caller go at once, and its reader stops at the next row and serves again", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ minReaders: 2, maxReaders: 2 })
      for (let round = 0; round < 10; round++) {
        const fibers = yield* Effect.forEach([1, 2], () => Effect.fork(endless(pool)))
        yield* until(pool, ({ readers }) => readers.used === 2)
        yield* Effect.sleep("5 millis")
        const [time] = yield* Effect.timed(Fiber.interruptAll(fibers))
        assert.isBelow(Duration.toMillis(time), 100)
        yield* within(200, until(pool, ({ readers }) => readers.used === 0))
      }
      assert.deepInclude(yield* pool.stats, { deaths: 0, abandoned: 0, pending: 0 })
    }))

  it.scopedLive("reads of one message all at once stops the one that runs", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ minReaders: 1, maxReaders: 2 })
      const quick = yield* Effect.as(Effect.repeatN(pool`select 1`, 3), pool`select 1`)
      const sparse = pool`select i from (${endless(pool)}) where i % 100000 = 0`
      const fibers = yield* Effect.forEach([quick, sparse], (read) => Effect.fork(read))
      yield* Effect.yieldNow()
      yield* Effect.promise(() => Promise.resolve())
      // This thread sleeps: the first is answered, the second runs, and nobody has heard of it.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)
      yield* Fiber.interruptAll(fibers.toReversed())
      yield* within(500, until(pool, ({ readers }) => readers.used === 0))
    }))

  it.scopedLive("a read whose text was quick before stops it too", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ minReaders: 1, maxReaders: 2 })
      const some = (count: number) =>
        pool`with recursive n(i) as (select 1 union all select i + 1 from n) select i from n limit ${count}`
      yield* Effect.repeatN(some(1), 3)
      const fiber = yield* Effect.fork(some(3_000_000))
      yield* Effect.sleep("20 millis")
      yield* Fiber.interrupt(fiber)
      yield* within(100, until(pool, ({ readers }) => readers.used === 0))
    }))

  it.scopedLive("a stream of a statement that yields no row lets its caller go at once", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ minReaders: 2, maxReaders: 2 })
      const fiber = yield* Effect.fork(Stream.runDrain(pool.unsafe(slowSql(5_000_000)).stream))
      yield* until(pool, ({ readers }) => readers.leased === 1)
      yield* Effect.sleep("20 millis")
      const [time] = yield* Effect.timed(Fiber.interrupt(fiber))
      assert.isBelow(Duration.toMillis(time), 100)
      yield* until(pool, ({ readers }) => readers.leased === 0 && readers.used === 0)
    }))

  it.scopedLive("a write that has begun waits for it, and it is there", () =>
    Effect.gen(function*() {
      const pool = yield* withTable({})
      const fiber = yield* Effect.fork(pool.unsafe(`insert into t (id) ${slowSql(2_000_000)}`))
      yield* until(pool, ({ writer }) => writer.used === 1)
      yield* Effect.sleep("20 millis")
      yield* Fiber.interrupt(fiber)
      assert.deepInclude((yield* pool.stats).writer, { used: 0 })
      assert.deepStrictEqual(yield* pool`select count(*) as n from t`, [{ n: 1 }])
    }))

  it.scopedLive("half of 10 000 fibers at random loses no slot, cursor or acknowledged write, fails nobody, and mixes no answers up", () =>
    Effect.gen(function*() {
      const pool = yield* withTable({ maxReaders: 4 })
      const done = new Set<number>()
      const run = (id: number): Effect.Effect<void, SqlError.SqlError> => {
        const rows = pool<{ i: number }>`with recursive n(i) as (select 1 union all select i + 1 from n where i < 1500)
          select i + ${id} as i from n`
        const isRight = (rows: ReadonlyArray<{ readonly i: number }>) =>
          assert.isTrue(rows.length === 1_500 && rows[1_499]!.i === id + 1_500, "an answer to another's question")
        const isOwn = (rows: ReadonlyArray<unknown>) => assert.deepStrictEqual(rows, [{ id }])
        const store = insert(pool, id)
        const isDone = Effect.sync(() => void done.add(id))
        switch (id % 40) {
          case 0:
            return Effect.zipRight(pool.withTransaction(Effect.zipRight(store, insert(pool, -id - 1))), isDone)
          case 1:
            return Effect.map(rows, isRight)
          case 2:
            return Effect.map(Stream.runCollect(rows.stream), (rows) => isRight(Chunk.toReadonlyArray(rows)))
          case 3:
            return Effect.zipRight(Effect.map(pool`insert into t values (${id}) returning id`, isOwn), isDone)
          case 4: {
            const children = [insert(pool, -id - 1), Effect.zipRight(insert(pool, -id - 2), Effect.fail("undone"))]
            const nested = Effect.forEach(children, (child) => Effect.exit(pool.withTransaction(child)), {
              concurrency: "unbounded"
            })
            return Effect.zipRight(pool.withTransaction(Effect.zipRight(store, nested)), isDone)
          }
          case 5:
            return pool.snapshot(
              Effect.zipRight(Effect.map(rows, isRight), Effect.map(pool`select ${id} as id`, isOwn))
            )
          case 6:
            // Its consumer is slow.
            return Effect.map(
              Stream.runCollect(Stream.tap(rows.stream, ({ i }) => i % 500 === 0 ? Effect.sleep(1) : Effect.void)),
              (rows) => isRight(Chunk.toReadonlyArray(rows))
            )
          case 7:
            return Effect.zipRight(
              Effect.scoped(
                Effect.flatMap(
                  pool.reserve,
                  (one) => one.execute("insert into t values (?) returning id", [id], undefined)
                )
              ).pipe(Effect.map(isOwn)),
              isDone
            )
          default:
            return id % 2 === 0 ? Effect.zipRight(store, isDone) : Effect.map(pool`select ${id} as id`, isOwn)
        }
      }
      const fibers: Array<Fiber.RuntimeFiber<void, SqlError.SqlError>> = []
      const interrupted = new Set<unknown>()
      for (let wave = 0; wave < 20; wave++) {
        const some = yield* Effect.forEach(range(500), (n) => Effect.fork(run(wave * 500 + n)))
        fibers.push(...some)
        for (const fiber of shuffled(some).slice(0, 250)) {
          interrupted.add(fiber)
          yield* Fiber.interruptFork(fiber)
          yield* interrupted.size % 50 === 0 ? Effect.sleep("1 millis") : Effect.void
        }
      }
      const exits = yield* Effect.forEach(fibers, Fiber.await)
      const wrong = exits.filter((exit, i) =>
        Exit.isFailure(exit) && !(interrupted.has(fibers[i]) && Cause.isInterruptedOnly(exit.cause))
      )
      assert.deepStrictEqual(wrong.slice(0, 3).map(String), [])
      assert.isAtLeast(exits.filter(Exit.isInterrupted).length, 500)
      const stored = new Set((yield* pool<{ id: number }>`select id from t`).map(({ id }) => id))
      assert.deepStrictEqual(Array.from(done).filter((id) => !stored.has(id)), [])
      for (const id of range(10_000).filter((id) => id % 40 === 0 || id % 40 === 4)) {
        assert.strictEqual(stored.has(-id - 1), stored.has(id), `the transaction ${id} is whole or absent`)
        assert.isFalse(id % 40 === 4 && stored.has(-id - 2), "what failed in it is not there")
      }
      yield* within(
        500,
        until(
          pool,
          ({ pending, readers, writer }) => pending + readers.used + readers.leased + writer.used + writer.leased === 0
        )
      )
      assert.deepInclude(yield* pool.stats, { deaths: 0, abandoned: 0 })
      // A cursor that was left would keep the log from being emptied, and its reader from seeing what is new.
      assert.deepInclude((yield* pool`pragma wal_checkpoint(truncate)`)[0], { busy: 0, log: 0 })
      yield* insert(pool, 1_000_000)
      const last = yield* Effect.forEach(range(200), () => pool`select max(id) as id from t`, {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(last, last.map(() => [{ id: 1_000_000 }]))
      yield* Effect.forEach(range(800), (n) => run(20_000 + n), { concurrency: "unbounded" })
    }))
})

describe("the queue", () => {
  it.scopedLive("refuses what is beyond maxQueue, typed and at once, and takes more when there is room", () =>
    Effect.gen(function*() {
      const pool = yield* withTable({ maxQueue: 10 })
      const { exits, time } = yield* Effect.gen(function*() {
        yield* pool.reserve
        const started = performance.now()
        const fibers = yield* Effect.forEach(range(100), (id) => Effect.fork(insert(pool, id)))
        yield* Effect.forEach(fibers.slice(10), Fiber.await)
        return { exits: Effect.forEach(fibers, Fiber.await), time: performance.now() - started }
      }).pipe(Effect.scoped)
      assert.isBelow(time, 200)
      const failures = (yield* exits).flatMap((exit, index) =>
        Exit.isFailure(exit) ? [[index, Cause.squash(exit.cause) as SqlError.SqlError] as const] : []
      )
      assert.deepStrictEqual(failures.map(([index]) => index), range(100).slice(10))
      failures.forEach(([, error]) => assert.deepInclude(error.cause, { reason: "ConnectionError" }))
      assert.deepStrictEqual(yield* pool`select count(*) as n from t`, [{ n: 10 }])
    }))

  it.scopedLive("is first come, first served: for writes, transactions and reserve together, and for reads", () =>
    Effect.gen(function*() {
      const pool = yield* withTable({ minReaders: 2, maxReaders: 2 })
      const order: Array<number> = []
      const note = (id: number) => Effect.sync(() => order.push(id))
      const ways = [
        (id: number) => Effect.zipRight(insert(pool, id), note(id)),
        (id: number) => pool.withTransaction(Effect.zipRight(insert(pool, id), note(id))),
        (id: number) => Effect.scoped(Effect.zipRight(pool.reserve, note(id)))
      ]
      const writes = yield* Effect.scoped(Effect.zipRight(
        pool.reserve,
        Effect.forEach(range(60), (id) => Effect.tap(Effect.fork(ways[id % 3]!(id)), Effect.yieldNow()))
      ))
      yield* Fiber.joinAll(writes)
      assert.deepStrictEqual(order.splice(0), range(60))
      const held = yield* Effect.fork(pool.snapshot(Effect.never))
      yield* until(pool, ({ readers }) => readers.leased === 1)
      const reads = yield* Effect.forEach(
        range(200),
        (id) => Effect.fork(Effect.zipRight(id === 0 ? pool.unsafe(slowSql(500_000)) : pool`select 1`, note(id)))
      )
      yield* Fiber.joinAll(reads)
      assert.deepStrictEqual(order, range(200))
      yield* Fiber.interrupt(held)
    }))

  it.scopedLive("does not let quick reads wait behind a slow one: 64 of them are answered meanwhile, within 200 ms", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ minReaders: 2, maxReaders: 2 })
      const slow = yield* Effect.fork(pool.unsafe(slowSql(6_000_000)))
      yield* until(pool, ({ readers }) => readers.used === 1)
      const times = yield* Effect.forEach(range(64), () => Effect.timed(pool`select 1`), { concurrency: "unbounded" })
      assert.isNull(slow.unsafePoll(), "the slow statement was too quick")
      assert.isBelow(Math.max(...times.map(([time]) => Duration.toMillis(time))), 200)
      yield* Fiber.join(slow)
    }))

  it.scopedLive("does not let a quick read wait behind large ones whose rows are coming, while a reader is idle", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ minReaders: 6, maxReaders: 6 })
      const rows = (count: number) =>
        pool.unsafe(
          `with recursive n(i) as (select 1 union all select i + 1 from n where i < ${count}) select i from n`
        )
      // Each reader's last message was a quick one, as far as it knows.
      yield* Effect.forEach(range(24), () => pool`select 1`, { concurrency: "unbounded" })
      const large = yield* Effect.forEach(range(3), () => Effect.fork(rows(3_000_000)))
      yield* until(pool, ({ readers }) => readers.used === 3)
      // How often a timer that is always due ran while a quick one waited.
      const waited: Array<number> = []
      for (let i = 0; i < 40; i++) {
        let turns = 0
        const counting = setInterval(() => turns++, 0)
        yield* pool`select 1`
        clearInterval(counting)
        waited.push(turns)
        yield* Effect.sleep(2)
      }
      assert.deepStrictEqual(
        large.map((fiber) => fiber.unsafePoll()),
        [null, null, null],
        "the large ones were too quick"
      )
      assert.isBelow(Math.max(...waited), 30)
      yield* Fiber.interruptAll(large)
    }))

  it.scopedLive("has two slow reads run in parallel", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ minReaders: 1, maxReaders: 2 })
      const slow = yield* Effect.forEach([1, 2], () => Effect.fork(pool.unsafe(slowSql(3_000_000))))
      yield* within(500, until(pool, ({ readers }) => readers.used === 2))
      assert.deepStrictEqual(slow.map((fiber) => fiber.unsafePoll()), [null, null])
      yield* Fiber.joinAll(slow)
    }))
})

describe("acquireTimeout", () => {
  it.scopedLive("fails whoever waits for a second connection while holding the only one, and the first goes on", () =>
    Effect.gen(function*() {
      const pool = yield* withTable({ minReaders: 2, maxReaders: 2, acquireTimeout: "100 millis" })
      const inner = noConnection(Effect.scoped(pool.reserve))
      yield* Effect.scoped(Effect.zipRight(pool.reserve, inner))
      yield* pool.withTransaction(Effect.zipRight(inner, insert(pool, 1)))
      yield* pool.snapshot(noConnection(pool.snapshot(Effect.void)))
      yield* Effect.scoped(Effect.zipRight(pool.reserve, noConnection(insert(pool, 2))))
      assert.deepStrictEqual(yield* pool`select id from t`, [{ id: 1 }])
    }))

  it.scopedLive("fails what waits behind statements that are slow, be it queued or sent", () =>
    Effect.gen(function*() {
      const pool = yield* withTable({ minReaders: 2, maxReaders: 2, acquireTimeout: "100 millis" })
      // For much longer than the timeout, since a machine may be too busy to see to it in time.
      const long = slowSql(8_000_000)
      const reads = yield* Effect.forEach([1, 2], () => Effect.fork(pool.unsafe(long)))
      const write = yield* Effect.fork(pool.unsafe(`create table slow as ${long}`))
      yield* until(pool, ({ readers, writer }) => readers.used === 2 && writer.used === 1)
      yield* Effect.all([noConnection(pool`select 1`), noConnection(insert(pool, 1))], { concurrency: 2 })
      yield* Fiber.joinAll([...reads, write])
      assert.deepStrictEqual(yield* pool`select id from t`, [])
    }))

  it.scopedLive("refuses lookups together that wait above a pool whose readers are all busy, not so many at a time", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ minReaders: 2, maxReaders: 2, acquireTimeout: "300 millis" })
      const users = yield* Effect.zipRight(Database.migrate, AvatarRepository.make).pipe(
        Effect.provideService(SqlClient.SqlClient, pool)
      )
      const endless = pool`
        with recursive n(i) as (select 1 union all select i + 1 from n) select i from n where i % 100000 = 0`
      const busy = yield* Effect.forEach([1, 2], () => Effect.fork(endless))
      yield* until(pool, ({ readers }) => readers.used === 2)
      const lookup = (id: number) => Effect.flip(users.findUserAvatar(Avatar.Login.make(`user${id}`)))
      const errors = yield* Effect.forEach(range(3_000), lookup, { concurrency: "unbounded" })
      assert.deepStrictEqual(
        new Set(errors.map((error) => error._tag === "DatabaseError" && error.operation)),
        new Set(["acquireConnection"] as const)
      )
      // Those of one statement fail by one failure.
      assert.isAtMost(new Set(errors).size, 4)
      yield* Fiber.interruptAll(busy)
    }))
})

describe("a timeout of a caller's own", () => {
  for (const [name, read] of [["yields rows", endless], ["yields none", slow]] as const) {
    it.scopedLive(`around a read that runs for seconds and ${name} is kept to 50 ms (the median of nine)`, () =>
      Effect.gen(function*() {
        const pool = yield* makePool({ minReaders: 2, maxReaders: 2 })
        yield* pool`select 1`
        const times = yield* Effect.forEach(
          range(9),
          () =>
            Effect.map(Effect.timed(Effect.timeoutOption(read(pool), "200 millis")), ([time, answer]) => {
              assert.isTrue(Option.isNone(answer))
              return Duration.toMillis(time)
            })
        )
        assert.closeTo(times.toSorted((a, b) => a - b)[4]!, 200, 50)
      }))
  }
})

describe("statementTimeout", () => {
  for (const [name, read] of [["yields rows", endless], ["yields none", slow]] as const) {
    it.scopedLive(`fails a long read that ${name}, typed and in time, and the pool serves on and has its size again`, () =>
      Effect.gen(function*() {
        const pool = yield* makePool({ minReaders: 2, maxReaders: 2, statementTimeout: "300 millis" })
        const long = tooLong(read(pool))
        yield* Effect.all([long, long, Effect.delay(within(1_500, pool`select 1`), "50 millis")], { concurrency: 3 })
        yield* Effect.repeatN(within(1_500, pool`select 1`), 10)
        yield* until(pool, ({ abandoned, readers }) => readers.open === 2 && readers.used === 0 && abandoned === 0)
        yield* tooLong(Stream.runDrain(slow(pool).stream))
        yield* within(1_500, pool`select 1`)
      }))
  }
})

function endless(pool: SqlitePool.SqlitePool) {
  return pool<{ i: number }>`with recursive n(i) as (select 1 union all select i + 1 from n) select i from n`
}

function slow(pool: SqlitePool.SqlitePool) {
  return pool.unsafe(slowSql(8_000_000))
}

const range = (count: number) => Array.from({ length: count }, (_, index) => index)

const withTable = (config: Partial<SqlitePool.SqlitePoolConfig>) =>
  Effect.tap(makePool(config), (pool) => pool`create table t (id integer primary key)`)

const insert = (pool: SqlitePool.SqlitePool, id: number) => pool`insert into t values (${id})`

const within = <A, E>(milliseconds: number, effect: Effect.Effect<A, E>) =>
  Effect.timeoutFail(effect, { duration: milliseconds, onTimeout: () => `not within ${milliseconds} ms` })

/** It fails by the pool's clock, and about then. */
const timedOut = (milliseconds: number, reason: string) => (effect: Effect.Effect<unknown, SqlError.SqlError>) =>
  Effect.map(Effect.timed(Effect.flip(effect)), ([time, error]) => {
    assert.deepInclude(error.cause, { reason })
    assert.closeTo(Duration.toMillis(time), milliseconds, 100)
  })
const noConnection = timedOut(100, "ConnectionError")
const tooLong = timedOut(300, "StatementTimeoutError")

/** In an order of its own, the same each time. */
const shuffled = <A>(items: ReadonlyArray<A>): Array<A> => {
  let seed = 42
  const random = () => (seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31)
  return items.map((item) => [random(), item] as const).toSorted(([a], [b]) => a - b).map(([, item]) => item)
}

import type { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Exit, Fiber, Option, Schedule, Scope, Stream, String } from "effect"
import type { SqlitePool } from "effect-avatars"
import { failure, makePool } from "./pool.js"
import { withOther } from "./streams.js"

describe("a stream", () => {
  it.scopedLive("that is taken from once frees its reader, though the statement has no end", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ maxReaders: 2 })
      for (let i = 0; i < 20; i++) {
        assert.deepStrictEqual(yield* collect(Stream.take(endless(pool).stream, 1)), [{ i: 1 }])
        yield* isIdle(pool)
      }
    }))

  it.scopedLive("that is interrupted, between chunks or within one, frees its reader, which then sees later writes", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ maxReaders: 2 })
      yield* pool`create table t (n integer)`
      yield* pool`insert into t values (0)`
      // The second has one row in 100 000: its chunk takes a while.
      for (const [round, step] of [1, 100_000].entries()) {
        const stream = pool`select i, n from (${endless(pool)}), t where i % ${step} = 0`.stream
        const fiber = yield* Effect.fork(Stream.runForEachChunk(stream, () => Effect.sleep("5 millis")))
        yield* until(pool, ({ readers }) => readers.leased === 1)
        yield* Effect.sleep("20 millis")
        yield* Fiber.interrupt(fiber)
        yield* until(pool, ({ readers }) => readers.used === 0)
        yield* pool`update t set n = ${round + 1}`
        const reads = Array.from({ length: 50 }, () => pool<{ n: number }>`select n from t`)
        const seen = yield* Effect.all(reads, { concurrency: "unbounded" })
        assert.deepStrictEqual(new Set(seen.map(([row]) => row?.n)), new Set([round + 1]))
      }
    }))

  it.scopedLive("that fails in the middle has given the rows before, fails typed, and frees its reader", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({ maxReaders: 2 })
      let rows = 0
      const failing = pool`select case when i = 2500 then abs(-9223372036854775808) else i end as i
        from (${numbers(pool, 3_000)})`.stream
      const error = yield* Effect.flip(Stream.runForEach(failing, () => Effect.sync(() => rows++)))
      assert.deepInclude(error.cause, { code: "SQLITE_ERROR", message: "integer overflow" })
      assert.isAtLeast(rows, 2_000)
      yield* isIdle(pool)
      const wrong = [pool`select * from nowhere`, pool`select ${Symbol.iterator as never}`, pool`attach 'x' as x`]
      for (const statement of [...wrong, pool.unsafe("select 1 \0 from nowhere")]) {
        assert.strictEqual((yield* Effect.flip(Stream.runDrain(statement.stream)))._tag, "SqlError")
      }
      yield* isIdle(pool)
    }))

  it.scopedLive("goes on while the same transaction writes, and sees it or not, but loses none of its own rows", () =>
    Effect.gen(function*() {
      const pool = yield* withTable({}, 2_500)
      const ids: Array<number> = []
      yield* pool<{ id: number }>`select id from t order by id`.stream.pipe(
        Stream.tap(({ id }) => pool`update t set n = n + 1 where id = ${id}`),
        Stream.runForEach(({ id }) => Effect.sync(() => ids.push(id))),
        pool.withTransaction
      )
      assert.deepStrictEqual(ids, Array.from({ length: 2_500 }, (_, i) => i + 1))
      assert.deepStrictEqual(yield* pool`select distinct n from t`, [{ n: 1 }])
    }))

  it.scopedLive("has its consumer read: as many of them as there are readers come to their end", () =>
    Effect.gen(function*() {
      const pool = yield* withTable({ maxReaders: 4, acquireTimeout: "5 seconds" }, 3_000)
      const one = pool<{ id: number }>`select id from t`.stream.pipe(
        Stream.filter(({ id }) => id % 100 === 0),
        Stream.mapEffect(({ id }) => pool`select n from t where id = ${id}`),
        Stream.runCount
      )
      assert.deepStrictEqual(yield* Effect.all([one, one, one, one], { concurrency: 4 }), [30, 30, 30, 30])
      yield* isIdle(pool)
    }))

  for (const ends of ["COMMIT", "ROLLBACK"]) {
    it.scopedLive(`ends before ${ends}: one that outlives its transaction fails typed, and the next is not disturbed`, () =>
      Effect.gen(function*() {
        const pool = yield* withTable({}, 3_000)
        const scope = yield* Effect.scope
        let pull: Effect.Effect<unknown, Option.Option<SqlError.SqlError>> = Effect.void
        const exit = yield* Effect.gen(function*() {
          pull = yield* Scope.extend(Stream.toPull(pool`select id from t`.stream), scope)
          yield* pull
          yield* pool`update t set n = 1 where id = 1`
          return yield* (ends === "COMMIT" ? Effect.void : Effect.fail("rolled back"))
        }).pipe(pool.withTransaction, Effect.exit)
        assert.deepStrictEqual(exit, ends === "COMMIT" ? Exit.void : Exit.fail("rolled back"))
        const [row] = yield* pool.withTransaction(pool<{ n: number }>`update t set n = n + 1 where id = 1 returning n`)
        assert.deepStrictEqual(row, { n: ends === "COMMIT" ? 2 : 1 })
        assert.strictEqual(Option.getOrThrow(yield* Effect.flip(pull))._tag, "SqlError")
        yield* isIdle(pool)
      }))
  }

  it.scopedLive("of a statement that writes writes it all, also where one row is taken, and may return nothing", () =>
    Effect.gen(function*() {
      const pool = yield* withTable({}, 0)
      const insert = pool<{ id: number }>`insert into t (n) select i from (${numbers(pool, 2_500)}) returning id`.stream
      assert.strictEqual((yield* collect(insert)).length, 2_500)
      assert.deepStrictEqual(yield* collect(Stream.take(insert, 1)), [{ id: 2_501 }])
      assert.deepStrictEqual(yield* pool`select count(*) as n from t`, [{ n: 5_000 }])
      assert.deepStrictEqual(yield* collect(pool`delete from t where id > ${10}`.stream), [])
      const common = pool`with x(n) as (select 1) insert into t (n) select n from x returning n`.stream
      assert.deepStrictEqual(yield* collect(common), [{ n: 1 }])
      assert.deepStrictEqual(yield* pool`select count(*) as n from t`, [{ n: 11 }])
      yield* isIdle(pool)
    }))

  it.scopedLive("transforms the names of queries and of results", () =>
    Effect.gen(function*() {
      const { camelToSnake, snakeToCamel } = String
      const pool = yield* makePool({ transformQueryNames: camelToSnake, transformResultNames: snakeToCamel })
      yield* pool`create table t (first_name text)`
      yield* pool`insert into t ${pool.insert({ firstName: "a" })}`
      assert.deepStrictEqual(yield* collect(pool`select ${pool("firstName")} from t`.stream), [{ firstName: "a" }])
      const plain = pool.withoutTransforms()`select first_name from t`.stream
      assert.deepStrictEqual(yield* collect(plain), [{ first_name: "a" }])
    }))
})

describe("a large result", () => {
  it.scopedLive("does not stall the event loop: no gap of 60 ms while 100 000 rows arrive, once and four times at once", () =>
    Effect.gen(function*() {
      const pool = yield* makePool()
      const block = Effect.sync(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100))
      assert.isAtLeast(yield* longestGap(block), 95)
      const select = pool`select i, i * 2 as j, 'some text' as text from (${numbers(pool, 100_000)})`
      const rows = Effect.map(select, (rows) => assert.lengthOf(rows, 100_000))
      assert.isBelow(yield* longestGap(rows, 5), 60)
      const four = Effect.all([rows, rows, rows, rows], { concurrency: 4 })
      assert.isBelow(yield* longestGap(four, 5), 60)
    }))
})

for (const config of [{ filename: ":memory:" }, { disableWAL: true }, {}]) {
  it.scopedLive(`a stream of a table that is missing says so, and waits for nobody (${JSON.stringify(config)})`, () =>
    Effect.gen(function*() {
      const pool = yield* makePool(config)
      const error = yield* failure(Stream.runDrain(pool`select * from missing`.stream))
      assert.strictEqual(error.reason, "SqlSyntaxError", error.message)
    }))
}

describe("the names of columns", () => {
  it.scopedLive("are those of the rows after another connection's RENAME, ADD and DROP COLUMN", () =>
    Effect.gen(function*() {
      const { other, pool } = yield* withOther
      const all = pool`select * from t`
      let columns = ["a", "b"]
      const change = (sql: string, after: Array<string>) =>
        Effect.gen(function*() {
          other.exec(`alter table t ${sql}`)
          columns = after
          const expected = [Object.fromEntries(columns.map((name) => [name, null]))]
          assert.deepStrictEqual(yield* Effect.all([all, all.unprepared, collect(all.stream)]), [
            expected,
            expected,
            expected
          ])
        })
      for (let round = 0; round < 20; round++) {
        yield* change(`rename column ${columns[0]} to r${round}`, [`r${round}`, ...columns.slice(1)])
        yield* change(`add column c${round}`, [...columns, `c${round}`])
        yield* change(`drop column ${columns[1]}`, columns.toSpliced(1, 1))
      }
    }))

  it.scopedLive("are right where the schema changes between a statement's run and its answer", () =>
    Effect.gen(function*() {
      const { other, pool } = yield* withOther
      const quick = pool`select * from t`
      const count = (n: number) =>
        pool`with recursive n(i) as (select 1 union all select i + 1 from n where i < ${n}) select sum(i) from n`
      // Both are known to be quick, so that the answer of the first waits for the second, in one message.
      yield* Effect.repeatN(Effect.all([quick, count(1)], { concurrency: 2 }), 3)
      const slow = yield* Effect.fork(Effect.all([quick, count(3_000_000)], { concurrency: 2 }))
      yield* Effect.sleep("30 millis")
      other.exec("alter table t rename column a to z")
      assert.deepStrictEqual((yield* Fiber.join(slow))[0], [{ a: null, b: null }])
      assert.deepStrictEqual(yield* quick, [{ z: null, b: null }])
    }))

  it.scopedLive("are right when the answer that told them was for a caller who was interrupted", () =>
    Effect.gen(function*() {
      const { pool } = yield* withOther
      const some = (count: number) => pool`select i from (${endless(pool)}) limit ${count}`
      const fiber = yield* Effect.fork(some(1e9))
      yield* Effect.yieldNow()
      yield* Effect.promise(() => Promise.resolve())
      // The first chunk is posted while this thread sleeps, and taken after the interruption.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* some(2), [{ i: 1 }, { i: 2 }])
    }))
})

const numbers = (sql: SqlitePool.SqlitePool, count: number) =>
  sql`with recursive n(i) as (select 1 union all select i + 1 from n where i < ${count}) select i from n`

const endless = (sql: SqlitePool.SqlitePool) =>
  sql`with recursive n(i) as (select 1 union all select i + 1 from n) select i from n`

const collect = <A, E>(stream: Stream.Stream<A, E>) => Effect.map(Stream.runCollect(stream), Chunk.toReadonlyArray)

const until = (pool: SqlitePool.SqlitePool, condition: (stats: SqlitePool.Stats) => boolean) =>
  Effect.repeat(pool.stats, { until: condition, schedule: Schedule.spaced("1 millis") })

const isIdle = (pool: SqlitePool.SqlitePool) =>
  Effect.map(
    pool.stats,
    ({ pending, readers, writer }) =>
      assert.deepStrictEqual([pending, readers.used, readers.leased, writer.used, writer.leased], [0, 0, 0, 0, 0])
  )

const withTable = (config: Partial<SqlitePool.SqlitePoolConfig>, rows: number) =>
  Effect.gen(function*() {
    const pool = yield* makePool(config)
    yield* pool`create table t (id integer primary key, n integer default 0)`
    yield* pool`insert into t (n) select 0 from (${numbers(pool, rows)}) where ${rows} > 0`
    return pool
  })

/** The longest time between two turns of the event loop while it runs (ms); of some runs the least, for a loaded machine. */
const longestGap = (effect: Effect.Effect<unknown, SqlError.SqlError>, runs = 1) =>
  Effect.gen(function*() {
    let least = Infinity
    for (let run = 0; run < runs && least > 50; run++) {
      let longest = 0
      let last = performance.now()
      const timer = setInterval(() => {
        longest = Math.max(longest, performance.now() - last)
        last = performance.now()
      }, 1)
      yield* effect.pipe(Effect.delay("20 millis"), Effect.zipRight(Effect.sleep("20 millis")))
      clearInterval(timer)
      least = Math.min(least, longest)
    }
    return least
  })

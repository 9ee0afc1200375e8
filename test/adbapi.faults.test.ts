/**
 * What Twisted tests of adbapi's ConnectionPool (`test_adbapi.py`), numbered: one connection and one iteration there, many of both here.
 */
import { SqlError } from "@effect/sql"
import { afterAll, assert, describe, it } from "@effect/vitest"
import type { Scope } from "effect"
import { Cause, Effect, Exit, Fiber, Logger, Stream } from "effect"
import { DatabaseError } from "effect-avatars"
import type { SqlitePool } from "effect-avatars"
import type { YieldWrap } from "effect/Utils"
import * as fs from "node:fs"
import type { Worker } from "node:worker_threads"
import { makePool, slowSql } from "./pool.js"

/** All threads that were started and have not ended, oldest first: a pool's writer, then its readers. */
const threads: Array<Worker> = []
const onWorker = (worker: Worker) => {
  threads.push(worker)
  worker.once("exit", () => threads.splice(threads.indexOf(worker), 1))
}
process.on("worker", onWorker)
afterAll(() => void process.off("worker", onWorker))

describe("failures reach their caller, and only theirs", () => {
  it.scopedLive("1: a query on a missing table", () =>
    alone((sql) => sql`select * from missing`, { code: "SQLITE_ERROR", reason: "SqlSyntaxError" }))

  it.scopedLive("2: a malformed operation", () =>
    alone((sql) => sql`bad sql`, { code: "SQLITE_ERROR", reason: "SqlSyntaxError" }))

  claim("3, 5: a transaction that writes, then fails; its table stays empty, the on-open hook has run", function*(sql) {
    yield* many(100, (i) =>
      Effect.gen(function*() {
        const body = Effect.zipRight(insert(sql, i), i % 2 === 0 ? Effect.fail(`mine ${i}`) : Effect.die(`mine ${i}`))
        const exit = yield* Effect.exit(sql.withTransaction(body))
        assert.deepStrictEqual(exit, i % 2 === 0 ? Exit.fail(`mine ${i}`) : Exit.die(`mine ${i}`))
        assert.deepStrictEqual(yield* stored(sql), [])
        assert.deepStrictEqual(yield* sql`select * from hook`, yield* sql.withTransaction(sql`select * from hook`))
      }))
  })

  claim("4: a function on a bare connection", function*(sql) {
    yield* many(100, (i) =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(Effect.scoped(Effect.zipRight(sql.reserve, Effect.fail(`mine ${i}`))))
        assert.deepStrictEqual(exit, Exit.fail(`mine ${i}`))
      }))
    yield* insert(sql, 1)
  })
})

describe("work", () => {
  claim("6: N concurrent inserts, then N ordered rows", function*(sql) {
    yield* many(1_000, (i) => insert(sql, 999 - i))
    assert.deepStrictEqual(yield* stored(sql), numbers(1_000))
  })

  claim("7: a transaction reads row by row, in order, nothing after the last, and returns its value", function*(sql) {
    const values = yield* many(8, (i) =>
      sql.withTransaction(Effect.gen(function*() {
        const rows = yield* Stream.runCollect(sql<Row>`select n from t order by n`.stream)
        assert.deepStrictEqual(Array.from(rows, ({ n }) => n), numbers(2_500))
        return `done ${i}`
      })))
    assert.deepStrictEqual(values, numbers(8).map((i) => `done ${i}`))
  }, { rows: 2_500 })

  claim("8: so does a function on a bare connection", function*(sql) {
    const values = yield* many(8, (i) =>
      Effect.scoped(Effect.gen(function*() {
        const connection = yield* sql.reserve
        const rows = yield* Stream.runCollect(connection.executeStream("select n from t order by n", [], undefined))
        assert.deepStrictEqual(Array.from(rows, (row) => (row as Row).n), numbers(2_500))
        return `done ${i}`
      })))
    assert.deepStrictEqual(values, numbers(8).map((i) => `done ${i}`))
  }, { rows: 2_500 })

  claim("9: user code cannot close a pooled connection, nor use it after giving it back", function*(sql) {
    const members = ["execute", "executeRaw", "executeStream", "executeUnprepared", "executeValues"]
    yield* many(50, (i) =>
      Effect.gen(function*() {
        const kept = yield* Effect.scoped(sql.reserve)
        assert.deepStrictEqual(Object.keys(kept).toSorted(), members)
        yield* failure(kept.execute("insert into t values (?)", [i], undefined))
        const context = yield* sql.withTransaction(Effect.context<never>())
        yield* failure(Effect.provide(insert(sql, i), context))
      }))
    assert.deepStrictEqual(yield* stored(sql), [])
  })

  claim("10: N concurrent selects each get their own row", function*(sql) {
    const rows = yield* many(2_000, (i) => sql<Row>`select n from t where n = ${i % 1_000}`)
    rows.forEach((row, i) => assert.deepStrictEqual(row, [{ n: i % 1_000 }]))
  }, { rows: 1_000 })

  claim("11: N concurrent deletes", function*(sql) {
    const changes = yield* many(1_000, (i) => sql`delete from t where n = ${i}`.raw)
    changes.forEach((raw) => assert.deepInclude(raw, { changes: 1 }))
    assert.deepStrictEqual(yield* stored(sql), [])
  }, { rows: 1_000 })

  claim("12: every connection saw the on-open hook, and a reserved one can be given back", function*(sql) {
    const ask = Effect.flatMap(sql.reserve, (connection) => connection.execute("select * from hook", [], undefined))
    const hook = yield* Effect.replicateEffect(Effect.scoped(ask), 20)
    assert.deepStrictEqual(hook, hook.map(() => [{ ran: 1 }]))
    const reads = yield* many(100, () => sql`select * from hook`)
    assert.deepStrictEqual(reads, reads.map(() => [{ ran: 1 }]))
  })

  it.scopedLive("13: drops its table and closes without an error", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 10; i++) {
        yield* Effect.scoped(Effect.flatMap(makeTable(), (sql) => Effect.zipRight(insert(sql, 1), sql`drop table t`)))
        assert.deepStrictEqual(threads, [])
      }
    }))
})

describe("a connection that is closed behind the pool's back (its thread is killed)", () => {
  const kinds = {
    "14: a transaction": (sql: SqlitePool.SqlitePool) => sql.withTransaction(stored(sql)),
    "15: a function on a bare connection": (sql: SqlitePool.SqlitePool) =>
      Effect.scoped(Effect.flatMap(sql.reserve, (connection) => connection.execute("select n from t", [], undefined))),
    "16: a query": (sql: SqlitePool.SqlitePool) => stored(sql),
    "17: an operation": (sql: SqlitePool.SqlitePool) => sql`update t set n = n`
  }
  for (const [name, run] of Object.entries(kinds)) {
    claim(`${name} fails typed at most once, and the next one works`, function*(sql) {
      for (let i = 0; i < 15; i++) {
        kill()
        yield* i % 2 === 0 ? Effect.void : Effect.sleep(i)
        const first = yield* Effect.either(run(sql))
        if (first._tag === "Left") {
          assert.strictEqual(DatabaseError.fromSqlError(first.left).reason, "ConnectionError")
        }
        yield* run(sql)
      }
      assert.deepStrictEqual(yield* stored(sql), [0, 1, 2])
    }, { rows: 3 })
  }

  claim("18: bad SQL afterwards is not reported as a lost connection", function*(sql) {
    for (let i = 0; i < 10; i++) {
      kill()
      yield* Effect.ignore(many(8, () => stored(sql)))
      yield* Effect.ignore(insert(sql, i))
      assert.strictEqual((yield* failure(sql`bad sql`)).reason, "SqlSyntaxError")
      assert.strictEqual((yield* failure(sql`insert into missing values (1)`)).reason, "SqlSyntaxError")
    }
  })

  claim("14-18: many at once, killed at any moment, all end, and what was acknowledged is there", function*(sql) {
    const acknowledged: Array<number> = []
    const killer = yield* Effect.fork(Effect.forever(Effect.delay(Effect.sync(killOne), 150)))
    yield* many(800, (i) =>
      Effect.gen(function*() {
        yield* Effect.sleep((i * 7) % 1_000)
        const write = i % 10 === 0
          ? sql.withTransaction(Effect.zip(insert(sql, i), insert(sql, -i - 1)))
          : i % 10 === 5
          ? Effect.scoped(
            Effect.flatMap(sql.reserve, (one) => one.execute("insert into t values (?)", [i], undefined))
          )
          : i % 2 === 0
          ? Effect.zip(stored(sql), insert(sql, i))
          : Stream.runDrain(sql`select n from t limit 2000`.stream)
        const outcome = yield* Effect.either(write)
        if (outcome._tag === "Left") {
          assert.include(["ConnectionError", "UnknownError"], DatabaseError.fromSqlError(outcome.left).reason)
        } else if (i % 2 === 0 || i % 10 === 5) {
          acknowledged.push(i)
        }
      }))
    yield* Fiber.interrupt(killer)
    const there = new Set(yield* Effect.retry(stored(sql), { times: 3 }))
    assert.deepStrictEqual(acknowledged.filter((i) => !there.has(i)), [])
    for (let i = 10; i < 800; i += 10) {
      assert.strictEqual(there.has(i), there.has(-i - 1), `the transaction ${i} is whole or absent`)
    }
    assert.isAbove(acknowledged.length, 100)
    yield* sql.withTransaction(insert(sql, 9_999))
  }, { maxReaders: 4 })

  it.scopedLive("19: inside a transaction is told to its caller, and logged once", () =>
    Effect.gen(function*() {
      const { lines, logger } = capture()
      const sql = yield* Effect.provide(makeTable(), logger)
      for (let i = 1; i <= 5; i++) {
        const error = yield* failure(sql.withTransaction(Effect.zipRight(insert(sql, i), loseWriter(insert(sql, -i)))))
        assert.strictEqual(error.reason, "ConnectionError")
        assert.lengthOf(lines.filter((line) => line.startsWith("A writer thread")), i)
        assert.deepStrictEqual(yield* stored(sql), [])
        yield* sql.withTransaction(sql`select 1`)
      }
    }))

  claim("20: is replaced by one, however many wait for it", function*(sql) {
    for (let i = 1; i <= 10; i++) {
      threads[0]!.terminate()
      yield* Effect.ignore(insert(sql, i))
      yield* Effect.all([insert(sql, 100 + i), insert(sql, 200 + i), sql.withTransaction(insert(sql, 300 + i))], {
        concurrency: "unbounded"
      })
      assert.isAtMost(threads.length, 3)
      assert.strictEqual((yield* sql.stats).writer.open, 1)
    }
  }, { maxReaders: 2 })

  for (const [number, wrap] of [["21", Effect.fail], ["22", Effect.die]] as const) {
    claim(
      `${number}: hides no failure of the user's own (${wrap === Effect.die ? "a defect" : "typed"})`,
      function*(sql) {
        for (let i = 0; i < 5; i++) {
          const exit = yield* Effect.exit(
            sql.withTransaction(Effect.zipRight(insert(sql, i), loseWriter(wrap("mine"))))
          )
          assert.strictEqual(Exit.isFailure(exit) && Cause.squash(exit.cause), "mine")
          assert.deepStrictEqual(yield* stored(sql), [])
        }
      }
    )
  }
})

describe("the end", () => {
  it.live("23: an error while closing is logged, not thrown", () =>
    Effect.gen(function*() {
      const { lines, logger } = capture()
      const close = Effect.gen(function*() {
        const sql = yield* makePool({ closeTimeout: 400 })
        yield* Effect.fork(sql.unsafe(slowSql(20_000_000)))
        yield* Effect.repeat(Effect.delay(sql.stats, 10), { until: ({ readers }) => readers.used === 1 })
        // Its reader has begun it.
        yield* Effect.sleep(300)
      }).pipe(Effect.scoped, Effect.provide(logger))
      yield* many(4, () => close)
      while (threads.length > 0) {
        yield* Effect.sleep(10)
      }
      assert.lengthOf(lines, 4)
      lines.forEach((line) => assert.match(line, /was closed, but 1 of its threads/))
    }))

  it.live("24: closing before it has started is clean", () =>
    Effect.gen(function*() {
      const pool = makePool({ minReaders: 3 })
      yield* Effect.scoped(pool)
      const before = fs.readdirSync("/proc/self/fd").length
      for (let i = 0; i < 30; i++) {
        const fiber = yield* Effect.fork(Effect.scoped(Effect.zipRight(pool, Effect.never)))
        yield* Effect.sleep(2 * i)
        yield* Fiber.interrupt(fiber)
        assert.lengthOf(threads, 0)
      }
      assert.isAtMost(fs.readdirSync("/proc/self/fd").length, before + 2)
    }))

  it.live("25: closing removes every listener of the process", () =>
    Effect.gen(function*() {
      const listeners = () => process.eventNames().map((name) => [name, process.listenerCount(name)])
      const before = listeners()
      yield* many(10, () => Effect.scoped(Effect.flatMap(makeTable(), (sql) => insert(sql, 1))))
      assert.deepStrictEqual(listeners(), before)
    }))
})

interface TableConfig extends Partial<SqlitePool.SqlitePoolConfig> {
  readonly rows?: number
}

interface Row {
  readonly n: number
}

const numbers = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, i) => i)

const many = <A, E, R>(count: number, run: (i: number) => Effect.Effect<A, E, R>) =>
  Effect.forEach(numbers(count), run, { concurrency: "unbounded" })

/** A test on a table of its own. */
function claim(
  name: string,
  body: (sql: SqlitePool.SqlitePool) => Generator<YieldWrap<Effect.Effect<unknown, unknown, Scope.Scope>>, void, never>,
  config: TableConfig = {}
) {
  it.scopedLive(name, () => Effect.flatMap(makeTable(config), (sql) => Effect.gen(() => body(sql))))
}

/** A table of numbers from 0. The pool's threads that die leave no noise in the report. */
const makeTable = ({ rows = 0, ...config }: TableConfig = {}) =>
  makePool({ minReaders: 2, maxReaders: 8, initialSql: ["create temp table hook as select 1 as ran"], ...config }).pipe(
    Effect.tap((sql) => sql`create table t (n integer primary key)`),
    Effect.tap((sql) => many(rows, (i) => insert(sql, i))),
    Effect.provide(Logger.remove(Logger.defaultLogger))
  )

const insert = (sql: SqlitePool.SqlitePool, n: number) => Effect.asVoid(sql`insert into t values (${n})`)

const stored = (sql: SqlitePool.SqlitePool) =>
  Effect.map(sql<Row>`select n from t order by n`, (rows) => rows.map(({ n }) => n))

const failure = (effect: Effect.Effect<unknown, unknown>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.instanceOf(error, SqlError.SqlError)
    return DatabaseError.fromSqlError(error)
  })

/** Among 200 that succeed, 200 that fail: each learns its own outcome. */
const alone = (
  bad: (sql: SqlitePool.SqlitePool) => Effect.Effect<unknown, unknown>,
  expected: Partial<DatabaseError.DatabaseError>
) =>
  Effect.gen(function*() {
    const sql = yield* makeTable()
    yield* many(400, (i) =>
      i % 2 === 0 ? insert(sql, i) : Effect.map(failure(bad(sql)), (error) => assert.deepInclude(error, expected)))
    assert.lengthOf(yield* stored(sql), 200)
  })

const kill = () => threads.forEach((thread) => void thread.terminate())

let turn = 0
const killOne = () => void threads[turn++ % Math.max(1, threads.length)]?.terminate()

/** The writer's thread is gone before what comes next. */
const loseWriter = <A, E>(next: Effect.Effect<A, E>) =>
  Effect.zipRight(Effect.promise(() => Promise.all(threads.map((thread) => thread.terminate()))), next)

const capture = () => {
  const lines: Array<string> = []
  const logger = Logger.add(Logger.make(({ message }) => void lines.push(String(message))))
  return { lines, logger }
}

import type { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Array as Arr, Effect, Exit, Fiber, Logger, Scope, Stream } from "effect"
import { type SqlitePool } from "effect-avatars"
import * as fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import * as path from "node:path"
import workerThreads, { type Worker } from "node:worker_threads"
import { temporaryFile } from "./layers.js"
import { mortals } from "./mortal.js"
import { errorOf, makePool, slowSql, until, works } from "./pool.js"

describe("a thread that ends", () => {
  it.scopedLive("of a reader costs its read nothing: it runs once more on another; the second death fails it typed", () =>
    Effect.gen(function*() {
      const { alive, sql } = yield* open({ minReaders: 2 })
      const [writer, ...others] = Array.from(alive)
      const sum = (count: number) => [{ total: count * (count + 1) / 2 }]
      const once = yield* Effect.fork(sql.unsafe(slowSql(1_000_000)))
      yield* Effect.sleep(20)
      yield* Effect.forEach(others, kill, { concurrency: "unbounded" })
      assert.deepStrictEqual(yield* Fiber.join(once), sum(1_000_000))
      const twice = yield* Effect.fork(Effect.exit(sql.unsafe(slowSql(3_000_000))))
      const isOver = () => twice.unsafePoll() !== null
      while (!isOver()) {
        yield* until(sql, ({ readers }) => readers.used > 0 || isOver())
        yield* Effect.sleep(20)
        yield* Effect.forEach(Array.from(alive).filter((worker) => worker !== writer), kill)
      }
      const error = errorOf(yield* Fiber.join(twice))
      assert.deepInclude(error, { reason: "ConnectionError" })
      assert.isUndefined(error?.outcome)
      yield* works(sql)
    }))

  it.scopedLive("for want of memory fails its read typed, which does not run again, and harms no other", () =>
    Effect.gen(function*() {
      yield* mortals
      const { sql } = yield* open({ minReaders: 2 })
      for (let i = 1; i <= 5; i++) {
        // A hundred megabytes in a thread that may have 16.
        const large = yield* Effect.fork(
          Effect.exit(sql`with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000)
            select i, printf('%.*c', 100000, 'x') as text from n`)
        )
        assert.deepStrictEqual(yield* sql`select ${i} as i`, [{ i }])
        const error = errorOf(yield* Fiber.join(large))
        assert.deepInclude(error, { reason: "ConnectionError" })
        assert.isUndefined(error?.outcome)
        assert.strictEqual((yield* sql.stats).deaths, i)
      }
      yield* works(sql)
    }))

  it.scopedLive("of a reader, in the COMMIT of a snapshot, leaves no outcome unknown: nothing was changed", () =>
    Effect.gen(function*() {
      const alive = yield* mortals
      const sql = yield* makePool({ filename: yield* temporaryFile("pool.sqlite"), minReaders: 2 })
      for (const point of ["beforeCommit", "afterCommit"] as const) {
        const inside = Effect.suspend(() => {
          const readers = Array.from(alive).filter(({ role }) => role === "reader")
          // Whichever has the snapshot comes to the point, and no other.
          return Effect.fork(Effect.raceAll(readers.map((reader) => reader.kill("exit", point))))
        })
        const error = errorOf(yield* Effect.exit(sql.snapshot(Effect.zipRight(inside, sql`select 1`))))
        assert.deepInclude(error, { reason: "ConnectionError" })
        assert.isUndefined(error?.outcome)
        yield* until(sql, ({ readers }) => readers.leased === 0)
      }
    }))

  for (const point of ["before a statement", "beside its statements", "before COMMIT"] as const) {
    it.scopedLive(`of a writer, ${point}, fails its transaction typed and rolls it back; the next one works`, () =>
      Effect.gen(function*() {
        const { alive, close, filename, sql } = yield* open()
        yield* sql`create table t (a)`
        const [writer] = Array.from(alive)
        const inserts = Effect.forEach(Arr.range(1, 50), (a) => sql`insert into t values (${a})`, {
          concurrency: "unbounded"
        })
        const exit = yield* Effect.exit(sql.withTransaction(Effect.gen(function*() {
          yield* sql`insert into t values (0)`
          if (point === "beside its statements") {
            const running = yield* Effect.fork(inserts)
            yield* Effect.yieldNow()
            yield* kill(writer!)
            return yield* Fiber.join(running)
          }
          yield* kill(writer!)
          return point === "before COMMIT" ? [] : yield* inserts
        })))
        assert.deepInclude(errorOf(exit), { reason: "ConnectionError" })
        assert.deepStrictEqual(yield* sql`select a from t`, [])
        yield* sql.withTransaction(sql`insert into t values (100)`)
        yield* close
        assert.deepStrictEqual(withSqlite(filename, (db) => db.prepare("select a from t").pluck().all()), [100])
      }))
  }

  it.scopedLive("with a stream, a snapshot or a reserved connection on it fails them typed, and frees their slots", () =>
    Effect.gen(function*() {
      const { alive, sql } = yield* open()
      yield* sql`create table t as with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) select i from n`
      const killAll = Effect.suspend(() => Effect.forEach(Array.from(alive), kill, { concurrency: "unbounded" }))
      let seen = 0
      const calls: ReadonlyArray<Effect.Effect<unknown, SqlError.SqlError>> = [
        Stream.runForEach(sql`select i from t`.stream, () => seen++ === 0 ? killAll : Effect.void),
        sql.snapshot(Effect.zipRight(killAll, sql`select 1`)),
        Effect.scoped(
          Effect.flatMap(
            sql.reserve,
            (connection) => Effect.zipRight(killAll, connection.execute("insert into t values (0)", [], undefined))
          )
        )
      ]
      for (const call of calls) {
        assert.deepInclude(errorOf(yield* Effect.exit(call)), { reason: "ConnectionError" })
        yield* works(sql)
      }
      assert.isBelow(seen, 5_000)
      assert.deepStrictEqual(yield* sql`select * from t where i = 0`, [])
    }))

  it.scopedLive("takes a database in memory with it: what runs and all that follows fails typed, at once", () =>
    Effect.gen(function*() {
      const { alive, sql } = yield* open({ filename: ":memory:" })
      yield* sql`create table t (a)`
      const running = yield* Effect.fork(Effect.exit(sql.unsafe(slowSql(1_000_000))))
      const waiting = yield* Effect.fork(Effect.exit(sql.withTransaction(sql`select 1`)))
      yield* Effect.sleep(20)
      yield* Effect.forEach(Array.from(alive), kill)
      const calls = [sql`select 1`, sql`insert into t values (1)`, sql.withTransaction(sql`select 1`), sql.export]
      const later = yield* Effect.forEach([...calls, Stream.runDrain(sql`select 1`.stream)], Effect.exit)
      for (const exit of [yield* Fiber.join(running), yield* Fiber.join(waiting), ...later]) {
        assert.deepInclude(errorOf(exit), { reason: "ConnectionError" })
      }
      assert.deepInclude(yield* sql.stats, { pending: 0, deaths: 1, writer: { open: 0, used: 0, leased: 0 } })
    }))

  it.scopedLive("is counted, and logged with the pool's name and its role", () =>
    Effect.gen(function*() {
      const logged: Array<string> = []
      const logger = Logger.make(({ message }) => void logged.push(String(message)))
      const { alive, sql } = yield* Effect.provide(
        open({ poolName: "avatars" }),
        Logger.replace(Logger.defaultLogger, logger)
      )
      yield* Effect.forEach(Array.from(alive), kill)
      yield* works(sql)
      assert.strictEqual((yield* sql.stats).deaths, 2)
      assert.lengthOf(logged, 2)
      assert.match(logged[0]!, /writer.*'avatars'/)
      assert.match(logged[1]!, /reader.*'avatars'/)
    }))

  it.scopedLive("before its connection is open fails the pool typed, in a sentence that names the file", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile()
      const kill = (worker: Worker) => void worker.terminate()
      process.on("worker", kill)
      yield* Effect.addFinalizer(() => Effect.sync(() => process.off("worker", kill)))
      const error = errorOf(yield* Effect.exit(makePool({ filename })))
      assert.deepInclude(error, { reason: "ConnectionError", operation: "connect" })
      assert.include(error?.message, filename)
    }))
})

describe("a thread that cannot be started", () => {
  it.scopedLive("fails the pool typed, in a sentence that names the file", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile()
      const error = errorOf(yield* noThreads(Effect.exit(makePool({ filename }))))
      assert.include(error?.message, filename)
    }))

  it.scopedLive("is tried again: statements wait for it meanwhile", () =>
    Effect.gen(function*() {
      const { alive, sql } = yield* open()
      yield* noThreads(Effect.zipRight(Effect.forEach(Array.from(alive), kill), Effect.sleep(100)))
      yield* works(sql)
    }))
})

it.scopedLive("threads that replace others open the same file after process.chdir", () =>
  Effect.gen(function*() {
    const before = process.cwd()
    const [here, there] = [path.dirname(yield* temporaryFile()), path.dirname(yield* temporaryFile())]
    process.chdir(here)
    yield* Effect.addFinalizer(() => Effect.sync(() => process.chdir(before)))
    const { alive, sql } = yield* open({ filename: "relative.sqlite" })
    yield* sql`create table t as select 1 as a`
    process.chdir(there)
    yield* Effect.forEach(Array.from(alive), kill)
    yield* works(sql)
    assert.deepStrictEqual(yield* sql`select a from t`, [{ a: 1 }])
    assert.deepStrictEqual(fs.readdirSync(there), [])
  }))

/** A pool with a scope that the test may close, and its threads that have not ended, the writer first. */
const open = (config: Partial<SqlitePool.SqlitePoolConfig> = {}) =>
  Effect.gen(function*() {
    const filename = config.filename ?? (yield* temporaryFile("pool.sqlite"))
    const alive = new Set<Worker>()
    const onWorker = (worker: Worker) => {
      alive.add(worker)
      worker.on("exit", () => alive.delete(worker))
    }
    process.on("worker", onWorker)
    yield* Effect.addFinalizer(() => Effect.sync(() => process.off("worker", onWorker)))
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const sql = yield* Scope.extend(makePool({ ...config, filename }), scope)
    return { alive, close: Scope.close(scope, Exit.void), filename, sql }
  })

const kill = (worker: Worker) => Effect.promise(() => worker.terminate())

/** Runs an effect while the system starts no thread. */
const noThreads = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  const { Worker } = workerThreads
  const replace = (by: unknown) =>
    Effect.sync(() => {
      Object.assign(workerThreads, { Worker: by })
      syncBuiltinESMExports()
    })
  const none = function() {
    throw Object.assign(new Error("Worker initialization failure: EAGAIN"), { code: "ERR_WORKER_INIT_FAILED" })
  }
  return Effect.acquireUseRelease(replace(none), () => effect, () => replace(Worker))
}

const withSqlite = <A>(file: string, use: (db: Sqlite.Database) => A): A => {
  const db = new Sqlite(file)
  try {
    return use(db)
  } finally {
    db.close()
  }
}

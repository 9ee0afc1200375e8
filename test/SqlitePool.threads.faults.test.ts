import { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Array as Arr, Cause, Chunk, Effect, Exit, Fiber, Logger, Scope, Stream } from "effect"
import { DatabaseError, type SqlitePool } from "effect-avatars"
import * as fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import * as path from "node:path"
import workerThreads, { type Worker } from "node:worker_threads"
import { temporaryFile } from "./layers.js"
import { makePool, slowSql } from "./pool.js"

// A long run: 500 and more.
const kills = Number(process.env["SQLITE_POOL_KILLS"] ?? 500)

describe("a thread that ends", () => {
  it.scopedLive(
    `${kills} times under load loses no call, no acknowledged write and no slot`,
    () =>
      Effect.gen(function*() {
        const silently = Effect.provide(Logger.remove(Logger.defaultLogger))
        const { alive, close, filename, sql } = yield* silently(open({ acquireTimeout: "20 seconds" }))
        yield* sql`create table t (a integer primary key, b integer)`
        yield* sql`insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 2500) select -i, 0 from n`
        const outcomes = new Map<number, "stored" | "not stored" | "unknown">()
        const read = { answered: 0, failed: 0 }
        let next = 0
        let isOver = false
        const load = (call: Effect.Effect<unknown>) =>
          Effect.fork(Effect.repeat(Effect.suspend(() => call), { while: () => !isOver }))
        const write = (insert: (key: number) => Effect.Effect<unknown, SqlError.SqlError>) =>
          Effect.suspend(() => {
            const key = next++
            return Effect.map(Effect.exit(insert(key)), (exit) => {
              const error = errorOf(exit)
              outcomes.set(key, error === undefined ? "stored" : error.outcome ?? "not stored")
            })
          })
        const insert = (key: number, b: number) => sql`insert into t values (${2 * key + b}, ${b})`
        const reading = (call: Effect.Effect<unknown, SqlError.SqlError>) =>
          Effect.map(Effect.exit(call), (exit) => {
            const error = errorOf(exit)
            assert.isUndefined(error?.outcome)
            read[error === undefined ? "answered" : "failed"] += 1
          })
        const fibers = yield* Effect.all([
          ...Arr.makeBy(12, () => load(write((key) => insert(key, 0)))),
          ...Arr.makeBy(
            3,
            () => load(write((key) => sql.withTransaction(Effect.zipRight(insert(key, 0), insert(key, 1)))))
          ),
          ...Arr.makeBy(8, () => load(reading(sql`select count(*) from t`))),
          ...Arr.makeBy(2, () => load(reading(Stream.runDrain(sql`select a from t where a < 0`.stream))))
        ])
        for (let killed = 0; killed < kills;) {
          yield* Effect.sleep(Math.random() * 200)
          const victims = Array.from(alive)
          const victim = victims[Math.floor(Math.random() * victims.length)]
          if (victim !== undefined) {
            yield* kill(victim)
            killed += 1
          }
        }
        isOver = true
        yield* Effect.timeout(Fiber.join(Fiber.all(fibers)), "10 seconds")
        assert.isAbove(read.answered, read.failed)
        const { deaths, pending, readers, writer } = yield* sql.stats
        assert.deepStrictEqual([deaths, pending, readers.leased, writer.leased], [kills, 0, 0, 0])
        yield* works(sql)
        yield* close
        const stored = withSqlite(filename, (db) =>
          new Map(
            db.prepare<[], [number, number]>("select a >> 1, count(*) from t where a >= 0 group by 1").raw().all()
          ))
        const unknown = Array.from(outcomes.values()).filter((outcome) => outcome === "unknown").length
        for (const [key, outcome] of outcomes) {
          const rows = stored.get(key) ?? 0
          assert(
            outcome === "unknown" || (outcome === "stored") === rows > 0,
            `${key} is ${outcome}, and has ${rows} rows`
          )
        }
        assert.isBelow(unknown, outcomes.size / 4)
        assert.deepStrictEqual(fs.readdirSync(path.dirname(filename)), ["pool.sqlite"])
      }),
    600_000
  )

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
      for (let i = 0; i < 2; i++) {
        yield* Effect.sleep(150)
        yield* Effect.forEach(Array.from(alive).filter((worker) => worker !== writer), kill)
      }
      const error = errorOf(yield* Fiber.join(twice))
      assert.deepInclude(error, { reason: "ConnectionError" })
      assert.isUndefined(error?.outcome)
      yield* works(sql)
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

/** What a call failed with, if it did: a failure of its type, no defect and no interruption. */
const errorOf = (exit: Exit.Exit<unknown, unknown>): DatabaseError.DatabaseError | undefined => {
  if (Exit.isSuccess(exit)) {
    return undefined
  }
  const error = Cause.squash(exit.cause)
  assert(error instanceof SqlError.SqlError && Chunk.isEmpty(Cause.defects(exit.cause)), Cause.pretty(exit.cause))
  return DatabaseError.fromSqlError(error)
}

const works = (sql: SqlitePool.SqlitePool) =>
  Effect.gen(function*() {
    const all = <A, E>(call: Effect.Effect<A, E>) =>
      Effect.all(Arr.makeBy(20, () => call), { concurrency: "unbounded" })
    yield* sql`create table if not exists works (a)`
    yield* Effect.all([
      all(sql`select * from works`),
      all(sql`insert into works values (1)`),
      all(sql.withTransaction(sql`insert into works values (2)`)),
      all(sql.snapshot(sql`select * from works`)),
      all(Stream.runDrain(sql`select * from works`.stream))
    ], { concurrency: "unbounded" }).pipe(Effect.timeout("10 seconds"), Effect.orDie)
    assert.strictEqual((yield* sql.stats).pending, 0)
  })

const withSqlite = <A>(file: string, use: (db: Sqlite.Database) => A): A => {
  const db = new Sqlite(file)
  try {
    return use(db)
  } finally {
    db.close()
  }
}

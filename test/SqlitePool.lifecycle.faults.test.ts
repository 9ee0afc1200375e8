import { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Cause, Deferred, Effect, Exit, Fiber, Scope, Stream } from "effect"
import { DatabaseError, type SqlitePool } from "effect-avatars"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import type { Worker } from "node:worker_threads"
import { noCensus, settledCensus } from "./census.js"
import { temporaryFile } from "./layers.js"
import { logs, makePool } from "./pool.js"

describe.concurrent("a process", () => {
  it.scopedLive("ends by itself with code 0 after the pool's scope has ended", () =>
    Effect.gen(function*() {
      const { directory, ended, line } = yield* start("end")
      assert.strictEqual(yield* line, 1)
      assert.deepStrictEqual(yield* Effect.timeout(ended, 5_000), [0, null])
      assert.deepStrictEqual(fs.readdirSync(directory), ["pool.sqlite"])
    }))

  it.scopedLive("ends after SIGINT under NodeRuntime.runMain, in a transaction too, and leaves nothing beside the file", () =>
    Effect.gen(function*() {
      const { child, directory, ended, line } = yield* start("wait")
      assert.strictEqual(yield* line, "ready")
      child.kill("SIGINT")
      assert.deepStrictEqual(yield* Effect.timeout(ended, 5_000), [0, null])
      assert.deepStrictEqual(fs.readdirSync(directory), ["pool.sqlite"])
    }))

  it.scopedLive("with an idle pool uses at most 0.1 % of a core", () =>
    Effect.gen(function*() {
      assert.isAtMost(Number(yield* (yield* start("idle")).line), 0.001)
    }))

  it.scopedLive("with a statement that never ends releases the pool after closeTimeout, fails it typed, and says so in its log", () =>
    Effect.gen(function*() {
      const { ended, line } = yield* start("endless")
      const { elapsed, logged, read } = (yield* line) as { elapsed: number; logged: Array<string>; read: Array<string> }
      assert(elapsed >= 1_000 && elapsed < 2_000, `${elapsed} ms`)
      assert.deepStrictEqual(read, ["Failure", "Fail"])
      assert.lengthOf(logged, 1)
      assert.match(logged[0]!, /'pool\.sqlite'.* 1 of its threads/)
      yield* ended
    }))
})

describe("release", () => {
  it.scopedLive("leaves no thread or file of a pool that failed or was interrupted while opening, though the scope lasts on", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(noCensus !== undefined, noCensus)
      const filename = yield* temporaryFile()
      yield* Effect.scoped(makePool())
      const before = yield* settledCensus()
      const child = new Sqlite(filename)
      child.exec("create table t (a); begin exclusive")
      for (let i = 0; i < 3; i++) {
        yield* failure(makePool({ initialSql: ["select * from nowhere"] }))
        yield* Effect.timeoutOption(makePool({ filename }), 100)
      }
      yield* Effect.sleep(200)
      child.exec("rollback").close()
      assert.deepStrictEqual(yield* settledCensus(before), before)
    }))

  it.scopedLive("does not take threads that have not come to open their connection for such as are at a statement without end", () =>
    Effect.gen(function*() {
      const ends: Array<Promise<unknown>> = []
      const onWorker = (worker: Worker) => ends.push(once(worker, "exit"))
      yield* Effect.acquireRelease(
        Effect.sync(() => process.on("worker", onWorker)),
        () => Effect.sync(() => process.off("worker", onWorker))
      )
      const logged = yield* logs
      const pool = makePool({ minReaders: 32, maxReaders: 32, closeTimeout: "1 millis" })
      const opening = yield* Effect.fork(Effect.provide(Effect.scoped(pool), logged.layer))
      yield* Effect.promise(() => once(process, "worker"))
      yield* Fiber.interrupt(opening)
      assert.deepStrictEqual(logged.lines, [])
      assert.lengthOf(ends, 33)
      yield* Effect.promise(() => Promise.all(ends))
    }))

  it.scopedLive("with 1 000 calls in flight settles each within 2 seconds, with its answer or typed; what was acknowledged is there", () =>
    Effect.gen(function*() {
      for (let round = 0; round < 5; round++) {
        const { close, filename, sql } = yield* open()
        yield* sql`create table t (a integer primary key)`
        yield* sql`insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000) select -i from n`
        const acknowledged = new Set<number>()
        const insert = (a: number) => sql`insert into t values (${a})`
        const call = (i: number): Effect.Effect<unknown, SqlError.SqlError> => {
          switch (i % 4) {
            case 0:
              return sql`select count(*) from t`
            case 1:
              return Effect.map(insert(i), () => acknowledged.add(i))
            case 2:
              return Effect.map(sql.withTransaction(insert(i)), () => acknowledged.add(i))
            default:
              return Stream.runCount(sql`select a from t`.stream)
          }
        }
        const fibers = yield* Effect.forEach(
          range(1000),
          (i) => Effect.fork(Effect.exit(Effect.suspend(() => call(i))))
        )
        yield* Effect.sleep(round * 20)
        yield* close
        const exits = yield* Effect.timeout(Fiber.join(Fiber.all(fibers)), 2_000)
        exits.forEach(isTyped)
        const stored = withSqlite(filename, (db) => db.prepare("select a from t where a >= 0").pluck().all())
        assert.sameMembers(stored, Array.from(acknowledged))
        assert.deepStrictEqual(fs.readdirSync(path.dirname(filename)), ["pool.sqlite"])
      }
    }))

  it.scopedLive("rolls back open leases; their further statements fail typed, and so does every later call", () =>
    Effect.gen(function*() {
      const { close, filename, sql } = yield* open()
      yield* sql`create table t (a)`
      yield* sql`insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) select 0 from n`
      const [inside, gate] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const wait = Effect.zipRight(Deferred.succeed(inside, undefined), Deferred.await(gate))
      const insert = sql`insert into t values (1)`
      const nested = sql.withTransaction(Effect.zipRight(insert, Effect.zipRight(wait, insert)))
      const transaction = yield* Effect.fork(Effect.asVoid(sql.withTransaction(Effect.zipRight(insert, nested))))
      const snapshot = yield* Effect.fork(Effect.asVoid(sql.snapshot(Effect.zipRight(wait, sql`select 1`))))
      const stream = yield* Effect.fork(Stream.runForEach(sql`select a from t`.stream, () => wait))
      yield* Deferred.await(inside)
      yield* Effect.sleep(50)
      yield* Effect.timeout(close, 2_000)
      yield* Deferred.succeed(gate, undefined)
      for (const fiber of [transaction, snapshot, stream]) {
        yield* failure(Fiber.join(fiber))
      }
      const later = [
        sql`select 1`,
        insert,
        sql.withTransaction(insert),
        sql.snapshot(insert),
        Effect.scoped(sql.reserve),
        Stream.runDrain(sql`select 1`.stream),
        sql.export,
        sql.backup(`${filename}.copy`),
        sql.loadExtension("/nowhere")
      ]
      for (const [index, call] of later.entries()) {
        const error = yield* failure(call)
        assert.strictEqual(DatabaseError.fromSqlError(error).reason, "ConnectionError", String(index))
      }
      assert.deepStrictEqual(withSqlite(filename, (db) => db.prepare("select a from t where a = 1").all()), [])
      assert.deepStrictEqual(fs.readdirSync(path.dirname(filename)), ["pool.sqlite"])
    }))
})

describe("a copy", () => {
  it.scopedLive("by `export` holds everything that was acknowledged, of a file and of memory", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile()
      for (const config of [{}, { filename: ":memory:" }, { disableWAL: true }]) {
        const sql = yield* makePool(config)
        yield* sql`create table t (a)`
        yield* Effect.forEach(range(100), (a) => sql`insert into t values (${a})`, { concurrency: "unbounded" })
        fs.writeFileSync(file, yield* sql.export)
        const stored = withSqlite(file, (db) => db.prepare("select a from t order by a").pluck().all())
        assert.deepStrictEqual(stored, range(100))
        fs.rmSync(file)
      }
    }))

  it.scopedLive("by `backup` is of one moment, tells its progress, and lets writes go on", () =>
    Effect.gen(function*() {
      const { close, filename, sql } = yield* open()
      yield* sql`create table t (a, b)`
      yield* sql`insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 50000) select i, hex(randomblob(60)) from n`
      const remaining: Array<number> = []
      let writes = 0
      const write = Effect.map(sql`insert into t values (0, '')`, () => void writes++)
      const writing = yield* Effect.fork(Effect.forever(write))
      const copy = `${filename}.copy`
      const done = yield* sql.backup(copy, { onProgress: ({ remainingPages }) => void remaining.push(remainingPages) })
      const during = writes
      yield* Fiber.interrupt(writing)
      assert.isAbove(during, 10)
      assert.strictEqual(done.remainingPages, 0)
      assert.isAbove(remaining.length, 1)
      assert.deepStrictEqual(remaining, remaining.toSorted((one, other) => other - one))
      withSqlite(copy, (db) => {
        assert.strictEqual(db.pragma("integrity_check", { simple: true }), "ok")
        assert.strictEqual(db.prepare("select count(*) from t where a > 0").pluck().get(), 50_000)
      })
      yield* close
      assert.deepStrictEqual(fs.readdirSync(path.dirname(filename)), ["pool.sqlite", "pool.sqlite.copy"])
    }))

  it.scopedLive("by `backup` that is under way when the scope ends fails typed, and leaves nothing beside the file", () =>
    Effect.gen(function*() {
      const { close, filename, sql } = yield* open()
      yield* sql`create table t as with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000) select hex(randomblob(60)) from n`
      const begun = yield* Deferred.make<void>()
      const onProgress = () => Effect.runSync(Deferred.succeed(begun, undefined))
      const copying = yield* Effect.fork(Effect.exit(sql.backup(`${filename}.copy`, { onProgress })))
      yield* Deferred.await(begun)
      yield* close
      isTyped(yield* Effect.timeout(Fiber.join(copying), 2_000))
      assert.notIncludeMembers(fs.readdirSync(path.dirname(filename)), ["pool.sqlite-wal", "pool.sqlite-shm"])
    }))

  it.scopedLive("of memory goes to a file, and one to a missing directory fails typed, as a missing extension does", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile("copy.sqlite")
      for (const config of [{ filename: ":memory:" }, {}]) {
        const sql = yield* makePool(config)
        yield* sql`create table t as select 1 as a`
        assert.strictEqual((yield* sql.backup(file)).remainingPages, 0)
        assert.deepStrictEqual(withSqlite(file, (db) => db.prepare("select a from t").pluck().all()), [1])
        for (const call of [sql.backup("/nowhere/copy.sqlite"), sql.loadExtension("/nowhere/extension.so")]) {
          assert.notInclude(DatabaseError.fromSqlError(yield* failure(call)).message, "select")
        }
        assert.deepStrictEqual(yield* sql`select a from t`, [{ a: 1 }])
      }
    }))
})

const range = (count: number) => Array.from({ length: count }, (_, i) => i)

const withSqlite = <A>(file: string, use: (db: Sqlite.Database) => A): A => {
  const db = new Sqlite(file)
  try {
    return use(db)
  } finally {
    db.close()
  }
}

/** A pool with a scope that the test closes. */
const open = (config: Partial<SqlitePool.SqlitePoolConfig> = {}) =>
  Effect.gen(function*() {
    const filename = yield* temporaryFile("pool.sqlite")
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const sql = yield* Scope.extend(makePool({ ...config, filename }), scope)
    return { close: Scope.close(scope, Exit.void), filename, sql }
  })

/** It answered, or failed with a failure of its type. */
const isTyped = (exit: Exit.Exit<unknown, unknown>) => {
  if (Exit.isFailure(exit)) {
    assert(Cause.isFailType(exit.cause), Cause.pretty(exit.cause))
    assert.instanceOf(exit.cause.error, SqlError.SqlError)
  }
}

const failure = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.exit(effect), (exit) => {
    assert(Exit.isFailure(exit), "it succeeded")
    isTyped(exit)
    return Cause.squash(exit.cause) as SqlError.SqlError
  })

/** Starts the fixture's program, which runs until the scope ends; `line` is what it prints. */
const start = (mode: string) =>
  Effect.gen(function*() {
    const file = yield* temporaryFile("pool.sqlite")
    const script = fileURLToPath(new URL("fixtures/pool-process.mjs", import.meta.url))
    const child = spawn(process.execPath, [script, mode, file], { stdio: ["ignore", "pipe", "inherit"] })
    const closed = once(child, "close")
    yield* Effect.addFinalizer(() => Effect.promise(() => (child.kill("SIGKILL"), closed)))
    return {
      child,
      directory: path.dirname(file),
      ended: Effect.promise(() => closed),
      line: Effect.promise(() => once(child.stdout, "data").then(([data]) => JSON.parse(String(data)) as unknown))
    }
  })

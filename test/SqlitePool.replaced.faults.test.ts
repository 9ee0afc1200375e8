import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import type { SqlConnection } from "@effect/sql"
import { Effect, Exit, Fiber, Schedule, Stream } from "effect"
import { DatabaseError, type SqlitePool } from "effect-avatars"
import * as fs from "node:fs"
import * as path from "node:path"
import { temporaryFile } from "./layers.js"
import { failure, makePool } from "./pool.js"

type Fault = readonly [name: string, fault: (file: string) => void, undo?: ((file: string) => void) | undefined]

/** What may befall the file of a pool that is open, and what undoes it, where that can be undone. */
const faults: ReadonlyArray<Fault> = [
  ["deleted", (file) => fs.unlinkSync(file)],
  ["deleted with all beside it", (file) => beside(file).forEach((each) => fs.unlinkSync(each))],
  ["deleted with its directory", (file) => fs.rmSync(path.dirname(file), { recursive: true })],
  [
    "moved away",
    (file) => fs.renameSync(file, `${file}.away`),
    (file) => fs.renameSync(`${file}.away`, file)
  ],
  [
    "moved away with its directory",
    (file) => fs.renameSync(path.dirname(file), `${path.dirname(file)}.away`),
    (file) => fs.renameSync(`${path.dirname(file)}.away`, path.dirname(file))
  ],
  [
    "replaced by another database",
    (file) => {
      fs.renameSync(file, `${file}.away`)
      other(`${file}.new`)
      fs.renameSync(`${file}.new`, file)
    },
    (file) => fs.renameSync(`${file}.away`, file)
  ],
  [
    "replaced by a copy of itself",
    (file) => {
      fs.renameSync(file, `${file}.away`)
      fs.copyFileSync(`${file}.away`, file)
    },
    (file) => fs.renameSync(`${file}.away`, file)
  ]
]

for (const [name, fault, undo] of faults) {
  describe(`a file that is ${name} while it is open`, () => {
    const modes = { "in WAL mode": {}, "on one connection": { disableWAL: true, acquireTimeout: "3 seconds" } } as const
    for (const [mode, config] of Object.entries(modes)) {
      it.scopedLive(`fails each write and each read typed, until it is there again (${mode})`, () =>
        Effect.gen(function*() {
          const { filename, sql } = yield* open({ minReaders: 4, ...config })
          yield* insert(sql, 1)
          fault(filename)
          for (let round = 0; round < 2; round++) {
            yield* gone(insert(sql, 2))
            yield* Effect.forEach(numbers(20), (i) => gone(insert(sql, 10 + i)), { concurrency: "unbounded" })
            yield* gone(sql.withTransaction(insert(sql, 3)))
            yield* gone(sql`create table u (n)`)
            yield* gone(sql`insert into t values (4) returning n`)
            yield* gone(Stream.runCollect(sql`insert into t values (5) returning n`.stream))
            yield* gone(
              Effect.scoped(
                Effect.flatMap(sql.reserve, (own) => own.execute("insert into t values (6)", [], undefined))
              )
            )
            yield* gone(sql`vacuum`)
            // What is kept ready for a moment has passed.
            yield* Effect.sleep(110)
            yield* Effect.forEach(numbers(8), () => gone(sql`select n from t`), { concurrency: "unbounded" })
          }
          const copy = path.join(path.dirname(yield* temporaryFile()), "copy")
          const late = [sql.snapshot(stored(sql)), Stream.runDrain(sql`select n from t`.stream), sql.backup(copy)]
          yield* Effect.forEach(late, gone, { concurrency: "unbounded" })
          if (undo !== undefined) {
            undo(filename)
            assert.deepStrictEqual(yield* stored(sql), [1])
            yield* insert(sql, 2)
            yield* sql.withTransaction(insert(sql, 3))
            assert.deepStrictEqual(yield* stored(sql), [1, 2, 3])
            assert.strictEqual(yield* soon(Stream.runCount(sql`select n from t`.stream)), 3)
            assert.strictEqual((yield* sql.stats).pending, 0)
          }
        }))
    }

    it.scopedLive("fails a transaction that is open, and nothing of it is stored", () =>
      Effect.gen(function*() {
        const { filename, sql } = yield* open()
        yield* insert(sql, 1)
        yield* gone(sql.withTransaction(Effect.gen(function*() {
          yield* insert(sql, 2)
          fault(filename)
          yield* insert(sql, 3)
        })))
        yield* gone(Effect.scoped(Effect.gen(function*() {
          const own = yield* sql.reserve
          yield* own.execute("begin", [], undefined)
          yield* own.execute("insert into t values (4)", [], undefined)
          yield* own.execute("commit", [], undefined)
        })))
        if (undo !== undefined) {
          undo(filename)
          assert.deepStrictEqual(yield* stored(sql), [1])
        }
      }))

    it.scopedLive("is not opened by a connection that comes later", () =>
      Effect.gen(function*() {
        const { filename, sql } = yield* open({ acquireTimeout: "2 seconds" })
        yield* insert(sql, 1)
        const began = yield* Effect.makeLatch()
        const reads = Effect.zipRight(Effect.tap(stored(sql), began.open), Effect.delay(stored(sql), 300))
        const before = yield* Effect.fork(sql.snapshot(reads))
        yield* began.await
        fault(filename)
        // Beside the snapshot they need further readers; a connection that was changed is opened anew.
        yield* Effect.forEach(numbers(3), () => gone(sql.snapshot(stored(sql))), { concurrency: "unbounded" })
        const change = (own: SqlConnection.Connection) => own.execute("pragma cache_size = 7", [], undefined)
        yield* Effect.scoped(Effect.flatMap(sql.reserve, change))
        yield* gone(insert(sql, 2))
        assert.deepStrictEqual(yield* Fiber.join(before), [1])
        if (undo !== undefined) {
          undo(filename)
          yield* soon(insert(sql, 2))
          assert.deepStrictEqual(yield* soon(sql.snapshot(stored(sql))), [1, 2])
        }
      }), 30_000)
  })
}

it.scopedLive("of writes around the deletion of their file each that was acknowledged before it is in the file", () =>
  Effect.gen(function*() {
    for (let round = 0; round < 10; round++) {
      const { filename, sql } = yield* open()
      const link = `${filename}.link`
      fs.linkSync(filename, link)
      const acknowledged = new Set<number>()
      const fibers = yield* Effect.forEach(
        numbers(2_000),
        (n) => Effect.fork(Effect.exit(Effect.map(insert(sql, n), () => acknowledged.add(n))))
      )
      yield* Effect.sleep(round * 3)
      fs.unlinkSync(filename)
      const exits = yield* Effect.forEach(fibers, Fiber.join)
      const certain = new Set<number>()
      for (const [n, exit] of exits.entries()) {
        if (Exit.isFailure(exit)) {
          const error = yield* failure(exit)
          assert.strictEqual(error.code, "SQLITE_READONLY_DBMOVED")
          if (error.outcome !== "unknown") {
            certain.add(n)
          }
        }
      }
      // The pool's own WAL belongs to the name that is gone: the name that is left has it put beside it.
      beside(filename).forEach((file) => fs.copyFileSync(file, file.replace(filename, link)))
      const found = new Set(withSqlite(link, (db) => db.prepare<[], number>("select n from t").pluck().all()))
      assert.deepStrictEqual(Array.from(acknowledged).filter((n) => !found.has(n)), [])
      assert.deepStrictEqual(Array.from(certain).filter((n) => found.has(n)), [])
    }
  }))

describe("a file that is cut short while it is open", () => {
  for (const size of [0, 1_000, 4_096, 10_000]) {
    it.scopedLive(`to ${size} bytes leaves every call its answer or a typed failure, and the process alive`, () =>
      Effect.gen(function*() {
        const { filename, sql } = yield* open({ minReaders: 3 })
        yield* sql`insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) select i from n`
        yield* sql`pragma wal_checkpoint(truncate)`
        fs.truncateSync(filename, size)
        const calls: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
          sql`select count(*) from t`,
          sql`select n from t where n = 15000`,
          insert(sql, 100_000),
          sql.withTransaction(insert(sql, 100_001)),
          sql.snapshot(sql`select sum(n) from t`),
          Stream.runDrain(sql`select n from t`.stream),
          sql`create table u (n)`,
          sql`pragma wal_checkpoint`,
          sql`vacuum`
        ]
        const exits = yield* Effect.timeout(
          Effect.forEach([...calls, ...calls], Effect.exit, { concurrency: "unbounded" }),
          "20 seconds"
        )
        const failures = yield* Effect.forEach(exits.filter(Exit.isFailure), failure)
        assert.isAbove(failures.length, 0)
        failures.forEach(({ message }) => assert.match(message, /^[A-Z][^\n]*\.$/))
      }))
  }
})

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i)

const beside = (file: string) => [file, `${file}-wal`, `${file}-shm`].filter((each) => fs.existsSync(each))

const withSqlite = <A>(file: string, use: (db: Sqlite.Database) => A): A => {
  const db = new Sqlite(file)
  try {
    return use(db)
  } finally {
    db.close()
  }
}

/** A database of the same schema with rows that must not be seen. */
const other = (file: string) =>
  withSqlite(file, (db) => db.exec("create table t (n integer primary key); insert into t values (666)"))

/** A pool in a directory that the test may move, with a table. */
const open = (config: Partial<SqlitePool.SqlitePoolConfig> = {}) =>
  Effect.gen(function*() {
    const directory = path.join(path.dirname(yield* temporaryFile()), "of its own")
    fs.mkdirSync(directory)
    const filename = path.join(directory, "pool.sqlite")
    const sql = yield* makePool({ ...config, filename })
    yield* sql`create table t (n integer primary key)`
    return { filename, sql }
  })

const insert = (sql: SqlitePool.SqlitePool, n: number) => sql`insert into t values (${n})`

const stored = (sql: SqlitePool.SqlitePool) =>
  Effect.map(sql<{ readonly n: number }>`select n from t order by n`, (rows) => rows.map(({ n }) => n))

/** A thread that could not open the file tries again once a second. */
const soon = Effect.retry({ times: 30, schedule: Schedule.spaced(100) })

/** It says that the file is not there any more, and that nothing was changed. */
const gone = (asked: Effect.Effect<unknown, unknown>) =>
  Effect.map(failure(asked), (error) => {
    assert.instanceOf(error, DatabaseError.DatabaseError)
    assert.strictEqual(error.reason, "ConnectionError", error.message)
    assert.isUndefined(error.outcome)
    assert.match(error.message, /the database file was deleted or moved|the file cannot be opened/)
  })

import { SqlClient, SqlError } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it, type TestContext } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Cause, Config, ConfigError, ConfigProvider, Context, Duration, Effect, Layer, Stream } from "effect"
import { DatabaseError, SqlitePool } from "effect-avatars"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { temporaryFile } from "./layers.js"
import { makePool } from "./pool.js"

describe("opening", () => {
  it.scopedLive("fails typed where the path is a directory, is no database, is in none, is in a file, or is too long", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const at = (...names: ReadonlyArray<string>) => path.join(directory, ...names)
      fs.writeFileSync(at("junk"), "no database".repeat(100))
      for (const filename of [directory, at("junk"), at("none", "a"), at("junk", "a"), at("x".repeat(300))]) {
        yield* refuses({ filename })
        yield* refuses({ filename, readonly: true })
        yield* refuses({ filename, disableWAL: true })
      }
      assert.deepStrictEqual(fs.readdirSync(directory), ["junk"])
    }))

  it.scopedLive("fails typed where this user has no permission for the file or for its directory", (ctx) =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const [closed, unreadable] = [path.join(directory, "closed"), path.join(directory, "unreadable")]
      fs.mkdirSync(closed)
      makeTable(path.join(closed, "a.sqlite"))
      makeTable(unreadable)
      fs.chmodSync(closed, 0o000)
      fs.chmodSync(unreadable, 0o000)
      fs.chmodSync(directory, 0o555)
      yield* Effect.addFinalizer(() => Effect.sync(() => [directory, closed].forEach((it) => fs.chmodSync(it, 0o700))))
      for (const filename of [path.join(closed, "a.sqlite"), unreadable, path.join(directory, "fresh")]) {
        yield* asNobody(ctx, Effect.zipRight(refuses({ filename }), refuses({ filename, readonly: true })))
      }
    }))

  it.scopedLive("fails typed where another process keeps the file locked for longer than busyTimeout", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile()
      makeTable(filename)
      yield* Effect.asVoid(lock(filename))
      for (const readonly of [false, true]) {
        const [elapsed, error] = yield* Effect.timed(refuses({ filename, readonly, busyTimeout: 200 }))
        assert.deepInclude(error, { reason: "LockTimeoutError", isRetryable: true })
        assert(Duration.between(elapsed, { minimum: "200 millis", maximum: "2 seconds" }), Duration.format(elapsed))
      }
    }))

  it.scopedLive("waits for another process's lock, and can be interrupted meanwhile", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile()
      makeTable(filename)
      const unlock = yield* lock(filename)
      const opening = Effect.scoped(Effect.flatMap(makePool({ filename }), (sql) => sql`select * from t`))
      assert.strictEqual((yield* Effect.timeoutOption(opening, 100))._tag, "None")
      const [rows] = yield* Effect.all([opening, Effect.delay(unlock, 300)], { concurrency: 2 })
      assert.deepStrictEqual(rows, [])
    }))

  it.scopedLive("fails typed where an option fails on the connection, with a sentence that names the option", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile()
      const options = { initialSql: "select * from nowhere", pragmas: "cache_size =", extensions: "/nowhere/it.so" }
      for (const [option, value] of Object.entries(options)) {
        assert.include((yield* refuses({ filename, [option]: [value] })).message, option)
      }
    }))

  it.scopedLive("takes an empty file for a new database, and makes it one in WAL mode", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile()
      fs.writeFileSync(filename, "")
      yield* Effect.scoped(Effect.flatMap(makePool({ filename }), (sql) => sql`create table t (a)`))
      const db = new Sqlite(filename)
      assert.deepStrictEqual(db.pragma("journal_mode", { simple: true }), "wal")
      assert.deepStrictEqual(db.prepare("select name from sqlite_schema").pluck().all(), ["t"])
      db.close()
    }))

  it.scopedLive("fails typed for a relative filename where the working directory is gone", () =>
    Effect.gen(function*() {
      const directory = path.join(yield* tempDirectory, "gone")
      fs.mkdirSync(directory)
      const before = process.cwd()
      yield* Effect.addFinalizer(() => Effect.sync(() => process.chdir(before)))
      process.chdir(directory)
      fs.rmdirSync(directory)
      yield* refuses({ filename: "relative.sqlite" })
    }))
})

describe("a value out of bounds", () => {
  const times = [-1, Number.NaN, Number.POSITIVE_INFINITY, "25 days"]
  const bad: Record<string, ReadonlyArray<unknown>> = {
    minReaders: [0, 1.5, Number.NaN, 65],
    maxReaders: [1, 2.5, Number.POSITIVE_INFINITY, 65],
    maxQueue: [0, -1, 0.5, 10_000_001],
    prepareCacheSize: [-1, 1.5, 1_000_000_001],
    synchronous: ["FULL", ""],
    readerIdleTimeout: times,
    acquireTimeout: times,
    statementTimeout: times,
    closeTimeout: times,
    busyTimeout: times,
    prepareCacheTTL: [-1, Number.NaN]
  }
  for (const [option, values] of Object.entries(bad)) {
    it.scopedLive(`of ${option} is a typed failure that names it, and makes no file`, () =>
      Effect.gen(function*() {
        const directory = yield* tempDirectory
        for (const value of values) {
          const { message } = yield* typed(makePool({ filename: path.join(directory, "a"), [option]: value }))
          assert.include(message, option, String(value))
        }
        assert.deepStrictEqual(fs.readdirSync(directory), [])
      }))
  }

  it.scopedLive("is told together with all others, also of options that contradict each other", () =>
    Effect.gen(function*() {
      const { message } = yield* typed(makePool({ filename: " a", minReaders: 9, maxReaders: 2, maxQueue: 0 }))
      assert.match(message, /maxQueue.*minReaders \(9\).*maxReaders \(2\).*filename/)
      assert.match((yield* typed(makePool({ filename: "", readonly: true }))).message, /readonly/)
    }))
})

describe("an option", () => {
  it.scopedLive("`pragmas` and one `initialSql` hold on every connection, also on one that is opened anew", () =>
    Effect.gen(function*() {
      const pool = yield* makePool({
        pragmas: ["cache_size = 77", "recursive_triggers = on"],
        initialSql: ["create temp table mine as select 5 as a", "insert into mine values (6)"]
      })
      const expected = onAll([[77, 1, 11]])
      const query =
        "select cache_size, recursive_triggers, (select sum(a) from mine) from pragma_cache_size, pragma_recursive_triggers"
      assert.deepStrictEqual(yield* onEach(pool, query), expected)
      for (const change of ["drop table temp.mine", "pragma cache_size = 1"]) {
        yield* Effect.scoped(Effect.flatMap(pool.reserve, (it) => it.execute(change, [], undefined)))
      }
      assert.deepStrictEqual(yield* onEach(pool, query), expected)
    }))

  it.scopedLive("`synchronous` holds on every connection, before and after writes; its default is full", () =>
    Effect.gen(function*() {
      for (const [index, synchronous] of [undefined, "off", "normal", "full", "extra"].entries()) {
        const pool = yield* makePool({ synchronous } as Partial<SqlitePool.SqlitePoolConfig>)
        const expected = onAll([[[2, 0, 1, 2, 3][index]]])
        for (const write of ["create table t (a)", "insert into t values (1)", "delete from t"]) {
          assert.deepStrictEqual(yield* onEach(pool, "select * from pragma_synchronous"), expected)
          yield* pool.unsafe(write)
        }
      }
    }))

  it.scopedLive("`synchronous` full is SQLite's EXTRA where there is no write-ahead log", () =>
    Effect.gen(function*() {
      for (const [index, synchronous] of [undefined, "off", "normal", "full", "extra"].entries()) {
        const pool = yield* makePool({ synchronous, disableWAL: true } as Partial<SqlitePool.SqlitePoolConfig>)
        assert.deepStrictEqual(yield* pool`select * from pragma_synchronous`.values, [[[3, 0, 1, 3, 3][index]]])
      }
    }))

  it.scopedLive("`readonly` makes no file, reads what another pool writes, refuses every write and leaves the file alone", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile()
      yield* refuses({ filename, readonly: true })
      const writing = yield* makePool({ filename })
      yield* writing`create table t (a)`
      const pool = yield* makePool({ filename, readonly: true })
      yield* writing`insert into t values (1)`
      assert.deepStrictEqual(yield* pool`select a from t`, [{ a: 1 }])
      assert.deepStrictEqual(yield* pool.withTransaction(pool`select a from t`), [{ a: 1 }])
      for (const write of ["insert into t values (2)", "drop table t", "create table u (a)", "vacuum"]) {
        const statement = pool.unsafe(write)
        for (const run of [statement, pool.withTransaction(statement), statement.unprepared]) {
          assert.strictEqual((yield* typed(run)).reason, "AuthorizationError", write)
        }
      }
      assert.deepStrictEqual(yield* writing`select a from t`, [{ a: 1 }])
    }))

  const single: Record<string, Partial<SqlitePool.SqlitePoolConfig>> = {
    disableWAL: { disableWAL: true },
    "filename `:memory:`": { filename: ":memory:" },
    "filename ``": { filename: "" }
  }
  for (const [name, config] of Object.entries(single)) {
    it.scopedLive(`${name} means one connection, on which everything works`, () =>
      Effect.gen(function*() {
        const sql = yield* makePool(config)
        yield* sql`create table t (a integer primary key)`
        yield* sql.withTransaction(Effect.gen(function*() {
          yield* sql`insert into t values (1)`
          yield* Effect.ignore(sql.withTransaction(Effect.zipRight(sql`insert into t values (2)`, Effect.fail("undo"))))
          yield* sql.withTransaction(sql`insert into t values (3)`)
        }))
        yield* Effect.ignore(sql.withTransaction(Effect.zipRight(sql`insert into t values (4)`, Effect.fail("undo"))))
        yield* Effect.forEach([5, 6, 7], (a) => sql`insert into t values (${a})`, { concurrency: "unbounded" })
        const rows = [1, 3, 5, 6, 7].map((a) => ({ a }))
        assert.deepStrictEqual(yield* sql`select a from t`, rows)
        assert.deepStrictEqual(Array.from(yield* Stream.runCollect(sql`select a from t`.stream)), rows)
        assert.deepStrictEqual(yield* sql.snapshot(sql`select a from t`), rows)
        yield* typed(sql.snapshot(sql`delete from t`))
        assert.deepStrictEqual(yield* sql`select a from t`, rows)
        assert.notStrictEqual((yield* sql`pragma journal_mode`.values)[0]?.[0], "wal")
        const { pending, readers, writer } = yield* sql.stats
        assert.deepStrictEqual([pending, readers.open, writer.open], [0, 0, 1])
      }))
  }

  it.scopedLive("`prepareCacheSize` bounds what is kept and not how many texts are asked for at once", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ prepareCacheSize: 3 })
      yield* sql`create table t (a)`
      const numbers = Array.from({ length: 500 }, (_, i) => i)
      for (let round = 0; round < 2; round++) {
        yield* Effect.forEach(numbers, (i) => sql.unsafe(`insert into t values (${i})`), { concurrency: "unbounded" })
        const read = (i: number) => sql.unsafe(`select a as n${i} from t where a = ${i} limit 1`)
        const rows = yield* Effect.forEach(numbers, read, { concurrency: "unbounded" })
        assert.deepStrictEqual(rows, numbers.map((i) => [{ [`n${i}`]: i }]))
      }
    }))

  it.scopedLive("comes from the configuration with `layerConfig`, which fails with a ConfigError where one is missing", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile()
      const layer = SqlitePool.layerConfig({ filename: Config.string("FILE"), maxReaders: Config.integer("READERS") })
      const build = (entries: ReadonlyArray<readonly [string, string]>) =>
        Effect.withConfigProvider(Layer.build(layer), ConfigProvider.fromMap(new Map(entries)))
      const services = yield* build([["FILE", filename], ["READERS", "7"]])
      const pool = Context.get(services, SqlitePool.SqlitePool)
      assert.strictEqual((yield* pool.stats).readers.max, 7)
      assert.strictEqual(Context.get(services, SqlClient.SqlClient), pool)
      assert.strictEqual(Context.get(services, SqliteClient.SqliteClient), pool)
      assert.isTrue(ConfigError.isConfigError(yield* failure(build([["FILE", filename]]))))
      assert.instanceOf(yield* failure(build([["FILE", filename], ["READERS", "1"]])), SqlError.SqlError)
    }))
})

const tempDirectory = Effect.map(temporaryFile(), (file) => fs.realpathSync(path.dirname(file)))

/** What an effect fails with: a failure of its type, no defect. */
const failure = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(Effect.sandbox(effect)), (cause) => {
    assert(Cause.isFailType(cause), Cause.pretty(cause))
    return cause.error
  })

const typed = <A, R>(effect: Effect.Effect<A, SqlError.SqlError, R>) =>
  Effect.map(failure(effect), (error) => {
    assert.instanceOf(error, SqlError.SqlError)
    return DatabaseError.fromSqlError(error)
  })

/** How a pool does not open: in one sentence that names the file. */
const refuses = (config: Partial<SqlitePool.SqlitePoolConfig> & { readonly filename: string }) =>
  Effect.map(typed(Effect.scoped(makePool(config))), (error) => {
    assert.strictEqual(error.operation, "connect", error.message)
    assert.match(error.message, /^The [^\n]*\.$/)
    assert.include(error.message, config.filename)
    return error
  })

/** What a query answers on the writer and on three readers at once. */
const onEach = (pool: SqlitePool.SqlitePool, query: string) =>
  Effect.gen(function*() {
    const all = yield* Effect.makeLatch()
    let count = 0
    const meet = Effect.suspend(() => ++count === 3 ? all.open : all.await)
    const reader = pool.snapshot(Effect.tap(pool.unsafe(query).values, () => meet))
    const readers = yield* Effect.all([reader, reader, reader], { concurrency: "unbounded" })
    return [yield* pool.withTransaction(pool.unsafe(query).values), ...readers]
  })

const onAll = (rows: unknown) => Array.from({ length: 4 }, () => rows)

const makeTable = (file: string) => new Sqlite(file).exec("create table t (a)").close()

/** Runs an effect as a user whom permissions hold for. */
const asNobody = <A, E>(ctx: TestContext, effect: Effect.Effect<A, E>): Effect.Effect<A, E> => {
  ctx.skip(process.getuid?.() !== 0, "only root can become another user")
  return Effect.acquireUseRelease(
    Effect.sync(() => process.seteuid!(65534)),
    () => effect,
    () => Effect.sync(() => process.seteuid!(0))
  )
}

/** Another process locks the file until the effect that this answers, or the end of the scope. */
const lock = (file: string) =>
  Effect.gen(function*() {
    const script = fileURLToPath(new URL("fixtures/lockDatabase.mjs", import.meta.url))
    const child = spawn(process.execPath, [script, file, "60000"], { stdio: ["ignore", "pipe", "inherit"] })
    const closed = once(child, "close")
    const unlock = Effect.promise(() => (child.kill(), closed))
    yield* Effect.addFinalizer(() => unlock)
    yield* Effect.promise(() => once(child.stdout, "data"))
    return unlock
  })

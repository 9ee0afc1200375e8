/** What a pool is given: options, statements and their values, of all types. It answers or refuses typed, and goes on. */
import { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, FastCheck, Layer, Option, Stream } from "effect"
import type { Scope } from "effect"
import { DatabaseError } from "effect-avatars"
import type { SqlitePool } from "effect-avatars"
import { temporaryFile } from "../layers.js"
import { makePool } from "../pool.js"
import { trials } from "../trials.js"
import { counterexample, holds } from "./claims.js"
import { anything, bindable, number, statement, text } from "./inputs.js"

type Pool = SqlitePool.SqlitePool

/** What it succeeds with, if it does; where it does not it fails with a `SqlError`, which is classified. */
const settled = <A, R>(effect: Effect.Effect<A, unknown, R>): Effect.Effect<Option.Option<A>, never, R> =>
  Effect.map(Effect.exit(effect), (exit) => {
    if (Exit.isSuccess(exit)) {
      return Option.some(exit.value)
    }
    const error = Option.getOrUndefined(Cause.failureOption(exit.cause))
    assert(error instanceof SqlError.SqlError, Cause.pretty(exit.cause))
    assert.match(DatabaseError.fromSqlError(error).message, /^[A-Z][^]*[.?]$/)
    return Option.none()
  })

const options = [
  ..."filename readonly disableWAL minReaders maxReaders readerIdleTimeout acquireTimeout statementTimeout".split(" "),
  ..."closeTimeout maxQueue busyTimeout synchronous pragmas initialSql extensions poolName prepareCacheSize".split(" "),
  ..."prepareCacheTTL spanAttributes transformQueryNames transformResultNames".split(" ")
]

const optionValue: FastCheck.Arbitrary<unknown> = FastCheck.oneof(
  anything,
  number,
  FastCheck.integer({ min: 0, max: 70 }),
  FastCheck.constantFrom("2 seconds", "-1 seconds", "1.5 nanos", "Infinity", "full", "", ":memory:", true, false),
  FastCheck.array(FastCheck.oneof(anything, FastCheck.constantFrom("foreign_keys = on", "select 1", "")), {
    maxLength: 2
  })
)

const config = FastCheck.dictionary(FastCheck.constantFrom(...options), optionValue, {
  maxKeys: 3,
  noNullPrototype: true
})

/** A relative or absolute path would make a file where it leads. */
const isElsewhere = ({ filename }: Readonly<Record<string, unknown>>) =>
  typeof filename !== "string" || filename === "" || filename.includes("\0") || filename !== filename.trim()

type Make = (config: Record<string, unknown>) => Effect.Effect<Pool, unknown, Scope.Scope>

const make: Make = (config) => makePool(config)

/** A pool of such options opens and answers, or does not open; a statement may be too late for its timeouts. */
const opens = (make: Make) => (config: Readonly<Record<string, unknown>>) =>
  Effect.scoped(Effect.gen(function*() {
    const filename = isElsewhere(config) && "filename" in config ? config["filename"] : ":memory:"
    const pool = yield* settled(make({ ...config, filename }))
    if (Option.isSome(pool)) {
      const rows = yield* settled(pool.value.unsafe("select 1 as a").values)
      assert.deepStrictEqual(Option.getOrElse(rows, () => [[1]]), [[1]])
    }
  }))

describe("options of a pool", () => {
  const few = 400
  it.live("of any type open it or are refused typed", () =>
    trials("fuzz options", { few, many: 10 * few }, (seed, count) => holds(config, opens(make), seed, count)))

  it.live("of any type find a check that dies of a bigint", () =>
    Effect.gen(function*() {
      const dying: Make = (config) =>
        typeof config["maxReaders"] === "bigint" ? Effect.die(new TypeError("mixed")) : make(config)
      assert.isDefined(yield* counterexample(config, opens(dying), few))
    }))
})

class Target extends Context.Tag("test/fuzz/pool/Target")<Target, Pool>() {}

const target = (options: Partial<SqlitePool.SqlitePoolConfig> = {}) =>
  Layer.scoped(
    Target,
    Effect.gen(function*() {
      const filename = yield* temporaryFile()
      const pool = yield* makePool({ filename, synchronous: "off", prepareCacheSize: 50, ...options })
      yield* pool`create table users (login text not null primary key, name, forname)`
      return pool
    })
  ).pipe(Layer.orDie)

type Run = (pool: Pool, sql: string, values: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>

const ways = {
  rows: (pool, sql, values) => pool.unsafe(sql, values),
  values: (pool, sql, values) => pool.unsafe(sql, values).values,
  raw: (pool, sql, values) => pool.unsafe(sql, values).raw,
  unprepared: (pool, sql, values) => pool.unsafe(sql, values).unprepared,
  stream: (pool, sql, values) => Stream.runCollect(Stream.take(pool.unsafe(sql, values).stream, 10)),
  transaction: (pool, sql, values) => pool.withTransaction(pool.unsafe(sql, values)),
  snapshot: (pool, sql, values) => pool.snapshot(pool.unsafe(sql, values)),
  reserved: (pool, sql, values) =>
    Effect.scoped(Effect.flatMap(pool.reserve, (one) => one.execute(sql, values, undefined)))
} satisfies Record<string, Run>

type Way = keyof typeof ways
type Ways = Readonly<Record<Way, Run>>

/** What runs for long, takes much memory, or makes another file. */
const isCostly = (sql: string) => /recursive|zeroblob|attach|vacuum[^]*into|\d{6}|\de\d|0x/i.test(sql)

const asked = FastCheck.record({
  sql: statement.filter((sql) => !isCostly(sql)),
  values: FastCheck.array(FastCheck.oneof(anything, bindable), { maxLength: 5 }),
  way: FastCheck.constantFrom(...Object.keys(ways) as Array<Way>)
})

let mark = 0

/** All are asked for at once; then what is written is seen by everybody, so that no connection was left in a transaction. */
const goesOn = (ways: Ways) => (batch: ReadonlyArray<Asked>) =>
  Effect.gen(function*() {
    const pool = yield* Target
    const run = ({ sql, values, way }: Asked) => settled(ways[way](pool, sql, values))
    yield* Effect.forEach(batch, run, { concurrency: "unbounded" })
    yield* pool`create table if not exists marks (mark)`
    mark += 1
    yield* pool`insert into marks values (${mark})`
    assert.deepStrictEqual(yield* pool`select max(mark) as mark from marks`, [{ mark }])
    assert.deepStrictEqual(
      yield* pool`select foreign_keys, query_only from pragma_foreign_keys, pragma_query_only`.values,
      [[1, 1]]
    )
    const { abandoned, deaths, pending, readers, writer } = yield* pool.stats
    assert.deepStrictEqual([abandoned, deaths, pending, readers.leased, writer.leased], [0, 0, 0, 0, 0])
  })

interface Asked {
  readonly sql: string
  readonly values: ReadonlyArray<unknown>
  readonly way: Way
}

const batch = FastCheck.array(asked, { minLength: 20, maxLength: 20 })

describe("statements", () => {
  const few = 150
  it.live("of any text and any values are answered or refused typed, twenty at once, and the pool goes on", () =>
    Effect.provide(
      trials(
        "fuzz statements",
        { few, many: 10 * few },
        (seed, count) => Effect.as(holds(batch, goesOn(ways), seed, count), { inputs: 20 * count })
      ),
      target()
    ))

  it.live("find a pool whose statements may begin a transaction for everybody", () =>
    Effect.gen(function*() {
      const open: Run = (pool, sql, values) =>
        /^\W*begin/i.test(sql)
          ? Effect.asVoid(pool.reserve.pipe(
            Effect.tap((one) => one.executeRaw("begin immediate", [])),
            Effect.zipRight(Effect.never),
            Effect.scoped,
            Effect.forkDaemon
          ))
          : ways.rows(pool, sql, values)
      assert.isDefined(yield* counterexample(batch, goesOn({ ...ways, rows: open }), few))
    }).pipe(Effect.provide(target({ acquireTimeout: "1 second" }))))
})

/** Half a character is no text of Unicode. */
const value = FastCheck.oneof(bindable, text).filter((value) => typeof value !== "string" || value.isWellFormed())

/** What a value is after SQLite has kept it. */
const kept = (value: unknown): unknown =>
  typeof value === "number" && Number.isNaN(value)
    ? null
    : typeof value === "bigint"
    ? Number(value)
    : plain(value)

/** Blobs by their bytes, and zero without its sign. */
const plain = (value: unknown): unknown => value instanceof Uint8Array ? [...value] : value === 0 ? 0 : value

/** Stored by the writer, and read by it and by the readers. */
const areKept = (alter: (value: unknown) => unknown) => (values: ReadonlyArray<unknown>) =>
  Effect.gen(function*() {
    const pool = yield* Target
    yield* pool`create table if not exists kept (i integer primary key, value)`
    yield* pool`delete from kept`
    const stored = yield* Effect.forEach(values, (value, i) =>
      pool.unsafe("insert into kept values (?, ?) returning value", [i, alter(value) as never]).values, {
      concurrency: "unbounded"
    })
    const read = yield* pool`select value from kept order by i`.values
    const expected = values.map((value) => [kept(value)])
    assert.deepStrictEqual(
      stored.flat().map((row) =>
        row.map(plain)
      ),
      expected
    )
    assert.deepStrictEqual(read.map((row) => row.map(plain)), expected)
  })

const values = FastCheck.array(value, { minLength: 40, maxLength: 40, size: "max" })

describe("values that SQLite can hold", () => {
  const few = 60
  it.live("come back as they were bound", () =>
    Effect.provide(
      trials("fuzz values", { few, many: 10 * few }, (seed, count) =>
        Effect.as(
          holds(
            values,
            areKept((value) => value),
            seed,
            count
          ),
          { inputs: 40 * count }
        )),
      target()
    ))

  it.live("find a pool that cuts texts at U+0000", () =>
    Effect.gen(function*() {
      const cut = (value: unknown) => typeof value === "string" ? value.replace(/\0.*$/s, "") : value
      assert.isDefined(yield* counterexample(values, areKept(cut), few))
    }).pipe(Effect.provide(target())))
})

import { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect, Either, Fiber } from "effect"
import { DatabaseError } from "effect-avatars"
import type { SqlitePool } from "effect-avatars"
import { temporaryFile } from "./layers.js"
import { makePool } from "./pool.js"

describe("of 10 000 concurrent writes", () => {
  it.scopedLive("each is answered right, where 1 % are duplicates", () =>
    Effect.gen(function*() {
      const sql = yield* makeTable()
      const nameOf = (i: number) => i % 100 === 99 ? i - 50 : i
      const outcomes = yield* concurrently(10_000, (i) => sql`insert into t values (${nameOf(i)})`)
      const taken = outcomes.filter(Either.isLeft)
      assert.lengthOf(taken, 100)
      taken.forEach(({ left }) => assert.strictEqual(left.reason, "UniqueViolation"))
      assert.deepStrictEqual(
        outcomes.flatMap((outcome, i) => Either.isLeft(outcome) ? [i] : []),
        Array.from({ length: 100 }, (_, i) => i * 100 + 99)
      )
      assert.deepStrictEqual(yield* stored(sql), numbers(10_000).filter((i) => i % 100 !== 99))
    }))

  it.scopedLive("those 1 % that break a deferred foreign key fail alone", () =>
    Effect.gen(function*() {
      const sql = yield* makeTable()
      yield* sql`create table parent (id integer primary key)`
      yield* sql`insert into parent values (1)`
      yield* sql`create table child (n, id references parent deferrable initially deferred)`
      const isOrphan = (i: number) => i % 100 === 7
      const outcomes = yield* concurrently(10_000, (i) => sql`insert into child values (${i}, ${isOrphan(i) ? 2 : 1})`)
      outcomes.forEach((outcome, i) => assert.strictEqual(Either.isLeft(outcome), isOrphan(i)))
      assert.deepInclude(Either.getOrThrow(Either.flip(outcomes[7]!)), { code: "SQLITE_CONSTRAINT_FOREIGNKEY" })
      const rows = yield* sql<{ readonly n: number }>`select n from child order by n`
      assert.deepStrictEqual(rows.map(({ n }) => n), numbers(10_000).filter((i) => !isOrphan(i)))
    }))

  it.scopedLive(
    "each is answered for itself, where they are of every kind and some raise ROLLBACK",
    () =>
      Effect.gen(function*() {
        const sql = yield* makeTable()
        yield* sql`create trigger raises before insert on t when new.n < 0 begin select raise(rollback, 'no'); end`
        const kinds: ReadonlyArray<(n: number) => Effect.Effect<unknown, unknown>> = [
          (n) => sql`insert into t values (${n})`,
          (n) =>
            Effect.map(sql`insert into t values (${n}) returning n`, (rows) => assert.deepStrictEqual(rows, [{ n }])),
          (n) => Effect.map(sql`replace into t values (${n})`.raw, (raw) => assert.deepInclude(raw, { changes: 1 })),
          (n) => sql`with new(n) as (values (${n})) insert into t select n from new`,
          (n) => sql`update t set n = n where n = ${n} returning n`,
          (n) => Effect.flip(sql`insert into t values (${-1 - n})`),
          (n) => Effect.flip(sql`insert or rollback into t values (${n}), (${n})`),
          (n) => Effect.flip(sql`insert into t values (json('not json'), ${n})`),
          (n) => sql`delete from t where n = ${-n}`,
          (n) => sql`insert or ignore into t values (${n}), (${n})`
        ]
        const outcomes = yield* concurrently(4_000, (i) => kinds[i % kinds.length]!(i))
        assert.deepStrictEqual(outcomes.flatMap((outcome, i) => Either.isLeft(outcome) ? [i] : []), [])
        const kept = new Set([0, 1, 2, 3, 9])
        assert.deepStrictEqual(yield* stored(sql), numbers(4_000).filter((i) => kept.has(i % kinds.length)))
      }),
    30_000
  )
})

describe("a group of writes", () => {
  it.scopedLive("loses only the members that a full disk has no room for", () =>
    Effect.gen(function*() {
      const sql = yield* makeTable({ pragmas: ["max_page_count = 100"] })
      yield* sql`create table big (n integer primary key, bytes)`
      const isBig = (i: number) => i % 20 === 3
      const outcomes = yield* concurrently(1_000, (i) =>
        sql`insert into big values (${i}, zeroblob(${isBig(i) ? 1e6 : 1}))`)
      outcomes.forEach((outcome, i) => {
        assert.strictEqual(Either.isLeft(outcome), isBig(i))
        assert.isTrue(Either.isRight(outcome) || outcome.left.code === "SQLITE_FULL")
      })
      const rows = yield* sql<{ readonly n: number }>`select n from big order by n`
      assert.deepStrictEqual(
        rows.map(({ n }) =>
          n
        ),
        numbers(1_000).filter((i) => !isBig(i))
      )
    }))

  it.scopedLive("on a disk that becomes full keeps what was acknowledged, no more, and goes on when there is room", () =>
    Effect.gen(function*() {
      const sql = yield* makeTable({ pragmas: ["max_page_count = 60"] })
      yield* sql`create table big (n integer primary key, bytes)`
      const outcomes = yield* concurrently(200, (i) => sql`insert into big values (${i}, zeroblob(2000))`)
      const acknowledged = outcomes.flatMap((outcome, i) => Either.isRight(outcome) ? [i] : [])
      const rows = yield* sql<{ readonly n: number }>`select n from big order by n`
      assert.deepStrictEqual(rows.map(({ n }) => n), acknowledged)
      assert.isAbove(acknowledged.length, 50)
      assert.isBelow(acknowledged.length, 200)
      yield* sql`delete from big`
      yield* sql`insert into big values (1, zeroblob(2000))`
    }))

  for (const statement of ["insert into t values (-1)", "insert or rollback into t values (-1), (-1)"]) {
    it.scopedLive(`loses only the member that ends the transaction: ${statement}`, () =>
      Effect.gen(function*() {
        const sql = yield* makeTable()
        yield* sql`create trigger raises before insert on t when new.n = -1 begin select raise(rollback, 'no'); end`
        for (const culprits of [[0], [99], [50], [0, 1, 2], numbers(100).filter((i) => i % 3 === 0), numbers(100)]) {
          const isCulprit = (i: number) => culprits.includes(i)
          const outcomes = yield* concurrently(100, (i) =>
            isCulprit(i) ? sql.unsafe(statement) : sql`insert into t values (${i})`)
          outcomes.forEach((outcome, i) =>
            assert.strictEqual(Either.isLeft(outcome), isCulprit(i))
          )
          assert.deepStrictEqual(yield* stored(sql), numbers(100).filter((i) => !isCulprit(i)))
          yield* sql`delete from t`
        }
      }))
  }

  it.scopedLive("acknowledges nothing before its COMMIT: another connection sees each row at that moment", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile()
      const sql = yield* makeTable({ filename })
      const other = yield* Effect.acquireRelease(
        Effect.sync(() => new Sqlite(filename, { readonly: true })),
        (db) => Effect.sync(() => db.close())
      )
      const find = other.prepare<[number], number>("select count(*) from t where n = ?").pluck()
      for (let round = 0; round < 5; round++) {
        const seen = yield* Effect.forEach(
          numbers(400),
          (i) => Effect.map(sql`insert into t values (${round * 1_000 + i})`, () => find.get(round * 1_000 + i)),
          {
            concurrency: "unbounded"
          }
        )
        assert.deepStrictEqual(seen, seen.map(() => 1))
      }
    }))

  it.scopedLive("shares transactions: 10 000 writes leave far fewer commits", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile()
      const sql = yield* makeTable({ filename })
      const other = yield* Effect.acquireRelease(
        Effect.sync(() => new Sqlite(filename, { readonly: true })),
        (db) => Effect.sync(() => db.close())
      )
      const versions = new Set<unknown>()
      yield* Effect.forEach(numbers(10_000), (i) =>
        Effect.map(sql`insert into t values (${i})`, () =>
          versions.add(other.pragma("data_version", { simple: true }))), {
        concurrency: "unbounded",
        discard: true
      })
      assert.isAbove(versions.size, 1)
      assert.isBelow(versions.size, 500)
    }))

  it.scopedLive("answers RETURNING with rows in order, .raw with counts, and values as they were sent", () =>
    Effect.gen(function*() {
      const sql = yield* makeTable()
      yield* sql`create table kinds (id integer primary key, value)`
      const values = ["text", 1.5, null, new Uint8Array([1, 2, 3]), "Estebán"]
      const outcomes = yield* concurrently(
        500,
        (i) => sql`insert into kinds values (${i}, ${values[i % values.length]!}) returning value, id`
      )
      outcomes.forEach((outcome, i) => {
        const value = values[i % values.length]
        const expected = value instanceof Uint8Array ? Buffer.from(value) : value
        assert.deepStrictEqual(Either.getOrThrow(outcome), [{ value: expected, id: i }])
      })
      const many = yield* sql<{ readonly n: number }>`
        with recursive new(n) as (select 0 union all select n + 1 from new where n < 2999)
        insert into t select n from new returning n`
      assert.deepStrictEqual(many.map(({ n }) => n), numbers(3_000))
      assert.deepStrictEqual(yield* sql`update kinds set value = 1 where id < 7`.raw, {
        changes: 7,
        lastInsertRowid: 2_999
      })
      assert.deepStrictEqual(yield* sql`insert into t values (5000) returning n`.raw, [{ n: 5_000 }])
      assert.deepStrictEqual(yield* sql`insert into t values (5001) returning n, n + 1`.values, [[5_001, 5_002]])
    }))

  it.scopedLive("is not disturbed by VACUUM, reading PRAGMAs, CREATE, ALTER, REINDEX and DROP between its members", () =>
    Effect.gen(function*() {
      const sql = yield* makeTable()
      const between = [
        sql`vacuum`,
        sql`pragma user_version`,
        sql`pragma user_version = 7`,
        sql`pragma table_info(t)`,
        sql`create table other (n)`,
        sql`alter table other add column m`,
        sql`create index i on other (n, m)`,
        sql`reindex`,
        sql`analyze`,
        sql`pragma integrity_check`,
        sql`pragma wal_checkpoint(truncate)`,
        sql`drop table other`
      ]
      const outcomes = yield* concurrently(
        1_200,
        (i) => i % 100 === 50 ? between[(i - 50) / 100]! : sql`insert into t values (${i})`
      )
      assert.deepStrictEqual(outcomes.filter(Either.isLeft), [])
      assert.deepStrictEqual(Either.getOrThrow(outcomes[950]!), [{ integrity_check: "ok" }])
      assert.deepStrictEqual(yield* sql`pragma user_version`, [{ user_version: 7 }])
      assert.lengthOf(yield* stored(sql), 1_200 - between.length)
    }))
})

describe("a write", () => {
  it.scopedLive("is never lost: increments of 1 000 fibers add up, plain and in transactions", () =>
    Effect.gen(function*() {
      const sql = yield* makeTable()
      yield* sql`insert into t values (0)`
      const plain = sql`update t set n = n + 1`
      const transaction = sql.withTransaction(Effect.flatMap(stored(sql), ([n]) => sql`update t set n = ${n! + 1}`))
      yield* concurrently<unknown>(1_000, (i) => i % 10 === 0 ? transaction : Effect.replicateEffect(plain, 3))
      assert.deepStrictEqual(yield* stored(sql), [100 + 900 * 3])
    }))

  it.scopedLive("that was acknowledged is seen by every read that begins after it, on many readers", () =>
    Effect.gen(function*() {
      const sql = yield* makeTable({ minReaders: 4, maxReaders: 8 })
      const noise = yield* Effect.fork(
        Effect.forever(Effect.all(Array.from({ length: 8 }, () => stored(sql)), { concurrency: 8 }))
      )
      yield* Effect.forEach(numbers(20), (fiber) =>
        Effect.forEach(numbers(50), (i) =>
          Effect.gen(function*() {
            const n = fiber * 1_000 + i
            yield* sql`insert into t values (${n})`
            const reads = yield* Effect.all(Array.from({ length: 6 }, () => sql`select n from t where n = ${n}`), {
              concurrency: 6
            })
            assert.deepStrictEqual(reads, reads.map(() => [{ n }]))
          }), { discard: true }), { concurrency: "unbounded", discard: true })
      yield* Fiber.interrupt(noise)
    }))

  it.scopedLive("that is interrupted either runs as a whole or not at all, and harms no other", () =>
    Effect.gen(function*() {
      const sql = yield* makeTable()
      const fibers = yield* Effect.forEach(numbers(2_000), (i) => Effect.fork(sql`insert into t values (${i})`))
      yield* Effect.sleep(3)
      const odd = yield* Effect.fork(Fiber.interruptAll(fibers.filter((_, i) => i % 2 === 1)))
      yield* Effect.forEach(fibers.filter((_, i) => i % 2 === 0), Fiber.join, { concurrency: "unbounded" })
      yield* Fiber.join(odd)
      const there = new Set(yield* stored(sql))
      for (const [i, fiber] of fibers.entries()) {
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(exit._tag === "Failure" || there.has(i))
      }
      assert.deepStrictEqual(numbers(2_000).filter((i) => i % 2 === 0 && !there.has(i)), [])
      yield* sql`insert into t values (9999)`
    }))
})

const numbers = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, i) => i)

const makeTable = (config: Partial<SqlitePool.SqlitePoolConfig> = {}) =>
  Effect.tap(makePool(config), (sql) => sql`create table t (n integer primary key)`)

const stored = (sql: SqlitePool.SqlitePool) =>
  Effect.map(sql<{ readonly n: number }>`select n from t order by n`, (rows) => rows.map(({ n }) => n))

/** All at once; the outcome of each. */
const concurrently = <A>(count: number, run: (i: number) => Effect.Effect<A, unknown>) =>
  Effect.forEach(numbers(count), (i) =>
    Effect.either(Effect.mapError(run(i), (error) => {
      assert.instanceOf(error, SqlError.SqlError)
      return DatabaseError.fromSqlError(error)
    })), { concurrency: "unbounded" })

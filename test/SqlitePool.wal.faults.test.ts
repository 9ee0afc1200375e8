import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import type { SqlitePool } from "effect-avatars"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import { temporaryFile } from "./layers.js"
import { makePool } from "./pool.js"

/** What `journal_size_limit` promises. */
const limit = 64 * 1024 * 1024

describe("the write-ahead log", () => {
  it.scopedLive("stays below its limit while reads overlap without a pause", () =>
    Effect.gen(function*() {
      const { sql, walSize } = yield* open
      yield* sql`create table r as with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000) select i from n`
      // Some 20 ms each, so that at no moment nobody reads.
      const read = sql`select count(*) as n from r, (select 1 union all select 2 union all select 3) where i % 7 = 0`
      let reads = 0
      let mostRead = 0
      const isRight = Effect.map(read, ([row]) => {
        assert.deepStrictEqual(row, { n: 25_713 })
        reads += 1
      })
      const readers = yield* Effect.forEach(range(24), () => Effect.fork(Effect.forever(isRight)))
      let most = 0
      for (const i of range(1_000)) {
        yield* write(sql, i)
        most = Math.max(most, walSize())
        mostRead = Math.max(mostRead, (yield* sql.stats).readers.used)
      }
      yield* Fiber.interruptAll(readers)
      assert.isAbove(reads, 100)
      assert.isAbove(mostRead, 1)
      assert.isBelow(most, limit)
    }))

  for (const holder of ["a stream whose consumer is slow", "a snapshot", "another process"] as const) {
    it.scopedLive(`that ${holder} keeps from beginning anew is below its limit soon after that has ended, without a write`, () =>
      Effect.gen(function*() {
        const { filename, sql, walSize } = yield* open
        yield* Effect.forEach(range(4_000), (i) => sql`insert into t values (${-1 - i}, null)`, {
          concurrency: "unbounded"
        })
        const holds = yield* Effect.makeLatch()
        const isOver = yield* Effect.makeLatch()
        const hold = Effect.zipRight(holds.open, isOver.await)
        const count = Effect.map(sql<{ n: number }>`select count(*) as n from t`, ([row]) => row?.n)
        const holding = yield* Effect.fork(
          holder === "a snapshot"
            ? sql.snapshot(Effect.zipRight(count, Effect.zipRight(hold, count)))
            : holder === "another process"
            ? countsInProcess(filename, hold)
            : Stream.runFoldEffect(
              sql`select a from t`.stream,
              0,
              (n) => Effect.as(n === 0 ? hold : Effect.void, n + 1)
            )
        )
        yield* holds.await
        for (const round of range(3)) {
          yield* Effect.forEach(range(500), (i) => write(sql, round * 500 + i), { concurrency: 50 })
        }
        assert.isAbove(walSize(), limit, "it was not kept")
        assert.isNull(holding.unsafePoll())
        yield* isOver.open
        assert.strictEqual(yield* Fiber.join(holding), 4_000)
        yield* Effect.repeat(Effect.sleep(50), { until: () => walSize() < limit }).pipe(
          Effect.timeoutFail({ duration: "10 seconds", onTimeout: () => `it has ${walSize()} bytes` })
        )
        // Nothing of it is gone.
        assert.deepStrictEqual(
          yield* sql`select count(*) as n, sum(length(b)) as bytes from t where a >= 0`,
          [{ n: 1_500, bytes: 1_500 * 100_000 }]
        )
      }))
  }
})

const open = Effect.gen(function*() {
  const filename = yield* temporaryFile("pool.sqlite")
  const sql = yield* makePool({ filename, minReaders: 4, synchronous: "off" })
  yield* sql`create table t (a integer primary key, b)`
  return { filename, sql, walSize: () => fs.statSync(`${filename}-wal`).size }
})

const write = (sql: SqlitePool.SqlitePool, a: number) => sql`insert into t values (${a}, zeroblob(100000))`

const range = (count: number) => Array.from({ length: count }, (_, i) => i)

/** How many rows another process counts after `hold`, in a transaction that it began before. */
const countsInProcess = (filename: string, hold: Effect.Effect<void>) =>
  Effect.scoped(Effect.gen(function*() {
    const fixture = fileURLToPath(new URL("fixtures/readDatabase.mjs", import.meta.url))
    const child = spawn(process.execPath, [fixture, filename], { stdio: ["pipe", "pipe", "inherit"] })
    const closed = once(child, "close")
    yield* Effect.addFinalizer(() => Effect.promise(() => (child.kill("SIGKILL"), closed)))
    const line = Effect.promise(() => once(child.stdout, "data").then(([data]) => Number(data)))
    assert.strictEqual(yield* line, 4_000)
    yield* hold
    child.stdin.end()
    return yield* line
  }))

/** That statements which take long run beside each other, however few processors there are. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { availableParallelism } from "node:os"
import { makePool, slowSql } from "./pool.js"

it.scopedLive("statements that take long run at once, each on a reader of its own, also beyond the processors", () =>
  Effect.gen(function*() {
    const readers = availableParallelism() + 2
    const sql = yield* makePool({ minReaders: readers, maxReaders: readers })
    let most = 0
    const watch = setInterval(() => {
      most = Math.max(most, Effect.runSync(sql.stats).readers.used)
    }, 1)
    const long = sql.unsafe(slowSql(2_000_000))
    yield* Effect.all(Array.from({ length: readers }, () => long), { concurrency: "unbounded" }).pipe(
      Effect.ensuring(Effect.sync(() => clearInterval(watch)))
    )
    assert.strictEqual(most, readers)
  }))

import type { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { collectedMemory, type Memory, noCensus, settledCensus } from "./census.js"
import { temporaryFile } from "./layers.js"
import { makePool } from "./pool.js"
import { countOf, trials } from "./trials.js"

const sizes = { few: 500, many: 10_000, batch: 500 }

/** What may come together over all cycles (bytes): of 500 it is 4 KB each, of 10 000 it is 200 bytes. */
const heapBound = 2e6

/**
 * Of what is no heap, such as a thread of which something stays; an allocator gives back later, if at all. 10 000 pools do not keep it: the driver
 * does not free its C++ objects of a thread that ends, 152 bytes a database and 80 a statement (heaptrack of 300 pools: 1.7 KB each, and nothing
 * else that grows), since Node drops a worker's heap without finalizing what is on it.
 */
const residentBound = 32e6

/** As many run beside each other. */
const concurrency = 4

/** Of the first batch, since what leaks is seen best over all. */
let start: Memory | undefined

describe("release", () => {
  it.scopedLive(
    `of ${countOf(sizes)} pools, some interrupted while they open, leaves no file, thread, listener or memory behind`,
    (ctx) =>
      trials("sqlite pool cycles", sizes, (_, count) =>
        Effect.scoped(Effect.gen(function*() {
          ctx.skip(noCensus !== undefined, noCensus)
          const directory = path.dirname(yield* temporaryFile())
          const did = { "used and closed": 0, "interrupted while opening": 0 }
          let opening = 100
          const cycle = (i: number): Effect.Effect<void, SqlError.SqlError> => {
            const filename = path.join(directory, `${i % 8}.sqlite`)
            const began = performance.now()
            const pool = Effect.tap(
              makePool({ filename }),
              () => Effect.sync(() => opening = performance.now() - began)
            )
            const use = Effect.scoped(Effect.flatMap(pool, (sql) =>
              Effect.zipRight(
                sql`create table if not exists t as with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000) select i from n`,
                sql`select i from t`
              )))
            const asked = i % 3 === 0 ? Effect.timeoutOption(use, Math.random() * opening) : Effect.asSome(use)
            return Effect.map(asked, (used) => {
              did[Option.isSome(used) ? "used and closed" : "interrupted while opening"] += 1
            })
          }
          const cycles = (from: number, to: number) =>
            Effect.forEach(range(from, to), cycle, { concurrency, discard: true })
          yield* cycles(0, 64)
          const before = yield* settledCensus()
          start ??= yield* collectedMemory
          Object.assign(did, { "used and closed": 0, "interrupted while opening": 0 })
          yield* cycles(0, count)
          assert.deepStrictEqual(yield* settledCensus(before), before)
          assert.deepStrictEqual(fs.readdirSync(directory), range(0, 8).map((i) => `${i}.sqlite`))
          const end = yield* collectedMemory
          const [heap, resident] = [end.heap - start.heap, end.resident - start.resident]
          assert.isBelow(heap, heapBound)
          assert.isBelow(resident, residentBound)
          assert.isAbove(did["interrupted while opening"], count / 10)
          assert.isAbove(did["used and closed"], count / 2)
          return {
            cycles: count,
            leaked: 0,
            ...did,
            "most bytes of heap": heap,
            "most bytes of resident memory": resident
          }
        })))
  )
})

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

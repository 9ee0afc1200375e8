import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option } from "effect"
import { spawn } from "node:child_process"
import { text } from "node:stream/consumers"
import { temporaryFile } from "./layers.js"
import { withOther } from "./streams.js"

describe("a stream", () => {
  it.scopedLive("hands 1 000 000 rows to a slow consumer in bounded memory", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile("large.sqlite")
      // In a process of its own: what its heap holds is not to hide what it keeps.
      const args = ["--max-old-space-size=64", "--input-type=module", "-e", slowConsumer, filename]
      const child = spawn(process.execPath, args)
      child.stderr.pipe(process.stderr)
      const { growth, ...rest } = JSON.parse(yield* Effect.promise(() => text(child.stdout))) as { growth: number }
      assert.deepStrictEqual(rest, { rows: 1_000_000, length: 100_000_000 } as object)
      assert.isBelow(growth, 100)
    }))
})

describe("the names of columns", () => {
  it.scopedLive("fit their rows under load, while another connection renames, adds and drops columns", () =>
    Effect.gen(function*() {
      const { other, pool } = yield* withOther
      // The value of a column tells its name.
      other.exec("delete from t; alter table t drop column b; insert into t values ('a')")
      const isRight = (row: object) =>
        Object.entries(row).forEach(([name, value]) => assert.include([name, null], value))
      const check = Effect.map(pool`select * from t`, (rows) => rows.forEach(isRight))
      const many = Effect.all(Array.from({ length: 64 }, () => check), { concurrency: 64, discard: true })
      const load = yield* Effect.fork(Effect.forever(many))
      for (let round = 0; round < 150; round++) {
        const [from, to] = round % 2 === 0 ? ["a", "z"] : ["z", "a"]
        other.exec(`begin; alter table t rename column ${from} to ${to}; update t set ${to} = '${to}'; commit`)
        other.exec("begin; alter table t add column c; update t set c = 'c'; commit")
        yield* Effect.delay(Effect.sync(() => other.exec("alter table t drop column c")), "2 millis")
        yield* Effect.sleep("2 millis")
      }
      assert.isTrue(Option.isNone(yield* Fiber.poll(load)), "a row had a name that was not its own")
      yield* Fiber.interrupt(load)
    }))
})

/** Streams 1 000 000 rows, a chunk each millisecond, and prints how many, their length, and how much memory it took (MB). */
const slowConsumer = `
  import { Effect, Stream } from "effect"
  import { SqlitePool } from "effect-avatars"
  const before = process.memoryUsage().rss
  let rows = 0, length = 0, highest = 0
  const take = (chunk) => Effect.delay(Effect.sync(() => {
    rows += chunk.length
    for (const { text } of chunk) length += text.length
    highest = Math.max(highest, process.memoryUsage().rss)
  }), "1 millis")
  const program = Effect.flatMap(SqlitePool.SqlitePool, (sql) => Stream.runForEachChunk(
    sql\`with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)
      select i, hex(randomblob(50)) as text from n\`.stream, take))
  await Effect.runPromise(Effect.provide(program, SqlitePool.layer({ filename: process.argv[1] })))
  console.log(JSON.stringify({ rows, length, growth: (highest - before) / 1e6 }))
`

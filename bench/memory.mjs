/**
 * What an idle reader costs: the resident memory of processes whose pools have 1, 2, 4, 8 and 16 readers, and the
 * slope.
 */
import * as Effect from "effect/Effect"
import * as Reactivity from "@effect/experimental/Reactivity"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import * as SqlitePool from "effect-avatars/SqlitePool"
import { summary } from "./statistics.mjs"
import { temporaryFolder, writeUsers } from "./users.mjs"

const counts = [1, 2, 4, 8, 16]

const rounds = 5

/** MB of this process, also what its threads have. */
const resident = () => {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(fs.readFileSync("/proc/self/status", "utf8"))?.[1]
  return Number(kilobytes) / 1024
}

/** One pool at rest, each of whose readers has answered a query of its own. */
const measure = (filename, readers) =>
  Effect.gen(function*() {
    const sql = yield* SqlitePool.make({ filename, minReaders: readers, maxReaders: Math.max(2, readers) })
    // Long enough that all of them run at once, each on a reader of its own.
    const slow = sql`with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)
      select sum(i) as total from n`
    let used = 0
    const watch = setInterval(() => {
      used = Math.max(used, Effect.runSync(sql.stats).readers.used)
    }, 1)
    yield* Effect.all(Array.from({ length: readers }, () => slow), { concurrency: "unbounded" })
    yield* Effect.all(Array.from({ length: 100 }, () => sql`select * from users limit 10`), { concurrency: readers })
    clearInterval(watch)
    globalThis.gc()
    yield* Effect.sleep("1 second")
    const { readers: { open } } = yield* sql.stats
    return { open, used, megabytes: resident() }
  }).pipe(Effect.scoped, Effect.provide(Reactivity.layer), Effect.runPromise)

const [filename, readers] = process.argv.slice(2)

if (readers !== undefined) {
  console.log(JSON.stringify(await measure(filename, Number(readers))))
} else {
  const file = `${temporaryFolder()}/users.sqlite`
  writeUsers(file, 1_000)
  const self = fileURLToPath(import.meta.url)
  const inChild = (count) => {
    const args = ["--expose-gc", self, file, String(count)]
    return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }))
  }
  const measured = new Map(counts.map((count) => [count, []]))
  for (let round = 0; round < rounds; round++) {
    for (const count of counts) {
      const { megabytes, open, used } = inChild(count)
      console.error({ count, megabytes, open, used })
      measured.get(count).push(megabytes)
    }
  }
  // The least squares line through one round's processes.
  const slope = (round) => {
    const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length
    const above = counts.reduce((sum, count) => sum + (count - mean) * measured.get(count)[round], 0)
    return above / counts.reduce((sum, count) => sum + (count - mean) ** 2, 0)
  }
  const round = ({ max, median, min }) => `${median.toFixed(2)} (${min.toFixed(2)} to ${max.toFixed(2)})`
  for (const [count, values] of measured) {
    console.log(`${count} readers: ${round(summary(values))} MB resident`)
  }
  console.log(`one reader more: ${round(summary(Array.from({ length: rounds }, (_, i) => slope(i))))} MB`)
}

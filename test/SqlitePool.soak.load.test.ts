/**
 * A program that works for long at half of its capacity: nothing grows, nothing fails, and what was acknowledged is there. A process of its own, so
 * that nothing of Vitest's is measured; one for the whole time, so that a stopped run begins anew. Its series is left in
 * `build/<faults or endurance>/soak/series.json`, which `npm run --prefix bench soak` plots.
 */
import { assert, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { temporaryFile } from "./layers.js"
import { start } from "./programs.js"
import { isEndurance, trials } from "./trials.js"

interface Delay {
  readonly p50: number
  readonly p99: number
  readonly p999: number
  readonly most: number
}

/** Sizes in bytes, delays in milliseconds; `heap` is after a full collection, and `code` is of it what V8 has compiled. */
interface Sample {
  readonly second: number
  readonly heap: number
  readonly code: number
  readonly rss: number
  readonly descriptors: number
  readonly threads: number
  readonly wal: number
  readonly delay: Delay
  readonly lookups: number
  readonly operations: number
  readonly failed: number
}

interface Result {
  /** What the meter saw of a block of 100 ms, and of one for which it rested. */
  readonly seen: { readonly block: number; readonly rest: number }
  readonly capacity: number
  readonly rate: number
  readonly told: Readonly<
    Record<"operations" | "lookups" | "writes" | "interrupted" | "streams" | "snapshots" | "backups" | "failed", number>
  >
  readonly delay: Delay
  readonly deaths: number
  readonly abandoned: number
  readonly failures: ReadonlyArray<string>
  readonly counters: Readonly<Record<string, number>>
  readonly pairs: Readonly<Record<string, number>>
  readonly guests: Readonly<Record<string, boolean>>
}

const [warmUp, seconds, interval] = isEndurance ? [120, 3_600, 5] : [30, 120, 1]

it.live("at half of its capacity a program fails nothing, loses nothing, and its heap, descriptors, threads, WAL and event loop stay as they are", (context) =>
  Effect.gen(function*() {
    context.skip(process.platform !== "linux", "descriptors and threads are counted in Linux's /proc")
    yield* trials("soak at half the capacity", { few: 1, many: 1 }, () => Effect.scoped(soak))
  }))

const soak = Effect.gen(function*() {
  const file = yield* temporaryFile("soak.sqlite")
  const program = yield* start("soak.mjs", file, String(warmUp), String(seconds), String(interval))
  const series: Array<Sample> = []
  let line = JSON.parse(yield* program.line) as Sample | Result
  while ("second" in line) {
    if (line.second > 0) {
      series.push(line)
    }
    line = JSON.parse(yield* program.line) as Sample | Result
  }
  const { abandoned, capacity, counters, deaths, delay, failures, guests, pairs, rate, seen, told } = line
  // What V8 compiles grows for as long as it finds something to optimize, however idle the rest is.
  const heap = growthOf(series.map(({ code, heap }) => heap - code))
  const withCode = growthOf(series.map(({ heap }) => heap))
  store({
    date: new Date().toISOString(),
    machine: `${os.availableParallelism()} cores of ${os.cpus()[0]?.model}, ${os.type()} ${os.release()}`,
    node: process.version,
    seconds,
    interval,
    capacity,
    rate,
    told,
    delay,
    series
  })

  assert.isAtLeast(seen.block, 90)
  assert.isBelow(seen.rest, 90)
  assert.lengthOf(series, seconds / interval)
  assert.deepStrictEqual({ failures, failed: told.failed, deaths, abandoned }, {
    failures: [],
    failed: 0,
    deaths: 0,
    abandoned: 0
  })
  const stored = namesIn(file)
  assert.deepStrictEqual(mismatches(stored, { counters, guests, pairs }), [])
  // A copy of one moment, in which both halves of each pair are alike.
  const copied = namesIn(`${file}.backup`)
  assert.deepStrictEqual(Object.keys(pairs).filter((pair) => copied.get(`${pair}-a`) !== copied.get(`${pair}-b`)), [])
  assert.isBelow(heap, 0.01)
  assert.lengthOf(new Set(series.map(({ descriptors }) => descriptors)), 1)
  assert.lengthOf(new Set(series.map(({ threads }) => threads)), 1)
  assert.isBelow(Math.max(...series.map(({ wal }) => wal)), 64 * 2 ** 20)
  assert.isBelow(delay.p999, 20)
  return {
    ...told,
    "operations a second": rate,
    "lost writes": 0,
    "most % by which the heap grew": 100 * heap,
    "most % by which it grew with compiled code": 100 * withCode,
    "most MB of WAL": Math.max(...series.map(({ wal }) => wal)) / 2 ** 20,
    "most ms of delay (p99.9)": delay.p999,
    "most ms of delay": delay.most
  }
})

const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1]!

/** From the first quarter to the last one, of 1. */
const growthOf = (values: ReadonlyArray<number>): number => {
  const quarter = values.length >> 2
  return median(values.slice(-quarter)) / median(values.slice(0, quarter)) - 1
}

const store = (measured: object): void => {
  const directory = fileURLToPath(new URL(`../build/${isEndurance ? "endurance" : "faults"}/soak`, import.meta.url))
  fs.mkdirSync(directory, { recursive: true })
  fs.writeFileSync(path.join(directory, "series.json"), JSON.stringify(measured))
}

/** The names by login, of a file that is whole. */
const namesIn = (file: string): ReadonlyMap<string, string> => {
  const db = new Sqlite(file, { readonly: true })
  try {
    assert.strictEqual(db.pragma("integrity_check", { simple: true }), "ok")
    return new Map(db.prepare<[], [string, string]>("select login, name from users").raw().all())
  } finally {
    db.close()
  }
}

/** Whose acknowledged state is not stored. */
const mismatches = (
  stored: ReadonlyMap<string, string>,
  { counters, guests, pairs }: Pick<Result, "counters" | "guests" | "pairs">
) => {
  const halves = Object.entries(pairs).flatMap(([login, value]) =>
    [[`${login}-a`, value], [`${login}-b`, value]] as const
  )
  return [
    ...[...Object.entries(counters), ...halves].filter(([login, value]) => stored.get(login) !== String(value)),
    ...Object.entries(guests).filter(([login, isThere]) => stored.has(login) !== isThere)
  ]
}

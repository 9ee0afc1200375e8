import type { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Array as Arr, Effect, Exit, Fiber, Logger, Scope, Stream } from "effect"
import type { SqlitePool } from "effect-avatars"
import * as fs from "node:fs"
import * as path from "node:path"
import { temporaryFile } from "./layers.js"
import { type Kind, mortals, type Point } from "./mortal.js"
import { errorOf, makePool, works } from "./pool.js"
import { countOf, trials } from "./trials.js"

/** Ways to die: of any thread, also while it opens its connection, and of the writer at a moment of what it does. Memory runs out slowly. */
const anyThread: ReadonlyArray<Kind> = ["stop", "terminate", "exit", "exception"]
const writers: ReadonlyArray<readonly [Kind, Point]> = [
  ["exit", "beforeWrite"],
  ["exit", "afterWrite"],
  ["exit", "beforeCommit"],
  ["exit", "afterCommit"]
]
const memory: ReadonlyArray<readonly [Kind, Point | undefined]> = [
  ["heap", undefined],
  ["heap", "beforeWrite"],
  ["heap", "beforeCommit"],
  ["heap", "afterCommit"]
]

const wayOf = (i: number): readonly [kind: Kind, point: Point | undefined] =>
  i % 10 === 9
    ? memory[(i - 9) / 10 % memory.length]!
    : i % 2 === 0
    ? [anyThread[i / 2 % anyThread.length]!, undefined]
    : writers[(i - 1) / 2 % writers.length]!

const deaths = { few: 500, many: 10_000, batch: 250 }
const groups = { few: 60, many: 2_400, batch: 120 }

describe("a thread that dies", () => {
  it.scopedLive(`${countOf(deaths)} times under load loses no call, no acknowledged write and no slot`, () =>
    trials("sqlite thread deaths", deaths, (first, count) => Effect.scoped(dieUnderLoad(first, count))))
})

describe("a writer that dies", () => {
  it.scopedLive(
    `${countOf(groups)} times at each moment of a group tells what is stored, what is not, and what nobody knows`,
    () => trials("sqlite deaths in a group", groups, (first, count) => Effect.scoped(dieInGroups(first, count)))
  )
})

const open = Effect.gen(function*() {
  const alive = yield* mortals
  const filename = yield* temporaryFile("pool.sqlite")
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  const sql = yield* Scope.extend(makePool({ acquireTimeout: "20 seconds", filename }), scope).pipe(
    Effect.provide(Logger.remove(Logger.defaultLogger))
  )
  yield* sql`create table t (a integer primary key, b integer)`
  return { alive, close: Scope.close(scope, Exit.void), filename, sql }
})

/** What a write came to, as its caller was told. */
type Told = "stored" | "not stored" | "unknown"

const told = (call: Effect.Effect<unknown, SqlError.SqlError>): Effect.Effect<Told> =>
  Effect.map(Effect.exit(call), (exit) => {
    const error = errorOf(exit)
    return error === undefined ? "stored" : error.outcome ?? "not stored"
  })

/** A write of two rows, whole or absent. */
const pair = (sql: SqlitePool.SqlitePool, key: number) =>
  sql.withTransaction(
    Effect.zipRight(sql`insert into t values (${2 * key}, 0)`, sql`insert into t values (${2 * key + 1}, 1)`)
  )

/** How many rows each key has. */
const rowsOf = (filename: string): Map<number, number> => {
  const db = new Sqlite(filename)
  try {
    assert.strictEqual(db.pragma("integrity_check", { simple: true }), "ok")
    return new Map(
      db.prepare<[], [number, number]>("select a >> 1, count(*) from t where a >= 0 group by 1").raw().all()
    )
  } finally {
    db.close()
  }
}

const dieUnderLoad = (first: number, count: number) =>
  Effect.gen(function*() {
    const { alive, close, filename, sql } = yield* open
    yield* sql`insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 2500) select -i, 0 from n`
    const outcomes = new Map<number, Told>()
    const read = { answered: 0, failed: 0 }
    let next = 0
    let acknowledged = 0
    let isOver = false
    const load = (call: Effect.Effect<unknown>) =>
      Effect.fork(Effect.repeat(Effect.delay(Effect.suspend(() => call), 1), { while: () => !isOver }))
    const write = (insert: (key: number) => Effect.Effect<unknown, SqlError.SqlError>) =>
      Effect.suspend(() => {
        const key = next++
        return Effect.map(told(insert(key)), (outcome) => {
          acknowledged += outcome === "stored" ? 1 : 0
          outcomes.set(key, outcome)
        })
      })
    const reading = (call: Effect.Effect<unknown, SqlError.SqlError>) =>
      Effect.map(told(call), (outcome) => {
        assert.notStrictEqual(outcome, "unknown")
        read[outcome === "stored" ? "answered" : "failed"] += 1
      })
    const fibers = yield* Effect.all([
      ...Arr.makeBy(12, () => load(write((key) => sql`insert into t values (${2 * key}, 0)`))),
      ...Arr.makeBy(3, () => load(write((key) => pair(sql, key)))),
      ...Arr.makeBy(8, () => load(reading(sql`select count(*) from t`))),
      ...Arr.makeBy(2, () => load(reading(Stream.runDrain(sql`select a from t where a < 0`.stream)))),
      load(reading(sql.snapshot(sql`select count(*) from t`)))
    ])
    for (let i = first; i < first + count; i++) {
      const before = acknowledged
      const [kind, point] = wayOf(i)
      yield* Effect.sleep(Math.random() * 40)
      const victims = () => Array.from(alive).filter(({ role }) => point === undefined || role === "writer")
      // A writer has done something before it dies at something; others may die while they open their connection.
      const isTime = () => victims().length > 0 && (point === undefined || acknowledged > before)
      yield* Effect.repeat(Effect.sleep(1), { until: isTime })
      const victim = victims()[Math.floor(Math.random() * victims().length)]!
      assert.isTrue(yield* victim.kill(kind, point), `a ${victim.role} dies by ${kind} ${point}`)
    }
    isOver = true
    const done = yield* Effect.timeoutOption(Fiber.join(Fiber.all(fibers)), "30 seconds")
    const hung = done._tag === "Some" ? 0 : (yield* sql.stats).pending
    assert.strictEqual(done._tag, "Some", `${hung} calls hang`)
    const { deaths, pending, readers, writer } = yield* sql.stats
    assert.deepStrictEqual([deaths, pending, readers.leased, writer.leased], [count, 0, 0, 0])
    assert.isAbove(read.answered, read.failed)
    yield* works(sql)
    yield* close
    assert.deepStrictEqual(fs.readdirSync(path.dirname(filename)), ["pool.sqlite"])
    const rows = rowsOf(filename)
    const of = (outcome: Told) => Array.from(outcomes).filter(([, told]) => told === outcome).map(([key]) => key)
    const lost = of("stored").filter((key) => !rows.has(key))
    const wrong = of("not stored").filter((key) => rows.has(key))
    assert.deepStrictEqual({ lost, wrong }, { lost: [], wrong: [] })
    const unknown = of("unknown")
    assert.isBelow(unknown.length, acknowledged)
    return {
      deaths: count,
      hung,
      lost: lost.length,
      "acknowledged writes": acknowledged,
      "writes known not to be stored": of("not stored").length,
      "writes of unknown outcome, stored": unknown.filter((key) => rows.has(key)).length,
      "writes of unknown outcome, not stored": unknown.filter((key) => !rows.has(key)).length,
      "reads answered": read.answered,
      "reads failed": read.failed
    }
  })

/** What those may be told, and may have stored, who were in the group (or transaction) of a writer that died there. */
const expected: Readonly<
  Record<Point, { readonly told: ReadonlyArray<Told>; readonly unknownAreStored: boolean | undefined }>
> = {
  anywhere: { told: ["stored", "not stored", "unknown"], unknownAreStored: undefined },
  beforeWrite: { told: ["stored", "not stored"], unknownAreStored: undefined },
  afterWrite: { told: ["stored", "not stored"], unknownAreStored: undefined },
  beforeCommit: { told: ["stored", "unknown"], unknownAreStored: false },
  afterCommit: { told: ["stored", "unknown"], unknownAreStored: true }
}

const dieInGroups = (first: number, count: number) =>
  Effect.gen(function*() {
    const { alive, close, filename, sql } = yield* open
    const seen: Array<{ readonly key: number; readonly point: Point; readonly told: Told; readonly size: number }> = []
    for (let i = first; i < first + count; i++) {
      const [kind, point = "anywhere"] = wayOf(i)
      // A transaction of somebody's own is one in three.
      const isAlone = i % 3 === 0
      const keys = Arr.makeBy(isAlone ? 1 : 40, (n) => 100 * i + n)
      yield* sql`insert into t values (${-1 - i}, 0)`
      const writer = Array.from(alive).find(({ role }) => role === "writer")!
      const kill = writer.kill(kind, point)
      const write = (key: number) => isAlone ? pair(sql, key) : sql`insert into t values (${2 * key}, 0)`
      const killing = yield* Effect.fork(point === "anywhere" ? Effect.delay(kill, Math.random() * 5) : kill)
      yield* point === "anywhere" ? Effect.sleep(Math.random() * 5) : Effect.void
      const all = yield* Effect.forEach(keys, (key) => told(write(key)), { concurrency: "unbounded" })
      keys.forEach((key, n) => seen.push({ key, point, told: all[n]!, size: isAlone ? 2 : 1 }))
      assert.isTrue(yield* Fiber.join(killing), `the writer dies by ${kind} ${point}`)
    }
    assert.strictEqual((yield* sql.stats).deaths, count)
    yield* works(sql)
    yield* close
    const rows = rowsOf(filename)
    const counted: Record<string, number> = { deaths: count, "acknowledged writes": 0, lost: 0 }
    for (const { key, point, size, told } of seen) {
      const stored = rows.get(key) ?? 0
      const says = `a write that is ${told} has ${stored} of ${size} rows; the writer died ${point}`
      assert.include(expected[point].told, told, says)
      assert.include([0, size], stored, says)
      assert(told === "unknown" || (told === "stored") === (stored === size), says)
      assert(told !== "unknown" || (expected[point].unknownAreStored ?? stored === size) === (stored === size), says)
      const name = told === "stored" ? "acknowledged writes" : `${told}, of a writer that died ${point}`
      counted[name] = (counted[name] ?? 0) + 1
    }
    // At each of these moments somebody's write was under way.
    for (const point of ["afterWrite", "beforeCommit", "afterCommit"] as const) {
      assert.isTrue(seen.some((one) => one.point === point && one.told !== "stored"), point)
    }
    return counted
  })

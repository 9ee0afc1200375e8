/** Damaged files: every call on one is answered or fails typed, in another process, so that its death would be seen. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Data, Effect, Layer } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { temporaryFile } from "../layers.js"
import { trials } from "../trials.js"
import { counterexample, holds } from "./claims.js"
import {
  commits,
  type Damage,
  damage,
  damaged,
  damagedWal,
  makeDatabase,
  makeWithWal,
  pagesOf,
  withPagesOf
} from "./damage.js"

type Outcomes = Readonly<Record<string, { readonly ok?: unknown; readonly failed?: unknown; readonly defect?: string }>>

class Failure extends Data.TaggedError("Failure")<{ readonly message: string }> {}

class Target extends Context.Tag("test/fuzz/files/Target")<Target, {
  readonly directory: string
  /** What becomes of all calls on a file. */
  readonly ask: (file: string) => Effect.Effect<Outcomes, Failure>
}>() {}

const script = fileURLToPath(new URL("../fixtures/fuzz-files.mjs", import.meta.url))

/** A process that answers for one file after the other, and another one where it has died or does not answer in time. */
const target = (planted = "", deadline = 60_000) =>
  Layer.scoped(
    Target,
    Effect.gen(function*() {
      const directory = path.dirname(yield* temporaryFile())
      let child: ChildProcess | undefined
      const end = () => {
        child?.kill("SIGKILL")
        child = undefined
      }
      yield* Effect.addFinalizer(() => Effect.sync(end))
      const ask = (file: string) =>
        Effect.async<Outcomes, Failure>((resume) => {
          child ??= fork(script, {
            env: { ...process.env, PLANTED: planted },
            stdio: ["ignore", "ignore", "pipe", "ipc"]
          })
          const asked = child
          let errors = ""
          const onData = (data: Buffer) => {
            errors += data.toString()
          }
          const settle = (outcome: Effect.Effect<Outcomes, Failure>) => {
            clearTimeout(timer)
            asked.removeAllListeners()
            asked.stderr?.off("data", onData)
            resume(outcome)
          }
          const fail = (why: string) => {
            end()
            settle(Effect.fail(new Failure({ message: `${why} ${errors}` })))
          }
          const timer = setTimeout(() => fail("it does not settle"), deadline)
          asked.stderr?.on("data", onData)
          asked.once("message", (outcomes) => settle(Effect.succeed(outcomes as Outcomes)))
          asked.once("exit", (code, signal) => fail(`the process ended with ${signal ?? code}`))
          asked.send(file)
        })
      return { directory, ask }
    })
  )

let files = 0

/** What becomes of the calls on a new file of these bytes. */
const outcomesOf = (bytes: Buffer, wal?: Buffer) =>
  Effect.gen(function*() {
    const { ask, directory } = yield* Target
    const file = path.join(directory, `${files++}.sqlite`)
    fs.writeFileSync(file, bytes)
    if (wal !== undefined) {
      fs.writeFileSync(`${file}-wal`, wal)
    }
    const outcomes = yield* ask(file)
    for (const end of ["", "-wal", "-shm", "-journal"]) {
      fs.rmSync(file + end, { force: true })
    }
    const defects = Object.entries(outcomes).filter(([, { defect }]) => defect !== undefined)
    assert.deepStrictEqual(defects, [], JSON.stringify(defects))
    return outcomes
  })

const read = await Effect.map(temporaryFile(), (file) => {
  makeDatabase(file)
  makeWithWal(`${file}.wal`)
  const original = fs.readFileSync(file)
  return {
    original,
    pages: pagesOf(original),
    base: fs.readFileSync(`${file}.wal`),
    wal: fs.readFileSync(`${file}.wal-wal`)
  }
}).pipe(Effect.scoped, Effect.runPromise)

const magic = Buffer.from("SQLite format 3\0")

/** What is no database is not opened; of any other, what SQLite says by itself is what the repository says. */
const isTold = (damage: Damage) =>
  Effect.gen(function*() {
    const bytes = damaged(read.original, read.pages, damage)
    const { count, direct, open } = yield* outcomesOf(bytes)
    // SQLite takes a file of one byte for an empty one.
    if (bytes.length > 1 && !bytes.subarray(0, magic.length).equals(magic)) {
      assert.deepStrictEqual(open, { failed: "SQLITE_NOTADB" })
    }
    if (count !== undefined && bytes.length > 1) {
      assert.deepStrictEqual(count, direct)
    }
  })

/** All marks are of one transaction, the last whole one or one before it, and nothing is damaged. */
const isWhole = (recovered: (wal: Buffer) => readonly [database: Buffer, wal?: Buffer]) => (damage: Damage) =>
  Effect.gen(function*() {
    const { check, marks } = yield* outcomesOf(...recovered(damagedWal(read.wal, damage)))
    assert.deepStrictEqual(check, { ok: "ok" })
    const values = marks?.ok as ReadonlyArray<string>
    assert.strictEqual(new Set(values).size, 1, values.join())
    assert.include(Array.from({ length: commits + 1 }, (_, i) => String(i)), values[0])
  })

describe("a file", () => {
  it.live("of the fuzzer has pages of every kind, and undamaged all calls on it succeed", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(Array.from(read.pages).filter(([, pages]) => pages.length < 1), [])
      const outcomes = yield* outcomesOf(read.original)
      assert.deepStrictEqual(Object.entries(outcomes).filter(([, outcome]) => !("ok" in outcome)), [])
      assert.deepStrictEqual([outcomes["count"], outcomes["check"]], [{ ok: 2_440 }, { ok: "ok" }])
      const withWal = yield* outcomesOf(read.base, read.wal)
      assert.deepStrictEqual(withWal["marks"], { ok: Array.from({ length: 40 }, () => String(commits)) })
    }).pipe(Effect.provide(target())))

  const few = 100
  it.live("with damaged pages is answered or fails typed, whatever is called", () =>
    Effect.provide(
      trials("fuzz files", { few, many: 100 * few }, (seed, count) => holds(damage, isTold, seed, count)),
      target()
    ))

  const bugs = {
    "that crashes": "crash",
    "that dies": "defect",
    "that waits for ever": "hang",
    "that lets a promise fail unseen": "rejection",
    "that takes a damaged page for an empty one": "swallow"
  }
  for (const [bug, planted] of Object.entries(bugs)) {
    it.live(`with damaged pages finds a repository ${bug}`, () =>
      Effect.map(counterexample(damage, isTold, few), (found) => assert.isDefined(found)).pipe(
        Effect.provide(target(planted, 10_000))
      ))
  }

  it.live("with a damaged -wal file has the state of one of its transactions", () =>
    Effect.provide(
      trials("fuzz -wal files", { few: few / 2, many: 20 * few }, (seed, count) =>
        holds(damage, isWhole((wal) => [read.base, wal]), seed, count)),
      target()
    ))

  it.live("with a damaged -wal file finds a recovery that takes pages of a transaction that is not whole", () =>
    Effect.map(
      counterexample(damage, isWhole((wal) => [withPagesOf(read.base, wal)]), few),
      (found) => assert.isDefined(found)
    ).pipe(Effect.provide(target())))
})

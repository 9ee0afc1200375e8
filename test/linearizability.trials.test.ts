/**
 * Histories of users, counters and accounts under concurrency, interruptions and faults, each recorded and then checked: every answer is one that a
 * database could have given that does one thing after the other, at some moment between call and answer. An amount that is moved between two
 * accounts is in none or both: their balances are one register.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger, type Scope } from "effect"
import { build } from "esbuild"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { engines } from "./engines.js"
import { connect, open } from "./faults.js"
import { begin, contradictions, type HistoryOptions, record } from "./histories.js"
import { openPools } from "./histories.pools.js"
import { temporaryFile } from "./layers.js"
import type { Operation } from "./linearizability.js"
import { start } from "./programs.js"
import { type Figures, trials } from "./trials.js"

const fibers = 16
const calls = 20

/** Records and checks histories one after the other; `beside` is what others did meanwhile. */
const histories = (
  options: Pick<HistoryOptions, "clients" | "fault">,
  first: number,
  count: number,
  beside: (name: string) => Effect.Effect<ReadonlyArray<Operation>, unknown> = () => Effect.succeed([])
) =>
  Effect.gen(function*() {
    const figures = { histories: 0, operations: 0, "unknown outcomes": 0, "most ms to check one": 0 }
    for (let i = first; i < first + count; i++) {
      const name = `h${i}`
      yield* begin(options.clients[0]!, name)
      const own = record({ ...options, name, by: "here", fibers, calls })
      const [history, others] = yield* Effect.all([own, beside(name)], { concurrency: 2 })
      const recorded = performance.now()
      assert.deepStrictEqual(contradictions([...history, ...others]), [])
      figures.histories += 1
      figures.operations += history.length + others.length
      figures["unknown outcomes"] += [...history, ...others].filter(({ isSure }) => !isSure).length
      figures["most ms to check one"] = Math.max(
        figures["most ms to check one"],
        Math.ceil(performance.now() - recorded)
      )
    }
    return figures
  })

/** Node 20 runs no TypeScript. */
const bundled = Effect.promise(async () => {
  const file = "build/histories.process.mjs"
  const root = fileURLToPath(new URL("..", import.meta.url))
  await build({
    absWorkingDir: root,
    entryPoints: ["test/histories.process.ts"],
    outfile: file,
    bundle: true,
    packages: "external",
    format: "esm",
    platform: "node",
    logLevel: "warning"
  })
  return path.relative(path.join(root, "test/fixtures"), path.join(root, file))
})

/** Faults, of which there were some: else nothing is shown. */
const some = (faults: Effect.Effect<number>) => Effect.tap(faults, (count) => assert.isAbove(count, 0))

describe("every answer is linearizable", () => {
  const claim = (
    name: string,
    sizes: { readonly few: number; readonly many: number },
    run: (first: number, count: number) => Effect.Effect<Figures, unknown, Scope.Scope>,
    missing?: string
  ) =>
    it.live(name, (ctx) => {
      ctx.skip(missing !== undefined, missing)
      const silent = Effect.provide(Logger.remove(Logger.defaultLogger))
      return trials(`linearizability ${name}`, { ...sizes, batch: 50 }, (first, count) =>
        silent(Effect.scoped(run(first, count))))
    })

  claim(
    "of a SQLite pool whose threads die",
    { few: 40, many: 2_500 },
    (first, count) =>
      Effect.gen(function*() {
        const { clients, deaths } = yield* openPools(yield* temporaryFile(), 1)
        return { ...yield* histories({ clients }, first, count), deaths: yield* some(deaths) }
      })
  )

  claim(
    "of two SQLite pools on one file whose threads die",
    { few: 20, many: 1_000 },
    (first, count) =>
      Effect.gen(function*() {
        const { clients, deaths } = yield* openPools(yield* temporaryFile(), 2)
        return { ...yield* histories({ clients }, first, count), deaths: yield* some(deaths) }
      })
  )

  claim(
    "of SQLite pools of two processes on one file whose threads die",
    { few: 15, many: 500 },
    (first, count) =>
      Effect.gen(function*() {
        const filename = yield* temporaryFile()
        const { clients, deaths } = yield* openPools(filename, 1)
        const other = yield* start(yield* bundled, filename)
        assert.strictEqual(yield* other.line, "ready")
        const beside = (name: string) =>
          Effect.map(Effect.zipRight(other.say(name), other.line), (line) => JSON.parse(line) as Array<Operation>)
        return { ...yield* histories({ clients }, first, count, beside), "deaths here": yield* some(deaths) }
      })
  )

  for (const engine of engines) {
    claim(
      `of ${engine.name} whose connections are closed`,
      { few: 15, many: 500 },
      (first, count) =>
        Effect.gen(function*() {
          // Amounts are moved in either direction, and PostgreSQL looks for a deadlock only after a second.
          const db = yield* open(engine, { args: engine.name === "PostgreSQL" ? ["-c", "deadlock_timeout=10ms"] : [] })
          let closings = 0
          const fault = Effect.zipRight(Effect.sync(() => closings++), db.closeConnections)
          const clients = [db, yield* connect(db.url)]
          const figures = yield* histories({ clients, fault: [fault, 150] }, first, count)
          return { ...figures, closings: yield* some(Effect.succeed(closings)) }
        }),
      engine.program === undefined ? `${engine.name} is not installed` : undefined
    )
  }
})

/**
 * Trials: one experiment, many times. `npm run test:faults` makes `few` of them; `npm run test:endurance` makes `many`, keeps what it has done in
 * `test/figures`, and goes on from there, in another clone too, while the sources of the product are the same. `test/figures.mjs` prints what was
 * counted.
 */
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { sources } from "./sources.mjs"

export const isEndurance = process.env["ENDURANCE"] === "true"

/** What trials counted, by name. Of several batches it is the sum, or the largest where the name begins with "most". */
export type Figures = Readonly<Record<string, number>>

export interface Sizes {
  readonly few: number
  readonly many: number
  /** How many trials one run makes at most: what is lost when an endurance run is stopped. All of `few` by default. */
  readonly batch?: number | undefined
}

/** What a file in `build/faults` or `test/figures` holds. */
export interface Tally {
  readonly name: string
  readonly done: number
  readonly of: number
  readonly seconds: number
  readonly figures: Figures
  /** A digest of `src` without the command line, and of `package-lock.json`. */
  readonly sources: string
}

const root = fileURLToPath(new URL("..", import.meta.url))

const merge = (a: Figures, b: Figures): Figures => {
  const merged: Record<string, number> = { ...a }
  for (const [name, value] of Object.entries(b)) {
    const before = merged[name]
    merged[name] = before === undefined ? value : name.startsWith("most") ? Math.max(before, value) : before + value
  }
  return merged
}

/** How many trials there are in this run. */
export const countOf = (sizes: Sizes): number => isEndurance ? sizes.many : sizes.few

/**
 * Makes all trials that are not done yet. `run` makes `count` of them, the first of which has the number `first` (a seed, or part of one), and fails
 * or dies where one of them does.
 */
export const trials = <E, R>(
  name: string,
  sizes: Sizes,
  run: (first: number, count: number) => Effect.Effect<Figures | void, E, R>
): Effect.Effect<Figures, E, R> =>
  Effect.suspend(() => {
    const file = path.join(root, isEndurance ? "test/figures" : "build/faults", `${name.replaceAll(/\W+/g, "-")}.json`)
    const of = countOf(sizes)
    const batch = sizes.batch ?? sizes.few
    const now = sources()
    const stored = isEndurance && fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")) as Tally : undefined
    let state: Tally = stored?.sources === now
      ? { ...stored, of }
      : { name, done: 0, of, seconds: 0, figures: {}, sources: now }
    const step = Effect.suspend(() => {
      const count = Math.min(batch, of - state.done)
      const start = performance.now()
      return Effect.map(run(state.done, count), (figures) => {
        state = {
          ...state,
          done: state.done + count,
          seconds: state.seconds + (performance.now() - start) / 1000,
          figures: merge(state.figures, figures ?? {})
        }
        fs.mkdirSync(path.dirname(file), { recursive: true })
        fs.writeFileSync(`${file}.new`, `${JSON.stringify(state, undefined, 2)}\n`)
        fs.renameSync(`${file}.new`, file)
      })
    })
    return Effect.map(
      Effect.whileLoop({ while: () => state.done < of, body: () => step, step: () => {} }),
      () => state.figures
    )
  })

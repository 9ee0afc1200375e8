/** The model test as trials, on some of the engines: those of one file run one after the other. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { engines } from "./model.engines.js"
import { holds } from "./model.explore.js"
import { countOf, isEndurance, type Sizes, trials } from "./trials.js"

export const modelTrials = (sizes: Readonly<Record<string, Sizes>>) =>
  describe("random commands, transactions, streams, interruptions, deaths and reopening", () => {
    for (const engine of engines) {
      const size = sizes[engine.name]
      if (size !== undefined) {
        it.scopedLive(
          `are answered on ${engine.name} as a model in memory allows, in ${countOf(size)} sequences`,
          (ctx) =>
            Effect.gen(function*() {
              ctx.skip(engine.missing !== undefined, engine.missing)
              const figures = yield* trials(
                `model ${engine.name}`,
                size,
                (first, runs) => holds(engine, { seed: first + 1, runs })
              )
              const { able } = engine
              const count = (name: string) => figures[name] ?? 0
              assert.strictEqual(count("sequences"), countOf(size))
              // What is said of a fault says something only where it struck.
              assert.isAbove(count("interrupted"), 0)
              assert.isTrue(!able.hasClient || (count("committed") > 0 && count("rolled back") > 0))
              assert.isTrue(!able.dies || (count("deaths") > 0 && count("failed by a death") > 0))
              assert.isTrue(!able.reopens || count("reopens") > 0)
            }),
          isEndurance ? 0 : 300_000
        )
      }
    }
  })

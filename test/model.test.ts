import { describe, it } from "@effect/vitest"
import { engines } from "./model.engines.js"
import { holds } from "./model.explore.js"

const runs = 40

describe("random commands, transactions, streams and interruptions", () => {
  for (const engine of engines) {
    it.scopedLive(`are answered on ${engine.name} as a model in memory allows, in ${runs} sequences`, (ctx) => {
      ctx.skip(engine.missing !== undefined, engine.missing)
      return holds(engine, { seed: Date.now() % 1_000_000, runs })
    })
  }
})

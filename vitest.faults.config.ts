import { defineConfig, mergeConfig } from "vitest/config"
import base from "./vitest.config.js"

/** Threads that die, processes that hang, scopes that close under load: what takes too long for every `npm test`. */
const config = mergeConfig(
  base,
  defineConfig({ test: { include: ["test/**/*.faults.test.ts"], testTimeout: 120_000 } })
)

export default {
  ...config,
  test: { ...config.test, include: ["test/**/*.faults.test.ts"], exclude: ["test/fixtures/**"] }
}

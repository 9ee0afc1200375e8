import { defineConfig } from "vitest/config"
import base from "./vitest.config.js"

/** What is measured under load (delays, memory, goodput): one file at a time, so that nothing else uses the processors. */
export default defineConfig({
  test: {
    ...base.test,
    include: ["test/**/*.load.test.ts"],
    exclude: ["test/fixtures/**"],
    // Some measure the memory of their own process.
    isolate: true,
    poolOptions: { forks: { singleFork: false, maxForks: 1, minForks: 1 } },
    fileParallelism: false,
    testTimeout: process.env.ENDURANCE ? 0 : 600_000
  }
})

import { defineConfig } from "vitest/config"
import base from "./vitest.config.js"

/** Threads that die, disks that fail, scopes that close under load, in small numbers: what takes too long for every `npm test`. */
export default defineConfig({
  test: {
    ...base.test,
    include: ["test/**/*.{faults,trials}.test.ts"],
    exclude: ["test/fixtures/**"],
    testTimeout: 900_000
  }
})

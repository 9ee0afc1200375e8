import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts", "examples/*.test.ts"],
    // The longer suites, which `npm run test:faults`, `test:endurance`, `test:package` and `test:cluster` run.
    exclude: ["test/fixtures/**", "test/**/*.{faults,trials,load,endurance,cluster,package}.test.ts"],
    // Real files, threads and processes: each test file in a process of its own, and time enough for a loaded machine.
    pool: "forks",
    // Vitest would leave one processor to itself; the tests wait more than they work.
    poolOptions: { forks: { maxForks: Math.max(2, availableParallelism() - 1), minForks: 1 } },
    globalSetup: "./test/globalSetup.ts",
    testTimeout: 30_000,
    hookTimeout: 30_000,
    reporters: ["default", "./test/report.mjs"]
  }
})

import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts", "examples/*.test.ts"],
    // The longer suites, which `npm run test:faults`, `test:endurance`, `test:package` and `test:cluster` run.
    exclude: ["test/fixtures/**", "test/**/*.{faults,trials,load,cluster,package}.test.ts"],
    // Real files, threads and processes, and time enough for a loaded machine. Test files follow each other in a few processes: loading the
    // libraries again for each takes longer than most of them, and whatever one leaves behind is a defect.
    pool: "forks",
    isolate: false,
    // Vitest would leave one processor to itself; the tests wait more than they work.
    poolOptions: { forks: { maxForks: Math.max(2, availableParallelism() - 1), minForks: 1 } },
    globalSetup: "./test/globalSetup.ts",
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // A difference of two large objects, such as threads, says no more than its beginning.
    diff: { truncateThreshold: 60 },
    reporters: ["default", "./test/report.mjs"]
  }
})

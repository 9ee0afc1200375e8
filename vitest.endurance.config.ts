import { defineConfig } from "vitest/config"
import base from "./vitest.config.js"

/** The same trials as in `npm run test:faults`, in large numbers: hours. `npm run test:endurance -- kills` runs the files with such a name. */
export default defineConfig({
  test: {
    ...base.test,
    include: ["test/**/*.trials.test.ts"],
    exclude: ["test/fixtures/**"],
    // Some measure the memory of their own process.
    isolate: true,
    testTimeout: 0
  }
})

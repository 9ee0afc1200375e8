import { defineConfig } from "vitest/config"

/** What is packed, as it is installed elsewhere: by each version of Node, for which SQLite's driver is compiled. */
export default defineConfig({
  test: {
    include: ["test/**/*.package.test.ts"],
    pool: "forks",
    testTimeout: 900_000,
    hookTimeout: 300_000,
    reporters: ["default", "./test/report.mjs"]
  }
})

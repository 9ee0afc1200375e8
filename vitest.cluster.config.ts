import { defineConfig } from "vitest/config"

/** A Galera cluster of three nodes behind a proxy: the contract suite through it, and a node that dies. */
export default defineConfig({
  test: {
    include: ["test/**/*.cluster.test.ts"],
    pool: "forks",
    testTimeout: 120_000,
    hookTimeout: 60_000,
    reporters: ["default", "./test/report.mjs"]
  }
})

/**
 * `npm run test:endurance [file ...]`: all trials in large numbers, then what is measured under load, for an hour. It goes on where it was stopped,
 * and prints what was counted. With names it runs the files whose paths contain one of them.
 */
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"

const vitest = fileURLToPath(new URL("../node_modules/vitest/vitest.mjs", import.meta.url))
const names = process.argv.slice(2)

const run = (...args) => spawnSync(process.execPath, args, { stdio: "inherit" }).status ?? 1

const statuses = ["vitest.endurance.config.ts", "vitest.load.config.ts"].map((config) =>
  run(vitest, "run", "--passWithNoTests", "--config", config, ...names)
)
run(fileURLToPath(new URL("./figures.mjs", import.meta.url)), "endurance")
process.exitCode = Math.max(...statuses)

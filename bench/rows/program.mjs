/** The main program, as whole processes. */
import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { alternate, ratios } from "../statistics.mjs"
import { row } from "./row.mjs"

const main = fileURLToPath(new URL("../../dist/bin/main.js", import.meta.url))

const timeOf = (...args) => () => {
  const start = performance.now()
  execFileSync(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] })
  return performance.now() - start
}

/** Goal 12. */
export const measureProgram = async ({ rounds }) => {
  const times = await alternate(rounds, { program: timeOf(main), node: timeOf("-e", "0") })
  return {
    rows: [
      row(
        12,
        "the main program from cold start to exit, against node -e 0 (time)",
        { atMost: 4 },
        ratios(times.program, times.node)
      )
    ]
  }
}

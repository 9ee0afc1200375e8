/** The program as its user meets it: whole processes, from their start to their exit. */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { alternate, median, spread } from "./harness.mjs"

const node = (...args) => promisify(execFile)(process.execPath, args)

const main = fileURLToPath(new URL("../dist/bin/main.js", import.meta.url))

const start = async () => {
  const { stderr, stdout } = await node(main)
  if (stderr !== "" || stdout.split("\n").length !== 4) {
    throw new Error(`The program printed something else than its three lines: ${stdout}${stderr}`)
  }
}

export const program = {
  name: "the program, from its start to its exit, against `node -e 0` (time, ratio)",
  goal: "<= 4",
  isReached: (measured) => measured <= 4,
  measure: async ({ rounds }) => {
    const times = await alternate(3 * rounds, { node: () => node("-e", "0"), program: start })
    const ratios = times.program.map((took, i) => took / times.node[i])
    return {
      measured: median(ratios),
      spread: spread(ratios),
      milliseconds: { program: Math.round(median(times.program)), node: Math.round(median(times.node)) }
    }
  }
}

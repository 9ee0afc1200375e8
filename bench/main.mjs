/**
 * The benchmark: `npm run bench` measures every row and writes results.json and the plots, `npm run bench -- --short`
 * does so in less than three minutes, with fewer rounds and smaller tables, to build/bench.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { whyAbsent } from "./children.mjs"
import { machine, versions } from "./machine.mjs"
import { writePlots } from "./plots.mjs"
import { printRow } from "./report.mjs"
import { measureImports } from "./rows/imports.mjs"
import { measureLookups } from "./rows/lookups.mjs"
import { measureProgram } from "./rows/program.mjs"
import { measureResponsiveness } from "./rows/responsiveness.mjs"
import { measureScale } from "./rows/scale.mjs"
import { measureServers } from "./rows/servers.mjs"
import { measureWrites } from "./rows/writes.mjs"
import { systems } from "./systems.mjs"
import { temporaryFolder, writeUsers } from "./users.mjs"

const { short: isShort } = parseArgs({ options: { short: { type: "boolean", default: false } } }).values

/** `slowRounds`: of what takes seconds by its nature. */
const settings = isShort
  ? {
    rounds: 3,
    slowRounds: 1,
    users: 20_000,
    sizes: { lookups: 2_000, lookupTime: 100, creates: 2_000, large: 1_000_000, imported: 100_000 }
  }
  : {
    rounds: 7,
    slowRounds: 5,
    users: 100_000,
    sizes: { lookups: 5_000, lookupTime: 400, creates: 5_000, large: 10_000_000, imported: 1_000_000 }
  }

const directory = temporaryFolder()
const bench = { ...settings, directory, file: path.join(directory, "users"), empty: path.join(directory, "empty") }
writeUsers(bench.file, bench.users)
writeUsers(bench.empty, 1)

for (const name of Object.keys(systems)) {
  const why = whyAbsent(name)
  if (why !== undefined) {
    console.log(`SKIPPED ${name}: ${why}.`)
  }
}

const head = { date: new Date().toISOString(), isShort, machine: machine(), versions: versions(), ...settings }
const began = performance.now()
const measured = {}
const families = {
  lookups: measureLookups,
  writes: measureWrites,
  responsiveness: measureResponsiveness,
  scale: measureScale,
  servers: measureServers,
  program: measureProgram,
  imports: measureImports
}
for (const [family, measure] of Object.entries(families)) {
  measured[family] = await measure(bench)
  measured[family].rows.forEach(printRow)
  console.log(`(${family}: until ${Math.round((performance.now() - began) / 1_000)} s)`)
}

const results = {
  ...head,
  versions: { ...head.versions, ...measured.lookups.versions },
  minutes: (performance.now() - began) / 60_000,
  rows: Object.values(measured).flatMap(({ rows }) => rows).toSorted((one, other) =>
    (one.goal ?? 99) - (other.goal ?? 99)
  ),
  lookups: measured.lookups.rates,
  creates: measured.writes.rates,
  delays: measured.responsiveness.delays
}

const here = fileURLToPath(new URL(".", import.meta.url))
const output = isShort ? path.join(here, "../build/bench") : here
fs.mkdirSync(output, { recursive: true })
fs.writeFileSync(path.join(output, "results.json"), `${JSON.stringify(results, rounded, 2)}\n`)
await writePlots(results, output)
console.log(
  `Measured in ${results.minutes.toFixed(1)} minutes; written to ${path.relative(process.cwd(), output) || "."}.`
)

/** Four digits are more than any spread here allows for. */
function rounded(_key, value) {
  return typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value
}

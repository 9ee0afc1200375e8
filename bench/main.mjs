/** Measures every row, prints the table, and writes it with the machine and the versions to results.json. */
import * as fs from "node:fs"
import * as os from "node:os"
import { checkMeter, makeUsers } from "./harness.mjs"
import { lookups } from "./lookups.mjs"
import { program } from "./program.mjs"
import { rows } from "./rows.mjs"

const rounds = process.argv.includes("--short") ? 3 : 7
const users = 100_000

await checkMeter()
const file = makeUsers(users)
const results = []
for (const row of [...lookups, ...rows, program]) {
  const result = { ...(await row.measure({ file, rounds, users })), row: row.name, goal: row.goal }
  results.push(result)
  const reached = row.isReached(result.measured) ? "reached" : "NOT reached"
  console.log(`${row.name}\n  goal ${row.goal}, measured ${result.measured.toFixed(2)} (${result.spread}): ${reached}`)
}

const version = (name) =>
  JSON.parse(fs.readFileSync(new URL(`../node_modules/${name}/package.json`, import.meta.url), "utf8")).version
const report = {
  date: new Date().toISOString().slice(0, 10),
  machine: { cpus: os.cpus().length, model: os.cpus()[0]?.model, memory: os.totalmem(), platform: process.platform },
  versions: {
    node: process.version,
    ...Object.fromEntries(
      ["effect", "@effect/sql", "@effect/sql-sqlite-node", "better-sqlite3"].map((name) => [name, version(name)])
    )
  },
  rounds,
  users,
  results
}
fs.writeFileSync(new URL("./results.json", import.meta.url), `${JSON.stringify(report, undefined, 2)}\n`)

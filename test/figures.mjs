/**
 * Prints what the trials of `npm run test:faults` and `npm run test:load` or, with `endurance`, of `npm run test:endurance` counted. With `write` it
 * puts both into `docs/guarantees.md`.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { sources } from "./sources.mjs"

const now = sources()

const talliesOf = (run) => {
  const directory = new URL(run === "endurance" ? "figures/" : `../build/${run}/`, import.meta.url)
  const files = existsSync(directory) ? readdirSync(directory).filter((file) => file.endsWith(".json")).toSorted() : []
  return files.map((file) => JSON.parse(readFileSync(new URL(file, directory), "utf8")))
}

const number = (value) => (Math.round(value * 100) / 100).toLocaleString("en").replaceAll(",", " ")

const countedOf = ({ figures }) => Object.entries(figures).map(([what, value]) => `${number(value)} ${what}`).join(", ")

/** Puts what was counted into the table; of what was not run again, what stands there stays. */
const write = () => {
  const file = new URL("../docs/guarantees.md", import.meta.url)
  const text = readFileSync(file, "utf8")
  const [few, many] = [talliesOf("faults"), talliesOf("endurance")]
  const before = new Map(
    Array.from(text.matchAll(/^\| ([^|]+) \| ([^|]*) ?\| ([^|]*) ?\|$/gm), ([, name, ...cells]) => [name, cells])
  )
  const names = Array.from(new Set([...few, ...many].map(({ name }) => name).concat(tableNames(text)))).toSorted()
  const cell = (tallies, name, column) => {
    const tally = tallies.find((tally) => tally.name === name)
    return tally === undefined || tally.done === 0
      ? marked(before.get(name)?.[column].trim() ?? "")
      : `${number(tally.done)}${tally.done < tally.of ? ` of ${number(tally.of)}` : ""} in ${
        number(Math.round(tally.seconds))
      } s: ${countedOf(tally)}${tally.sources === now ? "" : " (of earlier sources)"}`
  }
  const rows = names.map((name) => `| ${name} | ${cell(few, name, 0)} | ${cell(many, name, 1)} |`)
  const table = [
    "| trial | `npm run test:faults`, or `test:load` | `npm run test:endurance` |",
    "|---|---|---|",
    ...rows
  ].join("\n")
  writeFileSync(file, text.replace(between, `<!-- figures -->\n\n${table}\n\n<!-- /figures -->`))
}

/** What was not run again. */
const marked = (cell) => cell === "" || /\(of [^)]+\)$/.test(cell) ? cell : `${cell} (of an earlier run)`

const between = /<!-- figures -->[^]*<!-- \/figures -->/

const tableNames = (text) =>
  Array.from((between.exec(text)?.[0] ?? "").matchAll(/^\| ([^|]+) \|/gm), ([, name]) => name).filter((name) =>
    name !== "trial"
  )

const run = process.argv[2] ?? "faults"
if (run === "write") {
  write()
} else {
  for (const tally of talliesOf(run)) {
    console.log(`${tally.name}: ${tally.done} of ${tally.of} (${countedOf(tally)}), ${Math.round(tally.seconds)} s`)
  }
}

/**
 * Prints what the trials of `npm run test:faults` or, with `endurance`, of `npm run test:endurance` counted. With `write` it puts both into
 * `docs/guarantees.md`.
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

const write = () => {
  const few = talliesOf("faults")
  const many = talliesOf("endurance")
  const names = Array.from(new Set([...few, ...many].map(({ name }) => name))).toSorted()
  const rows = names.map((name) => {
    const short = few.find((tally) => tally.name === name)
    const long = many.find((tally) => tally.name === name)
    const cell = (tally) =>
      tally === undefined || tally.done === 0
        ? ""
        : `${number(tally.done)}${tally.done < tally.of ? ` of ${number(tally.of)}` : ""} in ${
          number(Math.round(tally.seconds))
        } s: ${countedOf(tally)}${tally.sources === now ? "" : " (of earlier sources)"}`
    return `| ${name} | ${cell(short)} | ${cell(long)} |`
  })
  const table = ["| trial | `npm run test:faults` | `npm run test:endurance` |", "|---|---|---|", ...rows].join("\n")
  const file = new URL("../docs/guarantees.md", import.meta.url)
  const text = readFileSync(file, "utf8")
  writeFileSync(file, text.replace(/(<!-- figures -->\n)[^]*(<!-- \/figures -->)/, `$1\n${table}\n\n$2`))
}

const run = process.argv[2] ?? "faults"
if (run === "write") {
  write()
} else {
  for (const tally of talliesOf(run)) {
    console.log(`${tally.name}: ${tally.done} of ${tally.of} (${countedOf(tally)}), ${Math.round(tally.seconds)} s`)
  }
}

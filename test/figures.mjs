/** Prints what the trials of `npm run test:faults` or, with `endurance`, of `npm run test:endurance` counted. */
import { existsSync, readdirSync, readFileSync } from "node:fs"

const directory = new URL(`../build/${process.argv[2] ?? "faults"}/`, import.meta.url)

const files = existsSync(directory) ? readdirSync(directory).filter((file) => file.endsWith(".json")).toSorted() : []

for (
  const { done, figures, name, of, seconds } of files.map((file) =>
    JSON.parse(readFileSync(new URL(file, directory), "utf8"))
  )
) {
  const counted = Object.entries(figures).map(([what, value]) => `${Math.round(value * 100) / 100} ${what}`).join(", ")
  console.log(`${name}: ${done} of ${of}${counted === "" ? "" : ` (${counted})`}, ${Math.round(seconds)} s`)
}

/**
 * Writes the table of results.json into the README, between the comments `benchmark` and `/benchmark`: `npm run
 * --prefix bench readme`.
 */
import * as fs from "node:fs"
import { table } from "./report.mjs"

const readme = new URL("../README.md", import.meta.url)
const results = JSON.parse(fs.readFileSync(new URL("./results.json", import.meta.url), "utf8"))
const text = fs.readFileSync(readme, "utf8")
const between = /(<!-- benchmark -->\n)[^]*(<!-- \/benchmark -->)/
if (!between.test(text)) {
  throw new Error("The README has no place for the table.")
}
fs.writeFileSync(readme, text.replace(between, (_, before, after) => `${before}\n${table(results)}\n${after}`))

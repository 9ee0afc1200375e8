/** `effect-avatars import`, as whole processes, beside a bare loop over the same file. */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { alternate, ratios, summary } from "../statistics.mjs"
import { userAt } from "../users.mjs"
import { row } from "./row.mjs"

const main = fileURLToPath(new URL("../../dist/bin/main.js", import.meta.url))
const bare = fileURLToPath(new URL("../bareImport.mjs", import.meta.url))

const writeCsv = (file, count, mark) => {
  const to = fs.openSync(file, "w")
  fs.writeSync(to, "login,name,forname\n")
  for (let place = 0; place < count; place += 10_000) {
    const users = Array.from({ length: Math.min(10_000, count - place) }, (_, i) => userAt(place + i))
    fs.writeSync(to, users.map(({ forname, login, name }) => `${login},${mark}${name}${mark},${forname}\n`).join(""))
  }
  fs.closeSync(to)
}

/** Runs one import into a new database; answers its seconds, and what it printed. */
const timed = (target, ...args) => {
  const start = performance.now()
  const printed = execFileSync(process.execPath, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
  const seconds = (performance.now() - start) / 1_000
  for (const end of ["", "-wal", "-shm"]) {
    fs.rmSync(target + end, { force: true })
  }
  return { seconds, printed }
}

export const measureImports = async ({ directory, sizes: { imported }, slowRounds }) => {
  const source = path.join(directory, "users.csv")
  const quoted = path.join(directory, "quoted.csv")
  const target = path.join(directory, "imported.sqlite")
  writeCsv(source, imported, "")
  writeCsv(quoted, imported, "\"")
  const times = await alternate(slowRounds, {
    program: () => timed(target, main, "import", source, "--database", target),
    quoted: () => timed(target, main, "import", quoted, "--database", target),
    bare: () => timed(target, bare, source, target)
  })
  fs.rmSync(source)
  fs.rmSync(quoted)
  const program = times.program.map(({ seconds }) => seconds)
  const what = `${imported.toLocaleString("en").replaceAll(",", " ")} users`
  return {
    rows: [
      row(
        undefined,
        `import of ${what} by the command line, against a bare program that parses and inserts (rate)`,
        { atLeast: 0.5 },
        ratios(times.bare.map(({ seconds }) => seconds), program)
      ),
      row(
        undefined,
        `import of ${what} by the command line, against a bare insert loop over rows that were parsed before (rate)`,
        { atLeast: 0.5 },
        ratios(times.bare.map(({ printed }) => Number(printed)), program)
      ),
      row(
        undefined,
        `the same of a file whose names are in quotes, against that insert loop (rate)`,
        undefined,
        ratios(times.bare.map(({ printed }) => Number(printed)), times.quoted.map(({ seconds }) => seconds))
      ),
      row(undefined, `import of ${what} by the command line`, undefined, {
        ...summary(program.map((seconds) => imported / seconds)),
        unit: "users/s"
      })
    ]
  }
}

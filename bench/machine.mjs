/** On what, and with what, was measured. */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import { createRequire } from "node:module"
import * as os from "node:os"

export const machine = () => ({
  processors: os.cpus().length,
  model: os.cpus()[0]?.model,
  memory: `${Math.round(os.totalmem() / 2 ** 30)} GiB`,
  system: `${os.type()} ${os.release()} ${os.arch()}`
})

/** Packages as our own code resolves them, then the peers. */
const packages = {
  "../package.json": ["effect", "@effect/sql", "@effect/sql-sqlite-node", "better-sqlite3"],
  "./package.json": ["better-sqlite3-pool", "@libsql/client", "sqlite3", "drizzle-orm", "kysely"]
}

const versionOf = (name, from) => {
  const folder = createRequire(new URL(from, import.meta.url)).resolve.paths(name)
    .map((folder) => `${folder}/${name}/package.json`).find((file) => fs.existsSync(file))
  return JSON.parse(fs.readFileSync(folder, "utf8")).version
}

export const versions = () => ({
  commit: execFileSync("git", ["describe", "--always", "--dirty"], {
    cwd: new URL(".", import.meta.url),
    encoding: "utf8"
  }).trim(),
  node: process.version,
  ...Object.fromEntries(
    Object.entries(packages).flatMap(([from, names]) => names.map((name) => [name, versionOf(name, from)]))
  )
})

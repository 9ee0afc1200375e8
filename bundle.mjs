/**
 * Bundles the program into `dist/bin`, unless what stands there is newer than all that it is made of: a file for the program and one for
 * each thread that it starts, side by side, as `new URL("./worker.js", import.meta.url)` expects them. The drivers stay outside: SQLite's has
 * a native part, and the servers' are there only where they were installed. `--clean` removes the bundle.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

process.chdir(fileURLToPath(new URL(".", import.meta.url)))

const directory = "dist/bin"
/** Written last. */
const licenses = `${directory}/LICENSES.txt`

const bundle = async () => {
  const { build } = await import("esbuild")
  const { metafile } = await build({
    entryPoints: ["src/main.ts", "src/internal/sqlitePool/worker.ts", "src/internal/sqlitePool/backup.ts"],
    entryNames: "[name]",
    outdir: directory,
    bundle: true,
    splitting: true,
    chunkNames: "chunk-[hash]",
    external: ["better-sqlite3", "@effect/sql-pg", "@effect/sql-mysql2"],
    format: "esm",
    platform: "node",
    target: "node20",
    tsconfig: "tsconfig.src.json",
    metafile: true,
    logLevel: "warning"
  })
  // Chunks of an earlier bundle have other names.
  const made = new Set(Object.keys(metafile.outputs).map((file) => path.basename(file)))
  fs.readdirSync(directory).filter((file) => !made.has(file)).forEach((file) => fs.rmSync(`${directory}/${file}`))
  const inputs = Object.values(metafile.outputs).flatMap((output) => Object.keys(output.inputs))
  const packages = new Set(inputs.flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(file) ?? []))
  const texts = Array.from(
    packages,
    (path) => `${path.split("node_modules/").at(-1)}\n\n${fs.readFileSync(`${path}/LICENSE`, "utf8")}`
  )
  fs.writeFileSync(licenses, texts.join("\n"))
}

const changedAt = (file) => fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0

const isStale = () => {
  const sources = fs.readdirSync("src", { recursive: true, encoding: "utf8" }).map((file) => `src/${file}`)
  const madeOf = ["bundle.mjs", "package-lock.json", "tsconfig.src.json", "tsconfig.base.json", "src", ...sources]
  return madeOf.some((file) => changedAt(file) > changedAt(licenses))
}

if (process.argv.includes("--clean")) {
  fs.rmSync(directory, { recursive: true, force: true })
} else if (isStale()) {
  await bundle()
}

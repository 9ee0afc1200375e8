/**
 * Bundles the program into `dist/bin`, unless what stands there is newer than all that it is made of: the program, and a file for each thread
 * that it starts, beside it, as `new URL("./worker.js", import.meta.url)` expects them. Where the library was compiled its threads get such files
 * too, in the place of the compiler's: a thread that loads one file starts in two thirds of the time that a dozen modules take it. The drivers
 * stay outside: SQLite's has a native part, and the servers' are there only where they were installed. `--clean` removes the bundle.
 */
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"

process.chdir(fileURLToPath(new URL(".", import.meta.url)))

const directory = "dist/bin"
/** Written last. */
const licenses = `${directory}/LICENSES.txt`

const options = {
  entryNames: "[name]",
  bundle: true,
  external: ["better-sqlite3", "@effect/sql-pg", "@effect/sql-mysql2"],
  format: "esm",
  platform: "node",
  target: "node20",
  tsconfig: "tsconfig.src.json",
  metafile: true,
  logLevel: "warning"
}
const program = { entryPoints: ["src/main.ts"], outdir: directory, splitting: true, chunkNames: "chunk-[hash]" }
const threads = { entryPoints: ["src/internal/sqlitePool/worker.ts", "src/internal/sqlitePool/backup.ts"] }

/** Where the compiler puts them. */
const library = "dist/internal/sqlitePool"
const compiled = ["worker.js", "backup.js"].map((file) => `${library}/${file}`).filter((file) => fs.existsSync(file))

const bundle = async () => {
  const { build } = await import("esbuild")
  const results = await Promise.all([
    build({ ...options, ...program }),
    build({ ...options, ...threads, outdir: directory }),
    ...(compiled.length === 0
      ? []
      : [build({ ...options, ...threads, outdir: library, sourcemap: true, sourcesContent: false })])
  ])
  const outputs = results.flatMap(({ metafile }) => Object.entries(metafile.outputs))
  // Chunks of an earlier bundle have other names.
  const made = new Set(outputs.map(([file]) => file))
  fs.readdirSync(directory).map((file) => `${directory}/${file}`).filter((file) => !made.has(file)).forEach((file) =>
    fs.rmSync(file)
  )
  const inputs = outputs.flatMap(([, output]) => Object.keys(output.inputs))
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
  const madeOf = [
    "bundle.mjs",
    "package-lock.json",
    "tsconfig.src.json",
    "tsconfig.base.json",
    "src",
    ...sources,
    ...compiled
  ]
  return madeOf.some((file) => changedAt(file) > changedAt(licenses))
}

if (process.argv.includes("--clean")) {
  fs.rmSync(directory, { recursive: true, force: true })
} else if (isStale()) {
  await bundle()
}

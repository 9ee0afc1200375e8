/**
 * `npm run fuzz [-- target [seconds]]`: jazzer.js makes inputs by looking at which branches the last ones reached. Without a target all of them in
 * turn, a minute each by default. Inputs that reached something new stay in `build/fuzz`, where the next run begins.
 *
 * The status is 0 where no input was found that breaks the target's claim, 77 where one was, which is then a file in `build/fuzz`, and 3 where
 * jazzer.js does not run here. `--planted` looks for the bug that the target plants, without what earlier runs have found.
 */
import { build } from "esbuild"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import { createRequire } from "node:module"
import * as path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { parseArgs } from "node:util"

const root = fileURLToPath(new URL("../..", import.meta.url))
const directory = path.join(root, "build/fuzz")
const libraries = path.join(root, "build/libraries/usr/lib")
const jazzer = createRequire(import.meta.url).resolve("@jazzer.js/core/dist/cli.js")

const targets = ["logins", "sqliteUrl", "serverUrl", "routing", "rows", "errors"]

/** Commands that start node: the usual one, and one with the libraries that `libraries.sh` has put here. */
const nodes = () => {
  const beside = fs.existsSync(libraries) ? fs.readdirSync(libraries).map((name) => path.join(libraries, name)) : []
  const loaders = beside.flatMap((folder) =>
    fs.readdirSync(folder).filter((name) => name.startsWith("ld-linux")).map((name) => [
      path.join(folder, name),
      "--library-path",
      folder,
      process.execPath
    ])
  )
  return [[process.execPath], ...loaders]
}

const run = ([command, ...args], more, options) => spawnSync(command, [...args, ...more], options)

/** The first that can load the native part of jazzer.js. */
const usableNode = () => {
  const tried = nodes().map((node) => ({ node, result: run(node, [jazzer, "--help"], { encoding: "utf8" }) }))
  const usable = tried.find(({ result }) => result.status === 0)
  if (usable === undefined) {
    const why = /^.*Error: (.*)$/m.exec(tried[0].result.stderr)?.[1] ?? "it does not start"
    console.error(`jazzer.js does not run here (${why}): on a Debian, test/fuzz/libraries.sh brings what it needs.`)
    process.exit(3)
  }
  return usable.node
}

/** The target with all of the product that it uses, in one file, whose branches jazzer.js watches. */
const bundled = async (target) => {
  const outfile = path.join(directory, `${target}.mjs`)
  await build({
    entryPoints: [path.join(root, "test/fuzz/targets", `${target}.ts`)],
    outfile,
    bundle: true,
    packages: "external",
    format: "esm",
    platform: "node",
    target: "node20",
    sourcemap: "inline",
    logLevel: "warning"
  })
  return outfile
}

const fuzz = async (node, target, seconds, isPlanted) => {
  const entry = isPlanted ? "planted" : "fuzz"
  const file = await bundled(target)
  const corpus = path.join(directory, `${target}.${entry}`)
  if (isPlanted) {
    fs.rmSync(corpus, { recursive: true, force: true })
  }
  fs.mkdirSync(corpus, { recursive: true })
  const { seeds } = await import(pathToFileURL(file).href)
  seeds.forEach((seed, i) => fs.writeFileSync(path.join(corpus, `seed-${i}`), seed))
  const options = [
    `--fuzzEntryPoint=${entry}`,
    `--includes=${file}`,
    "--excludes=node_modules",
    "--disableBugDetectors=.*",
    "--sync",
    corpus,
    "--",
    `-max_total_time=${seconds}`,
    "-max_len=2048",
    "-timeout=20",
    `-artifact_prefix=${corpus}.`
  ]
  const { status } = run(node, [jazzer, file, ...options], { stdio: "inherit", cwd: corpus })
  return status ?? 1
}

const { positionals: [only, seconds = "60"], values } = parseArgs({
  allowPositionals: true,
  options: { planted: { type: "boolean", default: false } }
})
if (only !== undefined && !targets.includes(only)) {
  console.error(`There is no target '${only}': they are ${targets.join(", ")}.`)
  process.exit(2)
}
fs.mkdirSync(directory, { recursive: true })
const node = usableNode()
const statuses = []
for (const target of only === undefined ? targets : [only]) {
  console.log(`\n${target}`)
  statuses.push(await fuzz(node, target, seconds, values.planted))
}
process.exitCode = Math.max(...statuses)

import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { afterAll } from "vitest"

const root = fileURLToPath(new URL("..", import.meta.url))
const bundle = path.join(root, "dist/bin")
const temporary = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "bundle-")))

afterAll(() => fs.rmSync(temporary, { recursive: true }))

const threeLines = "Mr 'Yoen Van der Veld' is connected under 'yoen'\n"
  + "Mr 'Estebán Garcia Marquez' is connected under 'esteban'\n"
  + "Mr 'Mohamed Al Ghâlib' is connected under 'mohamed'\n"

const run = (cwd: string, file: string, ...args: ReadonlyArray<string>) => {
  const { DATABASE_URL: _, ...env } = process.env
  return promisify(execFile)(file, args, { cwd, env, shell: file === "npm" && process.platform === "win32" }).then(
    ({ stderr, stdout }) => ({ code: 0, stdout, stderr }),
    (error: { readonly code: number; readonly stdout: string; readonly stderr: string }) => ({
      code: error.code,
      stdout: error.stdout,
      stderr: error.stderr
    })
  )
}

const javaScript = () => fs.readdirSync(bundle).filter((file) => file.endsWith(".js"))

/** A directory in which nothing can be imported but the packages that are named. */
const alone = (name: string, ...packages: ReadonlyArray<string>) => {
  const directory = path.join(temporary, name)
  fs.cpSync(bundle, path.join(directory, "bin"), { recursive: true })
  fs.copyFileSync(path.join(root, "package.json"), path.join(directory, "package.json"))
  fs.mkdirSync(path.join(directory, "node_modules"))
  for (const name of packages) {
    fs.symlinkSync(path.join(root, "node_modules", name), path.join(directory, "node_modules", name), "junction")
  }
  return directory
}

describe("the program's bundle", () => {
  it("needs nothing beside it but the driver, whatever the working directory is", async () => {
    const main = path.join(alone("driver", "better-sqlite3"), "bin/main.js")
    assert.deepStrictEqual(await run(temporary, process.execPath, main), { code: 0, stdout: threeLines, stderr: "" })
    const users = path.join(temporary, "users")
    fs.mkdirSync(users)
    fs.copyFileSync(path.join(root, "test/fixtures/users.sqlite"), path.join(users, "users.sqlite"))
    assert.deepStrictEqual(await run(users, process.execPath, main, "--database", "sqlite:./users.sqlite", "yoen"), {
      code: 0,
      stdout: threeLines.slice(0, threeLines.indexOf("\n") + 1),
      stderr: ""
    })
  })

  it("has no driver of its own: a process has one copy, which its threads share", async () => {
    const { code, stderr } = await run(temporary, process.execPath, path.join(alone("nothing"), "bin/main.js"))
    assert.strictEqual(code, 1)
    assert.include(stderr, "Cannot find package 'better-sqlite3'")
    const texts = javaScript().map((file) => fs.readFileSync(path.join(bundle, file), "utf8"))
    assert.isTrue(texts.some((text) => /^import \w+ from "better-sqlite3";$/m.test(text)))
    assert.deepStrictEqual(texts.filter((text) => text.includes("// node_modules/better-sqlite3")), [])
  })

  it("holds the file of every thread that it may start, and every part that a file imports", () => {
    const named = javaScript().flatMap((file) =>
      Array.from(
        fs.readFileSync(path.join(bundle, file), "utf8").matchAll(
          /new URL\("\.\/([^"]+)", import\.meta\.url\)|\b(?:from |import\()"\.\/([^"]+)"/g
        ),
        ([, thread, part]) => thread ?? part!
      )
    )
    assert.includeMembers(named, ["worker.js", "backup.js"])
    assert.deepStrictEqual(Array.from(new Set(["main.js", ...named])).toSorted(), javaScript().toSorted())
  })

  it("names the licence of each package that is in it", () => {
    const texts = javaScript().map((file) => fs.readFileSync(path.join(bundle, file), "utf8"))
    const packages = texts.flatMap((text) =>
      Array.from(text.matchAll(/^\/\/ .*node_modules\/((?:@[^/]+\/)?[^/]+)\//gm))
    )
    const licenses = fs.readFileSync(path.join(bundle, "LICENSES.txt"), "utf8").split("\n")
    const names = new Set(packages.map(([, name]) => name))
    assert.isTrue(names.has("effect") && names.has("csv-parse"))
    assert.deepStrictEqual([...names].filter((name) => !licenses.includes(name!)), [])
  })

  it("is in the package, whole", async () => {
    const { stdout } = await run(root, "npm", "pack", "--dry-run", "--json", "--ignore-scripts")
    const [packed] = JSON.parse(stdout) as ReadonlyArray<{ readonly files: ReadonlyArray<{ readonly path: string }> }>
    assert.deepStrictEqual(
      packed!.files.map((file) => file.path).filter((file) => file.startsWith("dist/bin/")).toSorted(),
      fs.readdirSync(bundle).map((file) => `dist/bin/${file}`)
    )
    // The library's threads, whose modules are not.
    for (const file of ["worker.js", "backup.js"].map((file) => `dist/internal/sqlitePool/${file}`)) {
      assert.include(packed!.files.map((file) => file.path), file)
      assert.notMatch(fs.readFileSync(path.join(root, file), "utf8"), /from "\.|import\("\./)
    }
  })

  it("is what `npm start` makes where there is none, runs, and makes again only after a change", async () => {
    const clone = path.join(temporary, "clone")
    fs.cpSync(path.join(root, "src"), path.join(clone, "src"), { recursive: true })
    for (const file of ["package.json", "package-lock.json", "tsconfig.src.json", "tsconfig.base.json", "bundle.mjs"]) {
      fs.copyFileSync(path.join(root, file), path.join(clone, file))
    }
    fs.symlinkSync(path.join(root, "node_modules"), path.join(clone, "node_modules"), "junction")
    const main = path.join(clone, "dist/bin/main.js")
    const start = async () => {
      const { code, stderr, stdout } = await run(clone, "npm", "start", "--silent")
      assert.deepStrictEqual({ code, stderr, stdout }, { code: 0, stderr: "", stdout: threeLines })
      return fs.statSync(main).mtimeMs
    }
    const first = await start()
    assert.deepStrictEqual(fs.readdirSync(path.join(clone, "dist")), ["bin"])
    assert.strictEqual(await start(), first)
    fs.appendFileSync(path.join(clone, "src/internal/sqlitePool/worker.ts"), "\nexport const changed = true\n")
    assert.notStrictEqual(await start(), first)
    assert.include(fs.readFileSync(path.join(clone, "dist/bin/worker.js"), "utf8"), "changed = true")
  })
})

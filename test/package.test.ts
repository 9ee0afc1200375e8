import { describe, expect, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { createRequire } from "node:module"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const root = fileURLToPath(new URL("..", import.meta.url))

const read = (file: string) => readFileSync(join(root, file), "utf8")

const json = (file: string): unknown => JSON.parse(read(file))

const manifest = json("package.json") as {
  readonly name: string
  readonly files: ReadonlyArray<string>
  readonly exports: Record<string, string | null | { readonly types: string; readonly default: string }>
  readonly dependencies: Record<string, string>
  readonly peerDependencies: Record<string, string>
}

/** What a program answers, whatever its exit code; in the package's directory, as its own modules are named there. */
const run = (file: string, ...args: ReadonlyArray<string>) =>
  promisify(execFile)(file, args, { cwd: root }).then(
    ({ stdout }) => ({ code: 0, stdout }),
    (error: { readonly code: number; readonly stdout: string }) => ({ code: error.code, stdout: error.stdout })
  )

/** What Node itself says to `import(specifier)`: the names that the module exports, or the error's code. */
const imported = async (specifiers: ReadonlyArray<string>) => {
  const { stdout } = await run(
    process.execPath,
    "--input-type=module",
    "--eval",
    `
      const answers = {}
      for (const specifier of ${JSON.stringify(specifiers)}) {
        answers[specifier] = await import(specifier).then(Object.keys, (error) => error.code)
      }
      console.log(JSON.stringify(answers))
    `
  )
  return JSON.parse(stdout) as Record<string, ReadonlyArray<string> | string>
}

const modules = Object.entries(manifest.exports).flatMap(([path, target]) =>
  typeof target === "object" && target !== null ? [{ specifier: join(manifest.name, path), path, target }] : []
)

const barrel = modules.filter(({ path }) => path !== ".").map(({ path }) => path.slice("./".length)).toSorted()

describe("what can be imported", () => {
  it("is each of the package's exports, by its name", async () => {
    const answers = await imported(modules.map(({ specifier }) => specifier))
    expect(modules.length).toBeGreaterThan(1)
    for (const { specifier } of modules) {
      expect(answers[specifier]).toEqual(expect.arrayContaining([expect.any(String)]))
    }
    expect(createRequire(import.meta.url).resolve(`${manifest.name}/package.json`)).toBe(join(root, "package.json"))
  })

  it("is nothing else: no internal, no program, no file by its path", async () => {
    const paths = [
      "internal/errorCodes",
      "internal/errorCodes.js",
      "main",
      "main.js",
      "cli",
      "dist/index.js",
      "dist/main.js",
      "dist/bin/main.js",
      "dist/internal/errorCodes.js",
      "src/Avatar.ts"
    ]
    const answers = await imported(paths.map((path) => join(manifest.name, path)))
    expect(Object.keys(answers).length).toBe(paths.length)
    expect(new Set(Object.values(answers))).toEqual(new Set(["ERR_PACKAGE_PATH_NOT_EXPORTED"]))
  })

  it("is a barrel of exactly the public modules, as they are", async () => {
    expect(await imported([manifest.name])).toEqual({ [manifest.name]: barrel })
    const script = `
      import * as barrel from "${manifest.name}"
      for (const name of Object.keys(barrel)) {
        console.log(name, barrel[name] === await import("${manifest.name}/" + name))
      }
    `
    const { stdout } = await run(process.execPath, "--input-type=module", "--eval", script)
    expect(stdout.trim().split("\n")).toEqual(barrel.map((name) => `${name} true`))
  })

  it("is every module of src, but internals and the program", () => {
    const files = readdirSync(join(root, "src")).filter((file) => file.endsWith(".ts"))
    expect(files.toSorted()).toEqual([...barrel, "cli", "index", "main"].map((name) => `${name}.ts`).toSorted())
  })
})

describe("what is shipped", () => {
  it("holds each export's code and types", () => {
    expect(manifest.files).toContain("dist")
    for (const { target } of modules) {
      expect(Object.keys(target)).toEqual(["types", "default"])
      const missing = Object.values(target).filter((file) =>
        !file.startsWith("./dist/") || !existsSync(join(root, file))
      )
      expect(missing).toEqual([])
    }
  })

  it("imports only packages that are installed with it", async () => {
    const { stdout } = await run("npm", "pack", "--dry-run", "--json", "--ignore-scripts")
    const [packed] = JSON.parse(stdout) as ReadonlyArray<{ readonly files: ReadonlyArray<{ readonly path: string }> }>
    const imports = packed!.files.map(({ path }) => path).filter((file) =>
      /^dist\/(?!bin\/).*\.(?:js|d\.ts)$/.test(file)
    )
      .flatMap(
        (file) =>
          Array.from(
            read(file).matchAll(/\b(?:from |import\()"(?!\.|node:)((?:@[^/"]+\/)?[^/"]+)/g),
            ([, name]) => name
          )
      )
    // An example in a comment imports this package itself.
    const installed = new Set(Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies }))
      .add(manifest.name)
    expect(new Set(imports)).toContain("effect")
    expect([...new Set(imports)].filter((name) => name === undefined || !installed.has(name))).toEqual([])
  })
})

describe("the diagnostics of @effect/language-service, with the settings of this project", () => {
  it("read the same settings for the program and its tests", () => {
    for (const file of ["tsconfig.src.json", "tsconfig.test.json"]) {
      expect(json(file)).toMatchObject({ extends: "./tsconfig.base.json" })
      expect(json(file)).not.toHaveProperty("compilerOptions.plugins")
    }
  })
})

describe("what is committed", () => {
  /** All text files that are committed or about to be. */
  const committed = async () => {
    const { code, stdout } = await run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if (code !== 0) {
      throw new Error("this is no checkout of git")
    }
    return stdout.split("\0").filter((file) => statSync(join(root, file), { throwIfNoEntry: false })?.isFile())
      .map((file) => ({ file, text: read(file) }))
      .filter(({ text }) => !text.includes("\0"))
  }

  it("the lock file pins every package by its content but builds for other platforms, and says of none where to get it", () => {
    interface Package {
      readonly integrity?: string
      readonly resolved?: string
      readonly optional?: boolean
      readonly os?: ReadonlyArray<string>
      readonly cpu?: ReadonlyArray<string>
      readonly libc?: ReadonlyArray<string>
    }
    const { packages } = json("package-lock.json") as { readonly packages: Record<string, Package> }
    const isOfAnotherPlatform = ({ cpu, libc, optional, os }: Package) =>
      optional === true &&
      (os?.includes("linux") !== true || cpu?.includes("x64") !== true || libc?.includes("glibc") === false)
    const { "": own, ...others } = packages
    expect(own).toMatchObject({ name: manifest.name })
    expect(Object.keys(others).length).toBeGreaterThan(100)
    const unpinned = Object.entries(others).filter(([, { integrity }]) => integrity?.startsWith("sha512-") !== true)
    expect(unpinned.filter(([, other]) => !isOfAnotherPlatform(other)).map(([path]) => path)).toEqual([])
    expect(Object.keys(others).filter((path) => others[path]?.resolved !== undefined)).toEqual([])
  })

  it("no file names a registry, or a directory of somebody's machine", async () => {
    const files = await committed()
    expect(files.map(({ file }) => file)).toContain("package.json")
    expect(files.filter(({ file }) => file.endsWith(".npmrc"))).toEqual([])
    const names = /\bregistry\.[a-z]|\bregistry\s*=|\/(?:artifactory|verdaccio)\/|(?<![\w.])\/(?:work|home|root)\//
    expect(files.flatMap(({ file, text }) => names.exec(text)?.map((found) => `${file}: ${found}`) ?? [])).toEqual([])
  })

  it("no path leaves the repository, or leads to the neighbour of a checkout", async () => {
    const leaving = (await committed()).flatMap(({ file, text }) =>
      (text.match(/(?:\.\.\/)+[\w.-]*/g) ?? [])
        .filter((path) => path.split("../").length > file.split("/").length || path.split("../").at(-1) === "shared")
        .map((path) => `${file}: ${path}`)
    )
    expect(leaving).toEqual([])
  })
})

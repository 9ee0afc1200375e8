/** Programs that the tests run: the product's own, and those of the fixtures, to which they talk. */
import { FileSystem } from "@effect/platform"
import { NodeFileSystem } from "@effect/platform-node"
import { assert } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

/** A script of the fixtures, which runs until the scope ends. */
export const start = (script: string, ...args: ReadonlyArray<string>) => startUnder([], script, ...args)

/** The same, started by another command, which becomes it. */
export const startUnder = (command: ReadonlyArray<string>, script: string, ...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const fixture = fileURLToPath(new URL(`./fixtures/${script}`, import.meta.url))
      const [file, ...rest] = [...command, process.execPath, fixture, ...args]
      return spawn(file!, rest, { stdio: ["pipe", "pipe", "inherit"] })
    }),
    (child) =>
      Effect.async<void>((resume) => {
        if (!child.kill()) {
          return resume(Effect.void)
        }
        child.once("close", () => resume(Effect.void))
      })
  ).pipe(Effect.map((child) => {
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    return {
      say: (line: string) => Effect.sync(() => void child.stdin.write(`${line}\n`)),
      line: Effect.map(Effect.promise(() => lines.next()), ({ value }) => String(value))
    }
  }))

export interface Ended {
  readonly stdout: string
  readonly stderr: string
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export const root = fileURLToPath(new URL("..", import.meta.url))

export const tempDirectory = Effect.flatMap(FileSystem.FileSystem, (files) => files.makeTempDirectoryScoped()).pipe(
  Effect.provide(NodeFileSystem.layer),
  Effect.map((directory) => fs.realpathSync(directory))
)

export const urlOf = (file: string) => `sqlite:${encodeURIComponent(file)}`

/** A copy of a fixture, alone in a directory. */
export const database = (name: string, journal: "delete" | "wal" = "delete") =>
  Effect.map(tempDirectory, (directory) => {
    const file = path.join(directory, "users.sqlite")
    fs.copyFileSync(path.join(root, "test/fixtures", name), file)
    const db = new Sqlite(file)
    db.pragma(`journal_mode = ${journal}`)
    db.close()
    return { directory, file, url: urlOf(file) }
  })

export const main = (...[args = [], ...rest]: Partial<Parameters<typeof program>>) => program(args, ...rest)

const program = (args: ReadonlyArray<string>, env?: NodeJS.ProcessEnv, started?: Started, input?: string) =>
  run(process.execPath, [path.join(root, "dist/bin/main.js"), ...args], env, started, input)

export type Started = (child: ChildProcess, temporary: string) => void

/** Runs a program to its end. Whatever it was asked, no stack trace is on stderr, and no temporary file is left. */
export const run = (
  command: string,
  args: ReadonlyArray<string>,
  env: NodeJS.ProcessEnv = {},
  started: Started = () => {},
  input?: string
) =>
  Effect.flatMap(tempDirectory, (temporary) =>
    Effect.async<Ended>((resume) => {
      const { DATABASE_URL: _, ...inherited } = process.env
      const child = spawn(command, args, {
        cwd: root,
        env: { ...inherited, TMPDIR: temporary, TEMP: temporary, TMP: temporary, ...env },
        shell: command === "npm" && process.platform === "win32",
        stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"]
      })
      child.stdin?.end(input)
      const output = { stdout: "", stderr: "" }
      child.stdout!.setEncoding("utf8").on("data", (text: string) => output.stdout += text)
      child.stderr!.setEncoding("utf8").on("data", (text: string) => output.stderr += text)
      child.once("error", (error) => resume(Effect.die(error)))
      child.once("close", (code, signal) => resume(Effect.succeed({ ...output, code, signal })))
      started(child, temporary)
      return Effect.sync(() => child.kill("SIGKILL"))
    }).pipe(Effect.tap(({ stderr }) => {
      assert.notMatch(stderr, /^\s+at /m)
      assert.deepStrictEqual(fs.readdirSync(temporary), [])
    })))

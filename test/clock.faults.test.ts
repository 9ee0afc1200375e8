import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { temporaryFile } from "./layers.js"
import { servers, temporaryDatabase } from "./servers.js"

/** Debian's libfaketime: what the process and its threads, SQLite's too, are told of the time of day. */
const library = fs.existsSync("/usr/lib")
  ? fs.readdirSync("/usr/lib").map((name) => `/usr/lib/${name}/faketime/libfaketimeMT.so.1`).find(fs.existsSync)
  : undefined

/** How late a timer may be on a loaded machine (ms): far from the hours of a jump. */
const late = 5_000

interface Took {
  readonly milliseconds: number
  readonly reason?: string
}

/** What the fixture prints. */
interface Result {
  readonly sqlite: {
    readonly jumps: Readonly<Record<"main" | "reader" | "writer", number>>
    readonly load: { readonly done: number; readonly failed: ReadonlyArray<string> }
    readonly retries: Took
    readonly acquireTimeout: Took
    readonly statementTimeout: Took
    readonly busyTimeout: Took
    readonly closeTimeout: Took
    readonly readerIdleTimeout: Took
    readonly forgotten: number
  }
  readonly servers: ReadonlyArray<Readonly<Record<"acquireTimeout" | "statementTimeout" | "retries", Took>>>
}

describe("while the wall clock jumps by hours, forth and back", () => {
  it.scopedLive("each timeout takes the time it says, retries go on, and no call fails early or hangs", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(library === undefined, "libfaketime is not installed")
      const file = yield* temporaryFile("pool.sqlite")
      const there = servers.filter(({ missing }) => missing === undefined)
      const urls = yield* Effect.forEach(there, temporaryDatabase)
      const result = yield* run(file, urls)
      const { jumps, load, retries, ...timeouts } = result.sqlite
      Object.values(jumps).forEach((count) => assert.isAbove(count, 10, "it did not jump"))
      assert.deepStrictEqual(load.failed, [])
      assert.isAbove(load.done, 100)
      const isRetried = (took: unknown) =>
        assert.deepInclude(took, { attempts: 5, isRetryable: true }, JSON.stringify(took))
      isRetried(retries)
      const takes = (took: Took, milliseconds: number, reason: string | undefined, name: string) => {
        assert.strictEqual(took.reason, reason, name)
        assert.isAtLeast(took.milliseconds, milliseconds - 5, name)
        assert.isBelow(took.milliseconds, milliseconds + late, name)
      }
      takes(timeouts.acquireTimeout, 400, "ConnectionError", "acquireTimeout")
      takes(timeouts.statementTimeout, 400, "StatementTimeoutError", "statementTimeout")
      takes(timeouts.busyTimeout, 400, "LockTimeoutError", "busyTimeout")
      takes(timeouts.closeTimeout, 400, undefined, "closeTimeout")
      takes(timeouts.readerIdleTimeout, 200, undefined, "readerIdleTimeout")
      assert.strictEqual(timeouts.forgotten, 1, "prepareCacheTTL")
      for (const server of result.servers) {
        takes(server.acquireTimeout, 400, "ConnectionError", "acquireTimeout of a server")
        takes(server.statementTimeout, 1_000, "StatementTimeoutError", "statementTimeout of a server")
        isRetried(server.retries)
      }
    }))
})

const run = (file: string, urls: ReadonlyArray<string>) =>
  Effect.async<Result>((resume) => {
    const told = path.join(path.dirname(file), "time")
    fs.writeFileSync(told, "+0")
    const fixture = fileURLToPath(new URL("fixtures/clock-jumps.mjs", import.meta.url))
    const child = spawn(process.execPath, [fixture, file, ...urls], {
      stdio: ["ignore", "pipe", "inherit"],
      env: {
        ...process.env,
        LD_PRELOAD: library,
        FAKETIME_TIMESTAMP_FILE: told,
        FAKETIME_NO_CACHE: "1",
        FAKETIME_DONT_FAKE_MONOTONIC: "1"
      }
    })
    let output = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => output += text)
    child.once("close", (code, signal) =>
      resume(
        output === ""
          ? Effect.die(`it ended with ${signal ?? code}`)
          : Effect.sync(() => JSON.parse(output) as Result)
      ))
    const timer = setTimeout(() => child.kill("SIGKILL"), 60_000)
    child.once("close", () => clearTimeout(timer))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

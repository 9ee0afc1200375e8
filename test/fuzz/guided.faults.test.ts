/** jazzer.js on each target for a few seconds: it finds the bug that is planted, and none in what is real. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

const guided = fileURLToPath(new URL("guided.mjs", import.meta.url))

const fuzz = (...args: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const child = spawn(process.execPath, [guided, ...args], { stdio: ["ignore", "pipe", "pipe"] })
    let output = ""
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (data: string) => {
        output += data
      })
    }
    const [status] = await once(child, "close") as [number]
    return { status, output, runs: Number(/^Done (\d+) runs/m.exec(output)?.[1] ?? 0) }
  })

const bugs = {
  logins: "a check of control characters that knows half of them",
  sqliteUrl: "a parser that cuts paths at `#`",
  serverUrl: "settings that show the password of a pool of seven",
  routing: "a router that takes what begins with a semicolon for a read",
  rows: "a lookup that folds case",
  errors: "a code whose sentence shows what the driver said"
}

/** Status 3 is for where jazzer.js does not run. */
const cannot = 3
const found = 77

describe("inputs that are made by looking at what they reach", () => {
  for (const [target, bug] of Object.entries(bugs)) {
    it.live(`find ${bug}`, (ctx) =>
      Effect.map(fuzz("--planted", target, "60"), ({ output, status }) => {
        ctx.skip(status === cannot, output)
        assert.strictEqual(status, found, output)
        assert.include(output, "AssertionError")
      }))

    it.live(`find nothing in three seconds of ${target}`, (ctx) =>
      Effect.map(fuzz(target, "3"), ({ output, runs, status }) => {
        ctx.skip(status === cannot, output)
        assert.strictEqual(status, 0, output)
        assert.isAbove(runs, 1_000)
      }))
  }
})

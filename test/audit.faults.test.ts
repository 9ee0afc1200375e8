/** `npm run audit`, by npm itself, against a registry of this machine that answers as a real one does. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFile } from "node:child_process"
import * as http from "node:http"
import type { AddressInfo } from "node:net"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { temporaryFile } from "./layers.js"

const script = fileURLToPath(new URL("./audit.mjs", import.meta.url))

/** What the script says of the holes that a registry knows; with none, of a registry that answers nothing. */
const audited = (holes?: Record<string, ReadonlyArray<object>>) =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* Effect.acquireRelease(
      Effect.async<http.Server>((resume) => {
        const server = http.createServer((request, response) => {
          const isAsked = holes !== undefined && request.url?.endsWith("/advisories/bulk") === true
          response.writeHead(isAsked ? 200 : 404, { "content-type": "application/json" })
          request.resume().on("end", () => response.end(JSON.stringify(isAsked ? holes : {})))
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.sync(() => server.close())
    )
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
    const cache = path.dirname(yield* temporaryFile())
    return yield* Effect.async<{ readonly code: number; readonly said: string }>((resume) => {
      const env = {
        ...process.env,
        npm_config_registry: url,
        npm_config_cache: cache,
        npm_config_fetch_retries: "0",
        npm_config_fetch_timeout: "2000"
      }
      execFile(process.execPath, [script], { env }, (error, stdout, stderr) =>
        resume(Effect.succeed({ code: Number(error?.code ?? 0), said: stdout + stderr })))
    })
  }))

const hole = (severity: string) => ({
  "better-sqlite3": [{
    id: 1,
    url: "https://example.org/1",
    title: "a hole",
    severity,
    vulnerable_versions: "*",
    cwe: [],
    cvss: { score: 9, vectorString: null }
  }]
})

it.live("the audit ends with 0 where nothing is known, and with 1 where a serious hole of the product is", () =>
  Effect.gen(function*() {
    const clean = yield* audited({})
    assert.deepStrictEqual([clean.code, clean.said.includes("were looked up")], [0, true], clean.said)
    const serious = yield* audited(hole("high"))
    assert.deepStrictEqual([serious.code, /^better-sqlite3: .*\(high\)$/m.test(serious.said)], [1, true], serious.said)
    const slight = yield* audited(hole("low"))
    assert.deepStrictEqual([slight.code, /^better-sqlite3: .*\(low\)$/m.test(slight.said)], [0, true], slight.said)
  }))

it.live("the audit ends with 2 where the registry cannot be asked, and says that nothing is known", () =>
  Effect.gen(function*() {
    const { code, said } = yield* audited()
    assert.deepStrictEqual([code, said.includes("Nothing was looked up")], [2, true], said)
  }))

/** Encrypted connections to a server: whose certificate is asked for, and for which name. */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Database } from "effect-avatars"
import { Effect, Exit, type Scope } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { nobody, programDirectory } from "./daemons.js"
import { type Engine, engines } from "./engines.js"

const fixture = (name: string) => fileURLToPath(new URL(`./fixtures/tls/${name}`, import.meta.url))

const authority = `sslrootcert=${encodeURIComponent(fixture("ca.pem"))}`

/** Its key where the server may read it and nobody else. */
const certificateFor = Effect.fnUntraced(function*(name: string) {
  const directory = yield* programDirectory(nobody)
  const [certificate, key] = [`${name}.pem`, `${name}.key`].map((file) => {
    const copy = path.join(directory, file)
    fs.copyFileSync(fixture(file), copy)
    fs.chmodSync(copy, 0o600)
    if (nobody.uid !== undefined && nobody.gid !== undefined) {
      fs.chownSync(copy, nobody.uid, nobody.gid)
    }
    return copy
  })
  return { certificate, key }
})

/** The URL of a server whose certificate is for a name. */
const startedFor = (engine: Engine, name: string): Effect.Effect<URL, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { certificate, key } = yield* certificateFor(name)
    const args = engine.name === "PostgreSQL"
      ? ["-c", "ssl=on", "-c", `ssl_cert_file=${certificate}`, "-c", `ssl_key_file=${key}`]
      : [`--ssl-cert=${certificate}`, `--ssl-key=${key}`]
    const { url } = yield* engine.start({ durable: false, args })
    return new URL(url)
  })

/** "encrypted", "plain", or what the failure says. */
const opened = (server: URL, host: string, options: string) => {
  const url = new URL(server)
  url.hostname = host
  url.search = options
  return Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql.onDialectOrElse({
      pg: () =>
        sql<{ cipher: string | null }>`
          select case when ssl then cipher end as cipher from pg_stat_ssl where pid = pg_backend_pid()
        `,
      orElse: () =>
        Effect.map(
          sql<{ Value: string }>`show session status like 'Ssl_cipher'`,
          (rows) => rows.map(({ Value }) => ({ cipher: Value === "" ? null : Value }))
        )
    })
    return rows[0]!.cipher === null ? "plain" : "encrypted"
  }).pipe(
    Effect.provide(Database.layer(url.href)),
    Effect.scoped,
    Effect.exit,
    Effect.map((exit) => Exit.isSuccess(exit) ? exit.value : String(exit.cause))
  )
}

for (const engine of engines) {
  describe(`TLS to ${engine.name}`, () => {
    it.scopedLive("asks for as much as sslmode says", (context) =>
      Effect.gen(function*() {
        context.skip(engine.program === undefined, `${engine.name} is not installed`)
        const right = yield* startedFor(engine, "localhost")
        const wrong = yield* startedFor(engine, "elsewhere.example")
        const answers = {
          "": yield* opened(right, "localhost", ""),
          "require": yield* opened(wrong, "localhost", "sslmode=require"),
          "verify-ca": yield* opened(wrong, "localhost", `sslmode=verify-ca&${authority}`),
          "verify-full": yield* opened(right, "localhost", `sslmode=verify-full&${authority}`)
        }
        assert.deepStrictEqual(answers, {
          "": "plain",
          "require": "encrypted",
          "verify-ca": "encrypted",
          "verify-full": "encrypted"
        })
        const refused = {
          "of an authority that is not known": yield* opened(right, "localhost", "sslmode=verify-ca"),
          "for another name": yield* opened(wrong, "localhost", `sslmode=verify-full&${authority}`),
          "for a name, at an address": yield* opened(right, "127.0.0.1", `sslmode=verify-full&${authority}`)
        }
        for (const [what, answer] of Object.entries(refused)) {
          assert.include(answer, "DatabaseError", `a certificate ${what}`)
          assert.notInclude(answer, "s3cret")
        }
      }), 60_000)
  })
}

/** A password is in nothing that a program tells about itself, whatever goes wrong, nor in what `ps` shows of it. */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { AvatarRepository, Database, DatabaseError } from "effect-avatars"
import { Cause, Data, Effect, Exit, Layer, Metric, Redacted } from "effect"
import { execFileSync, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import * as net from "node:net"
import { fileURLToPath } from "node:url"
import { nobody, programDirectory } from "./daemons.js"
import { identity, kill, openUrl, postgres, reason, type Server, servers, temporaryDatabase } from "./servers.js"
import { overhear, type Overheard, printed } from "./overheard.js"

/** One that has to be encoded in a URL. Whatever is done with it, its core stays as it is. */
const core = randomBytes(12).toString("hex")
const secret = `a /?#@:%&='"${core}\\é`

/** As it is, as its bytes are printed, and as programs pack them, wherever it begins among three bytes. */
const formsOf = (core: string) => [
  core,
  Buffer.from(core.slice(0, 12)).toString("hex").replaceAll(/(..)(?!$)/g, "$1 "),
  ...[0, 1, 2].map((start) => Buffer.from(core).subarray(start, start + 18).toString("base64"))
]

const found = (core: string, text: string) => formsOf(core).find((form) => text.includes(form))

const assertSilent = (text: string, what: string) => {
  const form = found(core, text)
  const at = text.indexOf(form ?? "")
  assert.isUndefined(form, `${what}: ${text.slice(Math.max(0, at - 300), at + 60)}`)
}

const assertKept = (exit: Exit.Exit<unknown, unknown>, heard: Overheard, what: string) => {
  assertSilent(printed(exit), `the exit of ${what}`)
  for (const [where, texts] of Object.entries(heard)) {
    assertSilent([texts].flat().join("\n"), `${where} by ${what}`)
  }
}

/** The URL with the secret for its password, encoded as it has to be. */
const at = (url: string, change: (parts: URL) => void = () => {}) => {
  const parts = new URL(url)
  change(parts)
  parts.password = "PASSWORD"
  return parts.href.replace("PASSWORD", encodeURIComponent(secret))
}

const listener = (onConnection: (socket: net.Socket) => void) =>
  Effect.acquireRelease(
    Effect.async<readonly [net.Server, Set<net.Socket>]>((resume) => {
      const sockets = new Set<net.Socket>()
      const server = net.createServer((socket) => {
        sockets.add(socket.on("error", () => {}))
        onConnection(socket)
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed([server, sockets])))
    }),
    ([server, sockets]) =>
      Effect.async<void>((resume) => {
        sockets.forEach((socket) => socket.destroy())
        server.close(() => resume(Effect.void))
      })
  ).pipe(Effect.map(([server]) => String((server.address() as net.AddressInfo).port)))

/** Somebody with the secret for his password, who owns the database: his URL. */
const withSecret = (server: Server, url: string) =>
  Effect.gen(function*() {
    const admin = yield* server.admin
    const user = `secret_${randomBytes(4).toString("hex")}`
    const database = new URL(url).pathname.slice(1)
    const run = (...texts: ReadonlyArray<string>) =>
      Effect.orDie(Effect.forEach(texts, (text) => admin.unsafe(text).unprepared, { discard: true }))
    const own = yield* server.adminOf(url)
    const quoted = secret.replaceAll("'", "''")
    yield* Effect.acquireRelease(
      server === postgres
        ? run(`create role ${user} login password '${quoted}'`, `alter database ${database} owner to ${user}`)
        : run(
          `create user ${user} identified by '${quoted.replaceAll("\\", "\\\\")}'`,
          `grant all on ${database}.* to ${user}`
        ),
      () =>
        server === postgres
          ? run(`alter database ${database} owner to current_user`).pipe(
            Effect.zipRight(Effect.orDie(own.unsafe(`drop owned by ${user}`))),
            Effect.zipRight(run(`drop role ${user}`))
          )
          : run(`drop user ${user}`)
    )
    return at(url, (parts) => parts.username = user)
  })

class Told extends Data.TaggedError("Told")<{ readonly cause: unknown }> {}

it.scopedLive("what is overheard of a program that tells a secret holds it, wherever it tells it", () =>
  Effect.gen(function*() {
    const told = randomBytes(12).toString("hex")
    const tell = Effect.gen(function*() {
      yield* Effect.annotateCurrentSpan("password", { deep: [told] })
      yield* Effect.annotateLogs(Effect.logTrace("told"), "password", told)
      yield* Effect.sync(() => console.warn(new Error("told", { cause: { told } })))
      yield* Metric.increment(Metric.tagged(Metric.counter("told"), "password", told))
      return yield* new Told({ cause: Buffer.from(told) })
    })
    const [exit, heard] = yield* overhear(Effect.withSpan(tell, "told"))
    const silent = Object.entries({ ...heard, exit: printed(exit) })
      .filter(([, texts]) => found(told, [texts].flat().join("\n")) === undefined)
    assert.deepStrictEqual(silent.map(([where]) => where), [])
  }))

describe.each(["postgres", "mysql", "oracle", "sqlite"])("a URL of the scheme %s that cannot be used", (scheme) => {
  it.live("is refused typed, and its password told by nothing", () =>
    Effect.gen(function*() {
      const encoded = encodeURIComponent(secret)
      const rests = [
        `//u:${secret}@h/db`,
        `//u:${encoded}@h:port/db`,
        `//u:${encoded}@h:99999/db`,
        `//u:${encoded}%@h/db`,
        `//u:${encoded}@h/db#x`,
        `//u:${encoded}@h/db?none=1`,
        `//u:${encoded}@h/db?sslmode=verify-full&sslrootcert=/none`,
        `//u:${encoded}@h/db?maxConnections=0`,
        `//h/db?password=${encoded}`,
        `//h/db?${encoded}`,
        `//u:12/${encoded}@h/db`,
        `//u:12?${encoded}@h/db`,
        `//u:12#${encoded}@h/db`,
        `u:${encoded}@h/db?x=${encoded}`
      ]
      for (const rest of rests) {
        for (const url of [`${scheme}:${rest}`, Redacted.make(`${scheme}:${rest}`)]) {
          const [exit, heard] = yield* overhear(Effect.scoped(Layer.build(Database.layer(url))))
          assert(Exit.isFailure(exit) && Cause.isFailType(exit.cause), printed(exit))
          assert.instanceOf(exit.cause.error, DatabaseError.DatabaseError)
          assertKept(exit, heard, rest)
        }
      }
    }))
})

for (const server of servers) {
  describe(`a password of ${server.name}`, () => {
    it.scopedLive("is told by nothing where the database cannot be opened", (ctx) =>
      Effect.gen(function*() {
        ctx.skip(server.missing !== undefined, server.missing)
        const url = yield* temporaryDatabase(server)
        const silent = yield* listener(() => {})
        const deaf = yield* listener((socket) => socket.destroy())
        const other = yield* listener((socket) => void socket.write("SSH-2.0-OpenSSH_9.2\r\n".padEnd(200, "x")))
        const to = (port: string, search = "") =>
          at(url, (parts) => Object.assign(parts, { hostname: "127.0.0.1", port, search }))
        const right = yield* withSecret(server, url)
        const cases: Record<string, string> = {
          "a wrong password": at(url),
          "an unknown user": at(url, (parts) => parts.username = "nobody_here"),
          "no such database": right.replace(/\/[^/]*$/, "/none"),
          "nothing that listens": to("1"),
          "a server that is silent": to(silent, "connectTimeout=200"),
          "a server that hangs up": to(deaf),
          "a server that speaks otherwise": to(other, "connectTimeout=500"),
          "a server that speaks no TLS": to(other, "connectTimeout=500&sslmode=verify-ca"),
          "no such host": at(url, (parts) => parts.hostname = "no-such-host.invalid"),
          "no such socket": at(url, (parts) => parts.search = "socket=/nonexistent"),
          "no TLS, or an unknown issuer": `${right}?sslmode=verify-ca`,
          "no connection in time": to(silent, "acquireTimeout=100")
        }
        for (const [what, url] of Object.entries(cases)) {
          const [exit, heard] = yield* overhear(Effect.scoped(Layer.build(Database.layer(Redacted.make(url)))))
          assert(Exit.isFailure(exit) && Cause.isFailType(exit.cause), `${what}: ${printed(exit)}`)
          assert.instanceOf(exit.cause.error, DatabaseError.DatabaseError)
          assertKept(exit, heard, what)
        }
        yield* Effect.scoped(openUrl(right))
      }), 60_000)

    it.scopedLive(
      "is told by nothing while statements run, fail and lose their connection",
      (ctx) =>
        Effect.gen(function*() {
          ctx.skip(server.missing !== undefined, server.missing)
          const url = yield* temporaryDatabase(server)
          const right = yield* withSecret(server, url)
          const program = Effect.gen(function*() {
            const sql = yield* SqlClient.SqlClient
            const users = yield* AvatarRepository.AvatarRepository
            yield* Effect.logDebug(sql, users, yield* Effect.context<never>())
            yield* users.count
            const outcomes = [
              yield* reason(sql`select * from none`),
              yield* reason(sql.withTransaction(sql`select * from none`)),
              yield* Effect.exit(sql.withTransaction(Effect.gen(function*() {
                yield* kill(server, [yield* identity(sql)])
                yield* sql`select 1`
              }))),
              yield* Effect.exit(
                sql.reserve.pipe(Effect.flatMap((one) => one.executeRaw("select 1", [])), Effect.scoped)
              )
            ]
            yield* Effect.logInfo(outcomes)
            return outcomes
          })
          const layer = Layer.provideMerge(AvatarRepository.layer, Database.layer(Redacted.make(right)))
          const [exit, heard] = yield* overhear(Effect.provide(program, layer))
          assert.isTrue(Exit.isSuccess(exit), printed(exit))
          assert.isAbove(heard.traced.length, 10)
          assert.isAbove(heard.logged.length, 1)
          assertKept(exit, heard, "statements")
        }),
      60_000
    )
  })
}

describe("the program", () => {
  const program = fileURLToPath(new URL("../dist/bin/main.js", import.meta.url))

  /** Runs it until `seen` is answered, or to its end: its output. */
  const run = (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv, while_: (pid: number) => Effect.Effect<void>) =>
    Effect.gen(function*() {
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => spawn(process.execPath, [program, ...args], { env: { ...process.env, ...env } })),
        (child) => Effect.sync(() => void child.kill("SIGKILL"))
      )
      let output = ""
      child.stdout.on("data", (data) => output += String(data))
      child.stderr.on("data", (data) => output += String(data))
      const ended = Effect.async<number | null>((resume) =>
        void child.once("close", (code) => resume(Effect.succeed(code)))
      )
      yield* while_(child.pid!)
      return { code: yield* ended, output }
    })

  it.scopedLive.each(["postgres", "mysql"])(
    "shows no password of %s to `ps`, nor has it in its output",
    (scheme) =>
      Effect.gen(function*() {
        const connected = yield* Effect.makeLatch()
        const silent = yield* listener(() => connected.unsafeOpen())
        const DATABASE_URL = `${scheme}://u:${
          encodeURIComponent(secret)
        }@127.0.0.1:${silent}/db?connectTimeout=2 seconds`
        const lines: Array<string> = []
        const { code, output } = yield* run(["yoen"], { DATABASE_URL }, (pid) =>
          Effect.zipRight(
            connected.await,
            Effect.sync(() => {
              lines.push(execFileSync("ps", ["-eo", "pid,args"], { encoding: "utf8" }))
              if (fs.existsSync("/proc")) {
                const tasks = fs.readdirSync(`/proc/${pid}/task`)
                lines.push(
                  ...tasks.flatMap((task) =>
                    ["cmdline", "comm"].map((file) => fs.readFileSync(`/proc/${pid}/task/${task}/${file}`, "utf8"))
                  )
                )
              }
            })
          ))
        assert.include(lines[0], "dist/bin/main.js yoen")
        assertSilent(lines.join("\n"), "ps")
        assert.strictEqual(code, 3)
        assert.include(output, "could not be opened")
        assertSilent(output, "the output")
      })
  )

  it.scopedLive("refuses a URL with a password among its arguments, and says what to do", () =>
    Effect.gen(function*() {
      for (
        const url of [
          `postgres://u:${encodeURIComponent(secret)}@127.0.0.1:1/db`,
          `mysql://u:${secret}@h/db`,
          "x://:p@"
        ]
      ) {
        const { code, output } = yield* run([`--database=${url}`, "yoen"], {}, () => Effect.void)
        assert.strictEqual(code, 2)
        assert.strictEqual(
          output,
          "A password in --database is shown to everybody by `ps`: give the URL in DATABASE_URL.\n"
        )
      }
      const directory = yield* programDirectory(nobody)
      for (const url of [`sqlite:${directory}/a:b:c@d`, "postgres://u@127.0.0.1:1/db"]) {
        const { output } = yield* run(["--database", url, "yoen"], {}, () => Effect.void)
        assert.include(output, "could not be opened", url)
      }
    }))
})

/** A database on a server: its URL, how opening it fails, the table that is there or is made. */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Effect, Either, Exit, Layer, Logger, Option, Redacted } from "effect"
import { Avatar, AvatarRepository, Database } from "effect-avatars"
import { execFile } from "node:child_process"
import * as net from "node:net"
import { fileURLToPath } from "node:url"
import { inspect, promisify } from "node:util"
import { avatar, did, legacyTable, login } from "./lookups.js"
import { changed, claimOnServer, mariadb, openUrl, postgres, repositoryOver, type Server, servers } from "./servers.js"

/** Fails as its type says, no defect, and with no password in anything that could be printed. */
const failure = (url: string | Redacted.Redacted) =>
  Effect.map(Effect.exit(Effect.scoped(Layer.build(Database.layer(url)))), (exit) => {
    assert(Exit.isFailure(exit), "it succeeded")
    assert(Cause.isFailType(exit.cause), Cause.pretty(exit.cause))
    assert.notInclude([Cause.pretty(exit.cause), inspect(exit, { depth: 9 }), JSON.stringify(exit)].join(), "s3cret")
    return exit.cause.error
  })

const fixture = (name: string) => fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url))

describe("a URL of a server", () => {
  it.live.each(["postgres", "postgresql", "mysql", "mariadb"])(
    "of the scheme %s that cannot be used is refused with a sentence that shows nothing of it",
    (scheme) =>
      Effect.gen(function*() {
        const refused = {
          "it is not of the form": [
            "",
            "u:s3cret@h/db",
            "//u:s3/cret@h/db",
            "//u:%zz@h/s3cret",
            "//h:s3cret/db",
            "//u:12/s3cret@h/db",
            "//u%00v:s3cret@h/db",
            "//u:s3cret%00@h/db",
            "//u:s3cret@h%00i/db",
            "//h/db#s3cret"
          ],
          "it has an option that is not known; they are socket, maxConnections": [
            "//h/db?password=s3cret",
            "//h/db?s3cret=1"
          ],
          "maxConnections is a whole number from 1 to 10000": [
            "//h/db?maxConnections=0",
            "//h/db?maxConnections=s3cret"
          ],
          "acquireTimeout is a duration": ["//h/db?acquireTimeout=s3cret", "//h/db?acquireTimeout=0"],
          "sslmode is one of disable, require, verify-ca, verify-full": ["//h/db?sslmode=s3cret"],
          "the file of sslrootcert cannot be read": ["//h/db?sslmode=verify-full&sslrootcert=/s3cret"],
          "minConnections (3) is at most maxConnections (2)": ["//h/db?minConnections=3&maxConnections=2"]
        }
        for (const [why, urls] of Object.entries(refused)) {
          for (const rest of urls) {
            const error = yield* failure(Redacted.make(`${scheme}:${rest}`))
            assert.deepInclude(error, { reason: "ConnectionError", operation: "connect" })
            assert.include(error.message, why)
          }
        }
      })
  )

  it.live("whose driver is not installed is refused with a sentence that names the package, and SQLite needs none", () =>
    Effect.promise(async () => {
      const { stdout } = await promisify(execFile)(process.execPath, [fixture("without-drivers.mjs")])
      assert.deepStrictEqual(JSON.parse(stdout), {
        "sqlite::memory:": "opened",
        "postgres://u@localhost/db": "The database's driver is not installed: npm install @effect/sql-pg@^0.53.",
        "mysql://u@localhost/db": "The database's driver is not installed: npm install @effect/sql-mysql2@^0.53."
      })
    }))
})

/** A port of this machine, and what becomes of who connects to it. */
const listener = (onConnection: (socket: net.Socket) => void) =>
  Effect.acquireRelease(
    Effect.async<{ readonly server: net.Server; readonly sockets: Set<net.Socket> }>((resume) => {
      const sockets = new Set<net.Socket>()
      const server = net.createServer((socket) => {
        sockets.add(socket)
        onConnection(socket)
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, sockets })))
    }),
    ({ server, sockets }) =>
      Effect.async<void>((resume) => {
        sockets.forEach((socket) => socket.destroy())
        server.close(() => resume(Effect.void))
      })
  ).pipe(Effect.map(({ server }) => String((server.address() as net.AddressInfo).port)))

it.scopedLive.each(["postgres", "mysql"])(
  "opening %s: is given up at once when its caller is interrupted",
  (scheme) =>
    Effect.gen(function*() {
      const silent = yield* listener(() => {})
      const layer = Database.layer(`${scheme}://u@127.0.0.1:${silent}/db?connectTimeout=1 hour&closeTimeout=1 hour`)
      const opened = yield* Effect.timeoutOption(Effect.scoped(Layer.build(layer)), "300 millis")
      assert.isTrue(Option.isNone(opened))
    })
)

for (const server of servers) {
  const claim = claimOnServer(server)

  describe(`opening a database of ${server.name}`, () => {
    claim(
      "fails typed, with a sentence that says where and why, without the password",
      (url) =>
        Effect.gen(function*() {
          const silent = yield* listener(() => {})
          const deaf = yield* listener((socket) => socket.destroy())
          const other = yield* listener((socket) => void socket.write("SSH-2.0-OpenSSH_9.2\r\n".padEnd(200, "x")))
          const at = (port: string, search = "") =>
            changed(url, (parts) => Object.assign(parts, { hostname: "127.0.0.1", port, password: "s3cret", search }))
          const cases: ReadonlyArray<readonly [url: string, reason: string, why: string]> = [
            [at("1"), "ConnectionError", "nothing listens at the address (ECONNREFUSED)"],
            [at(silent, "connectTimeout=200"), "ConnectionError", "the server did not answer in time (ETIMEDOUT)"],
            [at(deaf), "ConnectionError", "could not be opened: "],
            [at(other, "connectTimeout=200"), "ConnectionError", "could not be opened: "],
            [
              changed(url, (parts) => parts.hostname = "no-such-host.invalid"),
              "ConnectionError",
              "could not be opened: "
            ],
            [changed(url, (parts) => parts.pathname = "/none"), "ConnectionError", "there is no database of that name"],
            [
              changed(url, (parts) => parts.username = "nobody_here"),
              "AuthenticationError",
              "the user or the password"
            ],
            [
              changed(url, (parts) => parts.search = "socket=/nonexistent"),
              "ConnectionError",
              "no such file, directory or"
            ]
          ]
          for (const [url, reason, why] of cases) {
            const error = yield* failure(url)
            assert.deepStrictEqual([error.reason, error.operation], [reason, "connect"], error.message)
            assert.include(error.message, why)
            assert.match(error.message, /^The database '\w+' at \S+ could not be opened: [^\n]+\.$/)
          }
        })
    )

    claim("by configuration reads DATABASE_URL, and what it opens shows no password", (url) =>
      Effect.gen(function*() {
        const shown: Array<unknown> = []
        const secret = yield* withUser(server, url)
        const program = Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* sql.withTransaction(Effect.zipRight(sql`select 1`, Effect.currentSpan)).pipe(
            Effect.tap((span) => Effect.sync(() => shown.push(span)))
          )
          yield* Effect.logInfo(sql, yield* Effect.flip(sql`select * from none`))
        })
        yield* program.pipe(
          Effect.provide(Database.layerConfig),
          Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["DATABASE_URL", secret]]))),
          Effect.provide(Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => shown.push(message))))
        )
        assert.lengthOf(shown, 2)
        assert.notInclude(inspect(shown, { depth: 12, showHidden: true }), "s3cret")
      }))

    claim("makes the table, and answers the next time with what was stored", (url) =>
      Effect.gen(function*() {
        yield* Effect.scoped(Effect.gen(function*() {
          const users = yield* repositoryOver(yield* openUrl(url))
          yield* users.create(avatar("yoen"))
        }))
        const sql = yield* openUrl(url)
        assert.deepStrictEqual(yield* (yield* repositoryOver(sql)).getUserAvatar(login("yoen")), avatar("yoen"))
        const error = yield* Effect.flip(sql`insert into users values ('yoen', '', '')`)
        assert.match(String((error.cause as Error).message), /duplicate/i)
      }))

    claim(
      "uses a table of the original's shape as it is, without the right to create one",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(url)
          yield* legacyTable(sql)
          yield* sql`insert into users values ('a', null, ''), (null, null, null), ('b', 'b', 'b')`
          const users = yield* repositoryOver(yield* openUrl(yield* withUser(server, url)))
          assert.strictEqual(yield* users.count, 2)
          assert.deepStrictEqual((yield* users.list({ limit: 9 })).map(Either.isRight), [false, true])
          assert.strictEqual(yield* did(users.create(avatar("c"))), "AuthorizationError")
        })
    )

    claim("with readonly: true makes nothing, reads, and refuses every write", (url) =>
      Effect.gen(function*() {
        const build = Effect.map(
          Layer.build(Layer.provideMerge(AvatarRepository.layer, Database.layer(url, { readonly: true }))),
          (context) => context.unsafeMap.get(AvatarRepository.AvatarRepository.key) as AvatarRepository.Service
        )
        const users = yield* build
        assert.strictEqual((yield* Effect.flip(users.count)).reason, "SqlSyntaxError")
        yield* (yield* repositoryOver(yield* openUrl(url))).create(avatar("a"))
        assert.strictEqual(yield* users.count, 1)
        for (const write of [users.create(avatar("b")), users.update(avatar("a")), users.upsert(avatar("a"))]) {
          assert.strictEqual(yield* did(write), "AuthorizationError")
        }
      }))
  })

  describe(`a table that somebody else made on ${server.name}`, () => {
    claim(
      "whose logins fold case lets nobody get or change another's row, and pages in code-point order",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(url)
          yield* foldingTable(sql)
          const users = yield* repositoryOver(sql)
          yield* users.create(avatar("yoen"))
          assert.strictEqual(yield* did(users.create(avatar("YOEN"))), "LoginTaken")
          assert.strictEqual(yield* did(users.upsert(avatar("YOEN", "other"))), "UniqueViolation")
          assert.strictEqual(yield* did(users.update(avatar("YOEN", "other"))), "UserNotFound")
          assert.strictEqual(yield* did(users.remove(login("YOEN"))), "UserNotFound")
          assert.strictEqual((yield* users.getUserAvatars(["YOEN", "Yoen"].map((text) => login(text)))).size, 0)
          assert.deepStrictEqual(yield* users.getUserAvatar(login("yoen")), avatar("yoen"))
          const names = ["👩", "～", "é", "z", "B", "a"]
          const answers = yield* Effect.forEach(names, (name) => did(users.create(avatar(name))), { concurrency: 9 })
          assert.deepStrictEqual(answers, names.map(() => "done"))
          const first = yield* users.list({ limit: 3 })
          const next = yield* users.list({ limit: 9, after: Either.merge(first.at(-1)!).login })
          assert.deepStrictEqual(
            [...first, ...next].map((user) => Either.merge(user).login as string),
            ["B", "a", "yoen", "z", "é", "～", "👩"]
          )
          yield* users.upsert(avatar("yoen", "changed"))
          yield* users.upsert(avatar("yoen", "changed"))
          yield* users.update(avatar("yoen", "changed"))
          yield* users.remove(login("yoen"))
          assert.strictEqual(yield* users.count, 6)
        })
    )

    claim("with another unique column tells a taken name from a taken login", (url) =>
      Effect.gen(function*() {
        const sql = yield* openUrl(url)
        yield* sql.unsafe(`create unique index other on users (forname${server === mariadb ? "(40)" : ""})`)
        const users = yield* repositoryOver(sql)
        yield* users.create(avatar("a"))
        const sameForname = (name: string) => new Avatar.Avatar({ ...avatar(name), forname: "Forname of a" })
        assert.strictEqual(yield* did(users.create(sameForname("b"))), "UniqueViolation")
        assert.strictEqual(yield* did(users.upsert(sameForname("b"))), "UniqueViolation")
        assert.strictEqual(yield* did(users.create(avatar("a"))), "LoginTaken")
        assert.strictEqual(yield* users.count, 1)
      }))
  })
}

describe("a user of MariaDB", () => {
  claimOnServer(mariadb)(
    "whose password is wrong is refused, and taken where it is right",
    (url) =>
      Effect.gen(function*() {
        yield* openUrl(url)
        const right = yield* withUser(mariadb, url)
        yield* openUrl(right)
        const error = yield* failure(changed(right, (parts) => parts.password = "wrong s3cret"))
        assert.deepInclude(error, { reason: "AuthenticationError", operation: "connect", code: 1045 })
      })
  )
})

/** A user who may read the tables of a database only, with a password. */
const withUser = (server: Server, url: string) =>
  Effect.gen(function*() {
    const admin = yield* server.admin
    const own = yield* server.adminOf(url)
    const user = `avatars_${process.pid}`
    const run = (sql: SqlClient.SqlClient, ...texts: ReadonlyArray<string>) =>
      Effect.orDie(Effect.forEach(texts, (text) => sql.unsafe(text).unprepared, { discard: true }))
    const database = new URL(url).pathname.slice(1)
    yield* Effect.acquireRelease(
      server === postgres
        ? Effect.zipRight(
          run(admin, `create role ${user} login password 's3cret'`),
          run(
            own,
            `create table if not exists users (login text primary key, name text, forname text)`,
            `grant select on all tables in schema public to ${user}`
          )
        )
        : run(admin, `create user ${user} identified by 's3cret'`, `grant select on ${database}.* to ${user}`),
      () =>
        server === postgres
          ? Effect.zipRight(run(own, `drop owned by ${user}`), run(admin, `drop role ${user}`))
          : run(admin, `drop user ${user}`)
    )
    yield* server === postgres
      ? Effect.void
      : run(own, "create table if not exists users (login varchar(40) primary key, name text, forname text)")
    return changed(url, (parts) => Object.assign(parts, { username: user, password: "s3cret" }))
  })

const foldingTable = (sql: SqlClient.SqlClient) => {
  const folding = sql.onDialectOrElse({
    mysql: () => "varchar(255) character set utf8mb4 collate utf8mb4_general_ci",
    orElse: () => "text collate nocase"
  })
  return Effect.gen(function*() {
    yield* sql`drop table users`
    if (folding.startsWith("text")) {
      yield* sql`create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`
    }
    yield* sql.unsafe(`create table users (login ${folding} unique, name text, forname text)`)
  })
}

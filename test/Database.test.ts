import { FileSystem } from "@effect/platform"
import { NodeFileSystem } from "@effect/platform-node"
import { SqlClient, SqlError } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it, type TestContext } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Cause, ConfigError, ConfigProvider, Context, Effect, Exit, Layer, Redacted } from "effect"
import { Database, DatabaseError } from "effect-avatars"
import * as fs from "node:fs"
import * as path from "node:path"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"
import { start } from "./programs.js"

// SQLite's addon is loaded now: the user that some tests become may have no right to read it.
new Sqlite(":memory:").close()

describe("the table", () => {
  it.scopedLive("is made in a fresh file, with nothing else, and is there the next time", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const file = path.join(directory, "fresh.sqlite")
      yield* Effect.scoped(Effect.flatMap(open(urlOf(file)), (sql) => sql`insert into users values ('yoen', '', '')`))
      assert.deepStrictEqual(yield* Effect.scoped(Effect.flatMap(open(urlOf(file)), logins)), ["yoen"])
      assert.deepStrictEqual(content(file).names, ["users", "sqlite_autoindex_users_1"])
      assert.deepStrictEqual(fs.readdirSync(directory), ["fresh.sqlite"])
    }))

  it.scopedLive("of the original's shape is used as it is: its SQL and all its rows stay", () =>
    Effect.gen(function*() {
      const { file, url } = yield* existing()
      withSqlite(file, (db) => db.exec("insert into users values (null, null, null), ('blobname', x'00', null)"))
      const before = content(file)
      assert.match(JSON.stringify(before.schema), /create table users \(login text unique, name text, forname text\)/i)
      const migrate = (sql: SqlClient.SqlClient) => Effect.provideService(Database.migrate, SqlClient.SqlClient, sql)
      yield* Effect.scoped(Effect.flatMap(open(url), migrate))
      assert.deepStrictEqual(content(file), before)
    }))

  for (const readonly of [false, true]) {
    it.scopedLive(`is used with readonly: ${readonly} where this user may read it and create nothing`, (ctx) =>
      Effect.gen(function*() {
        const { directory, file, url } = yield* existing()
        yield* chmod(file, 0o444)
        yield* chmod(directory, 0o555)
        const found = yield* open(url, { readonly }).pipe(Effect.flatMap(logins), Effect.scoped, asNobody(ctx))
        assert.deepStrictEqual(found, ["esteban", "mohamed", "yoen"])
      }))
  }

  it.scopedLive("that its URL opens readonly stays so where the option is undefined", () =>
    Effect.gen(function*() {
      const { url } = yield* existing()
      const sql = yield* open(`${url}?readonly=true`, { readonly: undefined })
      const error = yield* failure(sql`delete from users`)
      assert.strictEqual(DatabaseError.fromSqlError(error as SqlError.SqlError).reason, "AuthorizationError")
    }))

  it.scopedLive("is made by `migrate` over a client of one's own, any number of times, or refused typed", () =>
    Effect.gen(function*() {
      const filename = path.join(yield* tempDirectory, "own.sqlite")
      yield* Effect.provide(Effect.repeatN(Database.migrate, 2), SqliteClient.layer({ filename }))
      assert.lengthOf(content(filename).schema, 2)
      withSqlite(filename, (db) => db.exec("drop table users"))
      const error = yield* failure(Effect.provide(Database.migrate, SqliteClient.layer({ filename, ...readonlyPlain })))
      assert.deepInclude(error, { reason: "AuthorizationError", operation: "execute" })
    }))
})

describe("opening", () => {
  it.scopedLive("fails typed where the path is a directory, is no database, is in none, is in a file, or is too long", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const at = (...names: ReadonlyArray<string>) => path.join(directory, ...names)
      fs.writeFileSync(at("junk"), "no database".repeat(100))
      yield* refusesBoth([
        directory,
        at("junk"),
        at("none", "users.sqlite"),
        at("junk", "users.sqlite"),
        at("x".repeat(300))
      ])
      assert.deepStrictEqual(fs.readdirSync(directory), ["junk"])
    }))

  it.scopedLive("fails typed where this user has no permission", (ctx) =>
    Effect.gen(function*() {
      const closed = yield* existing()
      yield* chmod(closed.directory, 0o000)
      const { directory, file } = yield* existing()
      yield* chmod(file, 0o000)
      yield* chmod(directory, 0o555)
      yield* asNobody(ctx)(refusesBoth([closed.file, file, path.join(directory, "fresh.sqlite")]))
    }))

  it.scopedLive("fails typed for a relative path where the working directory is gone", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(process.platform === "win32", "Windows keeps a working directory from being removed")
      const directory = path.join(yield* tempDirectory, "gone")
      fs.mkdirSync(directory)
      yield* workIn(directory)
      fs.rmdirSync(directory)
      yield* refuses("sqlite:./users.sqlite")
    }))

  it.live("fails typed for a URL of no SQLite file, and shows nothing of it but its scheme", () =>
    Effect.gen(function*() {
      const malformed = {
        "it has no scheme": ["", "s3cret", "./s3cret.sqlite", "//user:s3cret@host/db"],
        "no database is known for 'oracle:'": ["oracle://user:s3cret@host/db"],
        "no database is known for 'file:'": ["file:s3cret.sqlite"],
        "it has an option that is not known; they are readonly, disableWAL, minReaders, maxReaders, maxQueue, prepareCacheSize, prepareCacheTTL, readerIdleTimeout, acquireTimeout, statementTimeout, closeTimeout, busyTimeout, synchronous, poolName":
          ["sqlite:./users.sqlite?key=s3cret"],
        "a '%' in its path begins no character of UTF-8": [
          "sqlite:./s3cret%",
          "sqlite:./s3cret%zz",
          "sqlite:./s3cret%C3"
        ],
        "it names no file": ["sqlite:", "sqlite:?", "sqlite:./s3cret%00", "sqlite://user:s3cret@host/db"]
      }
      for (const [why, urls] of Object.entries(malformed)) {
        for (const url of [...urls, ...urls.map((url) => Redacted.make(url))]) {
          const { message, reason } = yield* refuses(url)
          assert.deepStrictEqual([reason, message.includes(why)], ["ConnectionError", true], message)
        }
      }
    }))

  it.scopedLive("takes any path, encoded or not, Redacted or not, relative to the working directory of its moment", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const names = ["a?b", "a#b", "100%", "100%25", "two words", "Zoë-👩‍👧", "a&b=c+d", ":memory:"]
      const relative = Database.layer("sqlite:./relative#1 é")
      yield* workIn(directory)
      yield* Effect.scoped(Layer.build(relative))
      yield* Effect.scoped(open(Redacted.make("sqlite:redacted")))
      yield* Effect.scoped(open("sqlite::memory:"))
      yield* Effect.forEach(names, (name) => Effect.scoped(open(urlOf(path.join(directory, name)))))
      assert.sameMembers(fs.readdirSync(directory), [...names, "redacted", "relative#1 é"])
    }))

  it.scopedLive("by configuration reads DATABASE_URL, and fails with a ConfigError where it is missing", () =>
    Effect.gen(function*() {
      const { url } = yield* existing()
      const program = (name: string, value: string) =>
        Effect.flatMap(SqlClient.SqlClient, logins).pipe(
          Effect.provide(Database.layerConfig),
          Effect.withConfigProvider(ConfigProvider.fromMap(new Map([[name, value]])))
        )
      assert.deepStrictEqual(yield* program("DATABASE_URL", url), ["esteban", "mohamed", "yoen"])
      assert.isTrue(ConfigError.isConfigError(yield* failure(program("DATABASE", url))))
      const refused = yield* failure(program("DATABASE_URL", "postgres://user:s3cret@host/db"))
      assert.instanceOf(refused, DatabaseError.DatabaseError)
    }))
})

describe("readonly", () => {
  for (const journal of ["delete", "wal"] as const) {
    it.scopedLive(`answers, and refuses writes, leaving a file of journal mode ${journal} alone and as it was`, () =>
      Effect.gen(function*() {
        const { directory, file, url } = yield* existing(journal)
        const before = fs.readFileSync(file)
        assert.lengthOf(yield* Effect.scoped(Effect.flatMap(open(url, { readonly: true }), logins)), 3)
        for (
          const write of ["insert into users values ('', '', '')", "drop table users", "create table a (b)", "vacuum"]
        ) {
          const sql = Effect.flatMap(open(url, { readonly: true }), (sql) => sql.unsafe(write))
          const error = yield* failure(Effect.scoped(sql))
          assert(error instanceof SqlError.SqlError, write)
          assert.strictEqual(DatabaseError.fromSqlError(error).reason, "AuthorizationError", write)
        }
        assert.deepStrictEqual(fs.readdirSync(directory), ["users.sqlite"])
        assert.isTrue(before.equals(fs.readFileSync(file)))
      }))
  }

  it.scopedLive("makes no file where there is none, and no table where there is none", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const empty = path.join(directory, "empty.sqlite")
      fs.writeFileSync(empty, "")
      const error = yield* refuses(urlOf(path.join(directory, "users.sqlite")), { readonly: true })
      assert.strictEqual(error.code, "ENOENT")
      yield* failure(Effect.scoped(Effect.flatMap(open(urlOf(empty), { readonly: true }), logins)))
      assert.deepStrictEqual(fs.readdirSync(directory), ["empty.sqlite"])
      assert.strictEqual(fs.statSync(empty).size, 0)
    }))
})

describe("a lock that another process holds", () => {
  it.scopedLive("is waited for", () =>
    Effect.gen(function*() {
      const { file, url } = yield* existing()
      for (const readonly of [true, false]) {
        const { line } = yield* lock(file, 700)
        assert.lengthOf(yield* Effect.scoped(Effect.flatMap(open(url, { readonly }), logins)), 3)
        const now = Date.now()
        assert.isAtLeast(now, Number(yield* line))
      }
    }))

  it.scopedLive("is a LockTimeoutError where it stays, also for the table alone, and does not stop the event loop", () =>
    Effect.gen(function*() {
      const whole = yield* existing()
      const tableOnly = yield* existing("wal")
      withSqlite(tableOnly.file, (db) => db.exec("drop table users"))
      const delays = monitorEventLoopDelay({ resolution: 1 })
      const start = performance.now()
      const errors = yield* Effect.forEach([whole, tableOnly], ({ file, url }) =>
        Effect.gen(function*() {
          yield* lock(file, 60_000)
          delays.enable()
          const error = yield* refuses(url)
          assert.include(error.message, `'${file}'`)
          return error
        }), { concurrency: 2 })
      yield* Effect.sleep(100)
      delays.disable()
      for (const error of errors) {
        assert.deepInclude(error, { reason: "LockTimeoutError", isRetryable: true })
      }
      assert.isAbove(performance.now() - start, 4_000, "it was not waited for")
      assert.isBelow(delays.max, 0.5e9)
    }))
})

it.scopedLive("the end of the scope, a failure and an interruption close the file and leave nothing beside it", (ctx) =>
  Effect.gen(function*() {
    ctx.skip(!fs.existsSync("/proc/self/fd"), "this system does not tell which files a process has open")
    const { directory, file, url } = yield* existing()
    const openFiles = () =>
      fs.readdirSync("/proc/self/fd").filter((fd) => {
        try {
          return fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith(directory)
        } catch {
          return false
        }
      })
    const junk = path.join(directory, "junk")
    fs.writeFileSync(junk, "no database".repeat(100))
    yield* refusesBoth([junk])
    yield* Effect.scoped(Effect.zipRight(
      lock(file, 60_000),
      Effect.timeoutOption(Effect.scoped(open(url, { readonly: true })), 100)
    ))
    assert.deepStrictEqual(openFiles(), [])
    for (const readonly of [false, true]) {
      yield* Effect.scoped(
        Effect.flatMap(
          open(url, { readonly }),
          (sql) =>
            Effect.map(
              readonly ? sql`select * from users` : sql`delete from users`,
              () => assert.isNotEmpty(openFiles())
            )
        )
      )
      assert.deepStrictEqual(openFiles(), [])
      assert.sameMembers(fs.readdirSync(directory), ["users.sqlite", "junk"])
    }
  }))

const tempDirectory = Effect.flatMap(FileSystem.FileSystem, (files) => files.makeTempDirectoryScoped()).pipe(
  Effect.provide(NodeFileSystem.layer),
  Effect.map((directory) => fs.realpathSync(directory))
)

const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url))
const urlOf = (file: string) => `sqlite:${encodeURIComponent(file)}`
const readonlyPlain = { readonly: true, disableWAL: true }

/** The original's database, alone in a directory. */
const existing = (journal: "delete" | "wal" = "delete") =>
  Effect.map(tempDirectory, (directory) => {
    const file = path.join(directory, "users.sqlite")
    fs.copyFileSync(fixture("users.sqlite"), file)
    withSqlite(file, (db) => db.pragma(`journal_mode = ${journal}`))
    return { directory, file, url: urlOf(file) }
  })

const withSqlite = <A>(file: string, use: (db: Sqlite.Database) => A): A => {
  const db = new Sqlite(file)
  try {
    return use(db)
  } finally {
    db.close()
  }
}

const content = (file: string) =>
  withSqlite(file, (db) => ({
    names: db.prepare("select name from sqlite_schema order by rowid").pluck().all(),
    schema: db.prepare("select type, name, sql from sqlite_schema order by rowid").all(),
    users: db.prepare("select * from users order by rowid").all()
  }))

const open = (...args: Parameters<typeof Database.layer>) =>
  Effect.map(Layer.build(Database.layer(...args)), Context.get(SqlClient.SqlClient))

const logins = (sql: SqlClient.SqlClient) =>
  Effect.map(sql<{ login: string }>`select login from users order by login`, (rows) => rows.map(({ login }) => login))

/** What an effect fails with: a failure of its type, no defect, and with no password in it. */
const failure = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.map(Effect.exit(effect), (exit) => {
    assert(Exit.isFailure(exit), "it succeeded")
    assert(Cause.isFailType(exit.cause), Cause.pretty(exit.cause))
    assert.notInclude([Cause.pretty(exit.cause), inspect(exit, { depth: 9 }), JSON.stringify(exit)].join(), "s3cret")
    return exit.cause.error
  })

/** The error with which a database does not open. */
const refuses = (...args: Parameters<typeof open>) =>
  Effect.map(failure(Effect.scoped(open(...args))), (error) => {
    assert.instanceOf(error, DatabaseError.DatabaseError)
    assert.strictEqual(error.operation, "connect")
    assert.match(error.message, /^The [^\n]*\.$/)
    return error
  })

/** Files that can be opened neither for writing nor for reading: the sentence names the file. */
const refusesBoth = (files: ReadonlyArray<string>) =>
  Effect.forEach(
    files.flatMap((file) => [{ file, readonly: false }, { file, readonly: true }]),
    ({ file, readonly }) =>
      Effect.map(refuses(urlOf(file), { readonly }), ({ message, reason }) => {
        assert.include(["ConnectionError", "AuthorizationError"], reason, message)
        assert.include(message, `'${file}'`)
      })
  )

/** Runs an effect as a user whom permissions hold for. */
const asNobody = (ctx: TestContext) => <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> => {
  if (process.getuid?.() !== 0) {
    ctx.skip(process.platform === "win32", "Windows has no permissions of this kind")
    return effect
  }
  const become = Effect.sync(() => {
    try {
      process.seteuid?.(65534)
    } catch {
      ctx.skip("root, whom no permission stops, cannot become another user here")
    }
  })
  return Effect.acquireUseRelease(become, () => effect, () => Effect.sync(() => process.seteuid?.(0)))
}

const chmod = (file: string, mode: number) =>
  Effect.acquireRelease(Effect.sync(() => fs.chmodSync(file, mode)), () => Effect.sync(() => fs.chmodSync(file, 0o700)))

const workIn = (directory: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const before = process.cwd()
      process.chdir(directory)
      return before
    }),
    (before) => Effect.sync(() => process.chdir(before))
  )

const lock = (file: string, milliseconds: number) =>
  Effect.tap(
    start("lockDatabase.mjs", file, String(milliseconds)),
    ({ line }) => Effect.map(line, (said) => assert.strictEqual(said, "locked"))
  )

/** What a caller gives is never SQL, and never stands where others could read it. */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { AvatarRepository, DatabaseError, type SqlitePool } from "effect-avatars"
import { Cause, Context, Effect, Either, Exit, Layer, Option, Stream } from "effect"
import { databases, temporaryFile } from "./layers.js"
import { avatar, login } from "./lookups.js"
import { overhear, printed } from "./overheard.js"
import { failure, makePool } from "./pool.js"
import { changed, claimOnServer, mariadb, openUrl, postgres, reason } from "./servers.js"

/** Each ends or begins something in the SQL of some database, or in a driver. */
const hostile = [
  "'; drop table users; --",
  "'); drop table users; --",
  "\" or \"\"=\"",
  "x' or '1'='1",
  "`; drop table users; #",
  "\\'; drop table users; -- ",
  "\\",
  "%",
  "_",
  "/*",
  "*/ --",
  "$1",
  "$$",
  "?",
  ":name",
  "@x",
  "${1}",
  "{\"a\":1}",
  "[]",
  "\u2019 or 1=1"
]

for (const [name, database, missing] of databases) {
  describe(`${name}:`, () => {
    it.scopedLive(
      "stores hostile texts exactly, runs none of them, and shows none in a span, a log or a metric",
      (ctx) =>
        Effect.gen(function*() {
          ctx.skip(missing !== undefined, missing)
          const marker = "tell-tale"
          const texts = hostile.map((text) => `${text}${marker}`)
          const given = texts.map((text, i) => avatar(text, `${marker}${texts[texts.length - 1 - i]}`))
          const program = Effect.gen(function*() {
            const users = yield* AvatarRepository.AvatarRepository
            yield* Effect.forEach(given, users.create, { concurrency: "unbounded" })
            const found = yield* Effect.forEach(texts, (text) => users.getUserAvatar(login(text)), {
              concurrency: "unbounded"
            })
            assert.deepStrictEqual(found, given)
            assert.lengthOf(yield* users.getUserAvatars(texts.map((text) => login(text))), texts.length)
            yield* Effect.forEach(given, ({ login, name }) => users.update(avatar(login, `${name}.`)))
            yield* Effect.forEach(given, ({ login, name }) => users.upsert(avatar(login, `${name}:`)))
            assert.isTrue(Option.isNone(yield* users.findUserAvatar(login(`' or '1'='1' --${marker}`))))
            yield* Effect.flip(users.remove(login(`' or '1'='1' --${marker}`)))
            const all = yield* Stream.runCollect(Stream.filterMap(users.stream, Either.getRight))
            const stored = [...all].toSorted((one, other) => texts.indexOf(one.login) - texts.indexOf(other.login))
            assert.deepStrictEqual(stored, given.map(({ login, name }) => avatar(login, `${name}:`)))
            yield* users.list({ after: texts[0], limit: 5 })
            assert.strictEqual(yield* users.count, texts.length)
            yield* Effect.forEach(texts.slice(1), (text) => users.remove(login(text)))
            assert.strictEqual(yield* users.count, 1)
          })
          const [exit, heard] = yield* overhear(
            Effect.provide(program, Layer.provide(AvatarRepository.layer, database))
          )
          assert.isTrue(Exit.isSuccess(exit), printed(exit))
          assert.isAbove(heard.traced.filter((text) => text.includes("db.query.text")).length, texts.length, name)
          assert.notInclude([heard.traced, heard.logged, heard.printed, heard.metrics].join("\n"), marker)
        })
    )

    it.scopedLive("takes an identifier for a name, whatever it is", (ctx) =>
      Effect.gen(function*() {
        ctx.skip(missing !== undefined, missing)
        const sql = yield* Effect.map(Layer.build(database), Context.get(SqlClient.SqlClient))
        for (
          const text of ["users\"; drop table users; --", "users`; drop table users; --", "users; drop table users"]
        ) {
          const { reason: why } = yield* reason(sql`select * from ${sql(text)}`)
          assert.strictEqual(why, "SqlSyntaxError", text)
        }
        assert.deepStrictEqual(yield* sql`select * from users`, [])
      }))
  })
}

describe("the options of a pool", () => {
  const withUsers = Effect.gen(function*() {
    const filename = yield* temporaryFile("pool.sqlite")
    yield* Effect.scoped(Effect.flatMap(makePool({ filename }), (sql) => sql`create table users (login)`))
    return filename
  })

  it.scopedLive("that are SQL take one PRAGMA each, and none that is more than that", () =>
    Effect.gen(function*() {
      const filename = yield* withUsers
      const pragmas: ReadonlyArray<unknown> = [
        ["foreign_keys = on; drop table users"],
        ["x; drop table users"],
        ["user_version) ; drop table users"],
        [1],
        [{ "x; drop table users": 1 }],
        { "x; drop table users": 1 },
        "x; drop table users"
      ]
      for (const wrong of pragmas) {
        const error = yield* failure(
          Effect.scoped(makePool({ filename, pragmas: wrong } as Partial<SqlitePool.SqlitePoolConfig>))
        )
        assert.match(
          error.message,
          /could not be opened with pragmas|pragmas is a list of texts/,
          JSON.stringify(wrong)
        )
      }
      const sync = { filename, synchronous: "off; drop table users" } as never
      assert.include(
        (yield* failure(Effect.scoped(makePool(sync)))).message,
        "synchronous is off, normal, full or extra"
      )
      const sql = yield* makePool({ filename })
      assert.deepStrictEqual(yield* sql`select * from users`, [])
      yield* failure(sql.unsafe("select 1; drop table users"))
      assert.deepStrictEqual(yield* sql`select * from users`, [])
    }))

  it.scopedLive("in a URL are not SQL", () =>
    Effect.gen(function*() {
      const filename = yield* withUsers
      const url = `sqlite:${encodeURIComponent(filename)}`
      const injected = "off; drop table users"
      // "off" is no boolean, and must not be taken for one.
      const refused = [
        "synchronous",
        "readonly",
        "busyTimeout",
        "maxReaders",
        "disableWAL",
        "pragmas",
        "initialSql",
        "extensions"
      ]
      for (const option of refused) {
        const opened = Effect.scoped(openUrl(`${url}?${option}=${encodeURIComponent(injected)}`))
        const exit = yield* Effect.exit(opened)
        assert(Exit.isFailure(exit) && Cause.isFailType(exit.cause), option)
        assert.instanceOf(exit.cause.error, DatabaseError.DatabaseError, option)
      }
      const sql = yield* openUrl(`${url}?poolName=${encodeURIComponent(injected)}`)
      assert.deepStrictEqual(yield* sql`select * from users`, [])
    }))

  for (const server of [postgres, mariadb]) {
    claimOnServer(server)(`in the URL of a ${server.name} are not SQL either`, (url) =>
      Effect.gen(function*() {
        yield* Effect.scoped(openUrl(url))
        const injected = "x', 'y'); drop table users; -- */ drop table users; #"
        const sql = yield* openUrl(changed(url, (parts) => parts.searchParams.set("applicationName", injected)))
        assert.deepStrictEqual(yield* sql`select * from users`, [])
        const refused = [
          ...["statementTimeout", "readonly", "sslmode", "maxConnections"].map((option) =>
            changed(url, (parts) => parts.searchParams.set(option, injected))
          ),
          changed(url, (parts) =>
            parts.pathname = `/${encodeURIComponent(`${parts.pathname.slice(1)}"; drop table users; --`)}`),
          changed(url, (parts) =>
            parts.username = encodeURIComponent(injected))
        ]
        for (const wrong of refused) {
          assert.instanceOf(yield* Effect.flip(Effect.scoped(openUrl(wrong))), DatabaseError.DatabaseError, wrong)
        }
        assert.deepStrictEqual(yield* sql`select * from users`, [])
      }))
  }
})

describe("a server", () => {
  claimOnServer(mariadb)(
    "runs no second statement of a text, and is given no file of this machine",
    (url) =>
      Effect.gen(function*() {
        const sql = yield* openUrl(url)
        assert.strictEqual((yield* reason(sql.unsafe("select 1; drop table users"))).reason, "SqlSyntaxError")
        yield* reason(sql.unsafe("load data local infile '/etc/passwd' into table users (login)"))
        assert.deepStrictEqual(yield* sql`select * from users`, [])
      })
  )

  claimOnServer(postgres)("runs no second statement of a text that has parameters", (url) =>
    Effect.gen(function*() {
      const sql = yield* openUrl(url)
      assert.strictEqual((yield* reason(sql.unsafe("select $1; drop table users", ["x"]))).reason, "SqlSyntaxError")
      assert.deepStrictEqual(yield* sql`select * from users`, [])
    }))
})

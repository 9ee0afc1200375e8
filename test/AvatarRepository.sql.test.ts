/** What only a repository over a database can show: transactions, rows that are no avatars. */
import { assert, describe, it } from "@effect/vitest"
import { SqlClient } from "@effect/sql"
import { Array as Arr, Chunk, Effect, Either, Layer, Option, Schema, Stream } from "effect"
import Sqlite from "better-sqlite3"
import { Avatar, AvatarRepository, Database, DatabaseError } from "effect-avatars"
import * as fs from "node:fs/promises"
import { databases, temporaryFile } from "./layers.js"
import { legacyTable } from "./lookups.js"
import { type Server, servers, temporaryDatabase } from "./servers.js"

const login = Avatar.Login.make
const avatar = (name: string) => new Avatar.Avatar({ login: login(name), name, forname: name })

const fixture = (name: string) => new URL(`./fixtures/${name}`, import.meta.url)

/** A repository over a copy of a database of the original program. */
const copyOf = (name: string) =>
  Layer.unwrapScoped(Effect.gen(function*() {
    const file = yield* temporaryFile()
    yield* Effect.promise(() => fs.copyFile(fixture(name), file))
    return Layer.provideMerge(AvatarRepository.layer, Database.layer(`sqlite:${encodeURIComponent(file)}`))
  }))

const expected = Schema.decodeUnknownSync(Schema.parseJson(Schema.Struct({
  avatars: Schema.Record({ key: Schema.String, value: Schema.Struct({ ...Avatar.Avatar.fields }) }),
  malformed: Schema.Array(Schema.String),
  invalidLogins: Schema.Array(Schema.String),
  absent: Schema.Array(Schema.String),
  count: Schema.Number,
  listedAsMalformed: Schema.Array(Schema.String)
})))(await fs.readFile(fixture("legacy.expected.json"), "utf8"))

/** What stands in a database of the original program, brought to another engine as far as that can hold it. */
const brought = (server: Server) =>
  Layer.unwrapScoped(Effect.gen(function*() {
    const rows = yield* Effect.sync(() => {
      const file = new Sqlite(fixture("legacy.sqlite").pathname, { readonly: true })
      const rows = file.prepare<[], Legacy>("select login, name, forname from users").all()
      file.close()
      return rows
    })
    const database = Database.layer(yield* temporaryDatabase(server))
    const filled = Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* legacyTable(sql)
      const texts = rows.map(({ forname, login, name }) => ({ login, name: textOf(name), forname: textOf(forname) }))
      const possible = texts.filter(({ login }) =>
        login === null || (typeof login === "string" && !login.includes("\0") && login.length <= 255)
      )
      yield* Effect.forEach(Arr.chunksOf(possible, 500), (chunk) => sql`insert into users ${sql.insert(chunk)}`)
    })
    return Layer.provideMerge(AvatarRepository.layer, Layer.provideMerge(Layer.effectDiscard(filled), database))
  }))

interface Legacy {
  readonly login: unknown
  readonly name: unknown
  readonly forname: unknown
}

/** A column of these engines holds text or nothing: what was a blob is malformed as NULL is. */
const textOf = (value: unknown) => typeof value === "string" ? value : null

for (const server of servers) {
  it.live(`a database of the original, brought to ${server.name}, answers exactly what is expected of it`, (context) => {
    context.skip(server.missing !== undefined, server.missing)
    return Effect.gen(function*() {
      const users = yield* AvatarRepository.AvatarRepository
      const sql = yield* SqlClient.SqlClient
      for (const fields of Object.values(expected.avatars)) {
        assert.deepStrictEqual(yield* users.getUserAvatar(fields.login), new Avatar.Avatar(fields))
      }
      for (const text of expected.malformed) {
        const error = yield* Effect.flip(users.getUserAvatar(login(text)))
        assert.strictEqual(error._tag === "MalformedUser" && error.login, text)
      }
      for (const text of expected.absent) {
        assert.strictEqual((yield* Effect.flip(users.getUserAvatar(login(text))))._tag, "UserNotFound")
      }
      const everybody = Chunk.toReadonlyArray(yield* Stream.runCollect(users.stream))
      const fine = everybody.filter(Either.isRight).map(({ right }) => right.login as string)
      const ordinary = Array.from({ length: 1_000 }, (_, i) => `user${String(i).padStart(4, "0")}`)
      assert.deepStrictEqual(fine.toSorted(), [...Object.keys(expected.avatars), ...ordinary].toSorted())
      const listed = new Set(everybody.filter(Either.isLeft).map(({ left }) => left.login))
      assert.isTrue(expected.malformed.every((text) => listed.has(text)))
      assert.deepStrictEqual(yield* users.list({ limit: 10_000 }), everybody)
      assert.strictEqual(yield* users.count, everybody.length)
      assert.isAbove((yield* sql`select name from users where login is null`).length, 0)
      yield* users.update(avatar("nullname"))
      yield* users.upsert(avatar("blobname"))
      assert.deepStrictEqual(yield* users.getUserAvatar(login("nullname")), avatar("nullname"))
      assert.deepStrictEqual(yield* users.getUserAvatar(login("blobname")), avatar("blobname"))
    }).pipe(Effect.provide(brought(server)))
  })
}

describe("a database of the original", () => {
  it.live("its three users answer as they stand", () =>
    Effect.gen(function*() {
      const users = yield* AvatarRepository.AvatarRepository
      const lines = yield* Effect.forEach(
        ["yoen", "esteban", "mohamed"],
        (name) => Effect.map(users.getUserAvatar(login(name)), (avatar) => avatar.render())
      )
      assert.deepStrictEqual(lines, [
        "Mr 'Yoen Van der Veld' is connected under 'yoen'",
        "Mr 'Estebán Garcia Marquez' is connected under 'esteban'",
        "Mr 'Mohamed Al Ghâlib' is connected under 'mohamed'"
      ])
      assert.strictEqual(yield* users.count, 3)
    }).pipe(Effect.provide(copyOf("users.sqlite"))))

  it.live("after years of use it answers exactly what is expected of it", () =>
    Effect.gen(function*() {
      const users = yield* AvatarRepository.AvatarRepository
      const parse = Schema.decodeUnknownEither(Avatar.Login)
      for (const fields of Object.values(expected.avatars)) {
        assert.deepStrictEqual(yield* users.getUserAvatar(fields.login), new Avatar.Avatar(fields))
      }
      for (const text of expected.malformed) {
        const error = yield* Effect.flip(users.getUserAvatar(login(text)))
        assert.strictEqual(error._tag, "MalformedUser")
        assert.strictEqual(error._tag === "MalformedUser" && error.login, text)
      }
      for (const text of expected.absent) {
        assert.strictEqual((yield* Effect.flip(users.getUserAvatar(login(text))))._tag, "UserNotFound")
      }
      for (const text of expected.invalidLogins) {
        assert.isTrue(Either.isLeft(parse(text)), JSON.stringify(text))
      }

      const everybody = Chunk.toReadonlyArray(yield* Stream.runCollect(users.stream))
      const [malformed, fine] = [everybody.filter(Either.isLeft), everybody.filter(Either.isRight)]
      assert.deepStrictEqual(malformed.map(({ left }) => left.login).toSorted(), expected.listedAsMalformed.toSorted())
      const ordinary = Array.from({ length: 1_000 }, (_, i) => `user${String(i).padStart(4, "0")}`)
      assert.deepStrictEqual(
        fine.map(({ right }) => right.login as string).toSorted(),
        [...Object.keys(expected.avatars), ...ordinary].toSorted()
      )
      assert.deepStrictEqual(yield* users.list({ limit: 10_000 }), everybody)
      assert.strictEqual(everybody.length, expected.count)
      assert.strictEqual(yield* users.count, expected.count)

      const logins = [...Object.keys(expected.avatars), ...expected.malformed, ...expected.absent].map((text) =>
        login(text)
      )
      const found = yield* users.getUserAvatars(logins)
      assert.deepStrictEqual(
        Array.from(found.keys()),
        logins.filter((login) => !expected.absent.includes(login))
      )
      for (const [login, answer] of found) {
        assert.strictEqual(Either.isLeft(answer), expected.malformed.includes(login))
      }
    }).pipe(Effect.provide(copyOf("legacy.sqlite"))))

  it.live("its malformed rows say what is wrong, each in a sentence without data", () =>
    Effect.gen(function*() {
      const users = yield* AvatarRepository.AvatarRepository
      const message = (text: string) =>
        Effect.map(Effect.flip(users.getUserAvatar(login(text))), (error) => error.message)
      assert.strictEqual(yield* message("nullname"), "The user 'nullname' is malformed: its name is NULL.")
      assert.strictEqual(yield* message("nullforname"), "The user 'nullforname' is malformed: its forname is NULL.")
      assert.strictEqual(yield* message("blobname"), "The user 'blobname' is malformed: its name is not text.")
    }).pipe(Effect.provide(copyOf("legacy.sqlite"))))

  it.live("update and upsert mend a malformed row", () =>
    Effect.gen(function*() {
      const users = yield* AvatarRepository.AvatarRepository
      yield* users.update(avatar("nullname"))
      yield* users.upsert(avatar("blobname"))
      assert.deepStrictEqual(yield* users.getUserAvatar(login("nullname")), avatar("nullname"))
      assert.deepStrictEqual(yield* users.getUserAvatar(login("blobname")), avatar("blobname"))
    }).pipe(Effect.provide(copyOf("legacy.sqlite"))))
})

for (const [name, database, missing] of databases) {
  const claim = (
    text: string,
    effect: Effect.Effect<void, unknown, AvatarRepository.AvatarRepository | SqlClient.SqlClient>
  ) =>
    it.live(text, (context) => {
      context.skip(missing !== undefined, missing)
      return Effect.provide(effect, Layer.fresh(Layer.provideMerge(AvatarRepository.layer, database)))
    })

  describe(`transactions on ${name}`, () => {
    claim(
      "every method sees the transaction's own writes, and a failure undoes them",
      Effect.gen(function*() {
        const users = yield* AvatarRepository.AvatarRepository
        const sql = yield* SqlClient.SqlClient
        yield* users.create(avatar("before"))
        const exit = yield* Effect.exit(sql.withTransaction(Effect.gen(function*() {
          yield* users.create(avatar("a"))
          yield* users.upsert(avatar("b"))
          yield* users.remove(login("before"))
          assert.deepStrictEqual(yield* users.getUserAvatar(login("a")), avatar("a"))
          assert.deepStrictEqual(Array.from((yield* users.getUserAvatars([login("a"), login("before")])).keys()), [
            login("a")
          ])
          assert.deepStrictEqual((yield* users.list({ limit: 9 })).map((user) => Either.merge(user).login), ["a", "b"])
          assert.strictEqual(Chunk.size(yield* Stream.runCollect(users.stream)), 2)
          assert.strictEqual(yield* users.count, 2)
          return yield* Effect.fail("undo")
        })))
        assert.strictEqual(exit._tag, "Failure")
        assert.deepStrictEqual((yield* users.list({ limit: 9 })).map((user) => Either.merge(user).login), ["before"])
      })
    )

    claim(
      "LoginTaken leaves the transaction usable",
      Effect.gen(function*() {
        const users = yield* AvatarRepository.AvatarRepository
        const sql = yield* SqlClient.SqlClient
        yield* users.create(avatar("a"))
        yield* sql.withTransaction(Effect.gen(function*() {
          assert.strictEqual((yield* Effect.flip(users.create(avatar("a"))))._tag, "LoginTaken")
          yield* users.create(avatar("b"))
        }))
        assert.strictEqual(yield* users.count, 2)
      })
    )
  })

  describe(`statements on ${name}`, () => {
    claim(
      "a missing table is a typed failure of every method, which shows no SQL",
      Effect.gen(function*() {
        const users = yield* AvatarRepository.AvatarRepository
        const sql = yield* SqlClient.SqlClient
        yield* sql`drop table users`
        for (
          const effect of [
            users.getUserAvatar(login("a")),
            users.findUserAvatar(login("a")),
            users.getUserAvatars([login("a")]),
            users.create(avatar("a")),
            users.update(avatar("a")),
            users.upsert(avatar("a")),
            users.remove(login("a")),
            users.list({ limit: 1 }),
            Stream.runDrain(users.stream),
            users.count
          ]
        ) {
          const error = yield* Effect.flip<unknown, { readonly _tag: string; readonly message: string }, never>(effect)
          assert.instanceOf(error, DatabaseError.DatabaseError)
          assert.strictEqual(error.reason, "SqlSyntaxError")
          assert.notMatch(
            `${error.message}${JSON.stringify(error)}${String(error)}`,
            /select|insert|update|delete|login/i
          )
        }
      })
    )

    claim(
      "a bigint-minded client makes no difference",
      Effect.gen(function*() {
        const users = yield* AvatarRepository.AvatarRepository
        yield* users.create(avatar("a"))
        assert.strictEqual(yield* Effect.provideService(users.count, SqlClient.SafeIntegers, true), 1)
        assert.strictEqual(yield* users.count, 1)
      })
    )
  })
}

/** A repository over a table that somebody else made. */
const withTable = <A, E>(
  statements: ReadonlyArray<string>,
  effect: (users: AvatarRepository.Service) => Effect.Effect<A, E>
) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* Effect.forEach(["drop table users", ...statements], (statement) => sql.unsafe(statement))
    return yield* effect(yield* AvatarRepository.make)
  }).pipe(Effect.provide(Database.layer("sqlite::memory:")))

const logins = (page: ReadonlyArray<Either.Either<Avatar.Avatar, AvatarRepository.MalformedUser>>) =>
  page.map((user) => Either.merge(user).login as string)

describe("a table that somebody else made", () => {
  it.live.each(["nocase", "rtrim"])(
    "with a login column of collation %s lets nobody get or change another's row",
    (collation) =>
      withTable([
        `create table users (login text primary key collate ${collation}, name text, forname text)`
      ], (users) =>
        Effect.gen(function*() {
          const [mine, other] = collation === "nocase" ? ["yoen", "YOEN"] : ["yoen", "yoen "]
          yield* users.create(avatar(mine!))
          const error = yield* Effect.flip(users.upsert(avatar(other!)))
          assert.strictEqual(error.reason, "UniqueViolation")
          assert.deepStrictEqual(yield* users.getUserAvatar(login(mine!)), avatar(mine!))
          assert.deepStrictEqual(yield* users.findUserAvatar(login(other!)), Option.none())
          assert.strictEqual((yield* Effect.flip(users.remove(login(other!))))._tag, "UserNotFound")
        }))
  )

  it.live("with logins that are numbers has nobody, and keeps its rows", () =>
    withTable([
      "create table users (login integer unique, name text, forname text)",
      "insert into users values (7, 'Bond', 'James'), (10, 'Ten', 'Ten')"
    ], (users) =>
      Effect.gen(function*() {
        for (const text of ["7", "007", "7.0"]) {
          assert.deepStrictEqual(yield* users.findUserAvatar(login(text)), Option.none())
          assert.strictEqual((yield* Effect.flip(users.remove(login(text))))._tag, "UserNotFound")
          assert.strictEqual((yield* Effect.flip(users.update(avatar(text))))._tag, "UserNotFound")
        }
        assert.strictEqual((yield* Effect.flip(users.upsert(avatar("1e1")))).reason, "UniqueViolation")
        assert.deepStrictEqual(yield* users.list({ limit: 9 }), [])
      })))

  it.live("with columns in another case answers its users", () =>
    withTable([
      "create table users (\"LOGIN\" text unique, \"Name\" text, forname text)",
      "insert into users values ('a', 'a', 'a'), ('b', 'b', 'b')"
    ], (users) =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* users.getUserAvatar(login("a")), avatar("a"))
        assert.deepStrictEqual(yield* users.list({ limit: 9 }), [Either.right(avatar("a")), Either.right(avatar("b"))])
      })))

  it.live("with logins that are not UTF-8 shows all others, page by page and as a stream, and ends", () =>
    withTable([
      "create table users (login text unique, name text, forname text)",
      "insert into users values ('a', '', ''), (cast(x'80' as text), '', ''), ('é', '', ''), ('\uFFFD', '', ''), ('日', '', '')",
      `insert into users with recursive n(i) as (select 0 union all select i + 1 from n where i < 1500)
       select cast(x'61ff' || cast(i as blob) as text), '', '' from n`
    ], (users) =>
      Effect.gen(function*() {
        const all = ["a", "é", "日", "\uFFFD"]
        assert.deepStrictEqual(logins(Chunk.toReadonlyArray(yield* Stream.runCollect(users.stream))), all)
        for (const limit of [1, 2, 3]) {
          const pages = yield* Stream.runCollect(Stream.paginateEffect(undefined as string | undefined, (after) =>
            Effect.map(
              users.list({ after, limit }),
              (page) => [page, Option.fromNullable(logins(page).at(-1))] as const
            )))
          assert.deepStrictEqual(logins(Chunk.toReadonlyArray(pages).flat()), all)
        }
      })))
})

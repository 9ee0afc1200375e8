/** What programs do that were written with Kysely or Drizzle for `SqliteClient.layer`, on that and on the pool, with the same expectations. */
import { SqlClient, SqlError } from "@effect/sql"
import * as Drizzle from "@effect/sql-drizzle/Sqlite"
import * as Kysely from "@effect/sql-kysely/Sqlite"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import * as orm from "drizzle-orm"
import { blob, integer, sqliteTable, text } from "drizzle-orm/sqlite-core"
import type { SqliteRemoteDatabase } from "drizzle-orm/sqlite-proxy"
import type { Scope } from "effect"
import { Deferred, Effect, Either, Fiber, Layer, String } from "effect"
import { SqlitePool } from "effect-avatars"
import type { Generated } from "kysely"
import { sql as fragment } from "kysely"
import type { YieldWrap } from "effect/Utils"
import { temporaryFile } from "./layers.js"

type Services = SqlClient.SqlClient | SqliteClient.SqliteClient | Scope.Scope
type Body = () => Generator<YieldWrap<Effect.Effect<unknown, unknown, Services>>, void>

const clients: ReadonlyArray<
  readonly [
    name: string,
    layer: (
      config: SqliteClient.SqliteClientConfig
    ) => Layer.Layer<SqlClient.SqlClient | SqliteClient.SqliteClient, unknown>
  ]
> = [
  ["the driver", SqliteClient.layer],
  ["the pool", SqlitePool.layer]
]

interface User {
  readonly id: Generated<number>
  readonly login: string
  readonly image: Uint8Array | null
}

interface Post {
  readonly id: Generated<number>
  readonly user_id: number
  readonly title: string
}

const kysely = Kysely.make<{ readonly users: User; readonly posts: Post }>()

const users = sqliteTable("users", {
  id: integer("id").primaryKey(),
  login: text("login").notNull().unique(),
  image: blob("image", { mode: "buffer" })
})

const posts = sqliteTable("posts", {
  id: integer("id").primaryKey(),
  userId: integer("user_id").notNull().references(() => users.id),
  title: text("title").notNull()
})

const relations = {
  users,
  posts,
  usersRelations: orm.relations(users, ({ many }) => ({ posts: many(posts) })),
  postsRelations: orm.relations(posts, ({ one }) => ({
    author: one(users, { fields: [posts.userId], references: [users.id] })
  }))
}

// The declarations of @effect/sql-drizzle count as CommonJS: what they see of drizzle-orm is not what this module sees.
declare module "drizzle-orm" {
  interface QueryPromise<T> extends Effect.Effect<T, SqlError.SqlError> {}
}

const drizzle = Drizzle.make({ schema: relations as never }) as Effect.Effect<unknown> as Effect.Effect<
  SqliteRemoteDatabase<typeof relations>,
  never,
  SqlClient.SqlClient
>

for (const [name, layer] of clients) {
  const test = (claim: string, body: Body, config: Partial<SqliteClient.SqliteClientConfig> = {}) =>
    it.scopedLive(claim, () => {
      const client = Effect.map(temporaryFile("builders.sqlite"), (filename) => layer({ ...config, filename }))
      return Effect.provide(Effect.zipRight(tables, Effect.gen(body)), Layer.unwrapScoped(client))
    })

  describe(`over ${name}, Kysely`, () => {
    test("inserts, selects, updates and deletes", function*() {
      const db = yield* kysely
      const add = db.insertInto("users").values([{ login: "a" }, { login: "b" }, { login: "c" }])
      yield* is(add.returning(["id", "login"]), [{ id: 1, login: "a" }, { id: 2, login: "b" }, { id: 3, login: "c" }])
      yield* is(db.insertInto("posts").values({ user_id: 2, title: "t" }), [])
      yield* is(db.updateTable("users").set({ login: "B" }).where("id", "=", 2), [])
      yield* is(db.deleteFrom("users").where("login", "=", "c").returning("id"), [{ id: 3 }])
      const joined = db.selectFrom("users").leftJoin("posts", "posts.user_id", "users.id")
      yield* is(joined.select(["login", "title"]).orderBy("login", "desc"), [
        { login: "a", title: null },
        { login: "B", title: "t" }
      ])
      const within = db.with("named", (db) => db.selectFrom("users").select("login").where("login", "in", ["a", "z"]))
      yield* is(within.selectFrom("named").selectAll(), [{ login: "a" }])
      yield* is(db.selectFrom("users").select(fragment<number>`count(*)`.as("n")), [{ n: 2 }])
      const upsert = db.insertInto("users").values({ id: 1, login: "a" })
        .onConflict((conflict) => conflict.column("login").doUpdateSet({ login: "A" }))
      yield* is(upsert.returning("login"), [{ login: "A" }])
    })

    test("makes a table, alters it, and reads the new column by a query that has run before", function*() {
      const db = yield* kysely
      const all = db.selectFrom("users").selectAll()
      yield* db.insertInto("users").values({ login: "a" })
      yield* is(all, [{ id: 1, login: "a", image: null }])
      yield* db.schema.alterTable("users").addColumn("age", "integer", (column) => column.notNull().defaultTo(7))
      yield* is(all, [{ id: 1, login: "a", image: null, age: 7 }])
      yield* db.schema.createTable("things").addColumn("id", "integer", (column) => column.primaryKey())
      yield* db.schema.createIndex("things_id").on("things").column("id")
      yield* db.schema.dropTable("things")
      const failure = yield* Effect.flip(db.schema.dropTable("things"))
      assert.match(`${(failure.cause as Error).message}`, /no such table: things/)
    })

    test("has a violated unique constraint, a missing column and a foreign key fail typed", function*() {
      const db = yield* kysely
      const add = db.insertInto("users").values({ login: "a" })
      yield* add
      yield* failsWith(add, "SQLITE_CONSTRAINT_UNIQUE", /UNIQUE constraint failed: users\.login/)
      yield* failsWith(db.withTransaction(add), "SQLITE_CONSTRAINT_UNIQUE", /users\.login/)
      yield* failsWith(
        db.insertInto("posts").values({ user_id: 9, title: "t" }),
        "SQLITE_CONSTRAINT_FOREIGNKEY",
        /FOREIGN/
      )
      yield* failsWith(db.selectFrom("users").select(fragment.ref("nothing").as("x")), "SQLITE_ERROR", /no such column/)
      yield* is(db.selectFrom("users").select("login"), [{ login: "a" }])
    })

    test("sees its inserts inside withTransaction, which undoes them when it fails and keeps them when not", function*() {
      const db = yield* kysely
      const sql = yield* SqlClient.SqlClient
      const add = (login: string) => db.insertInto("users").values({ login })
      const logins = Effect.map(
        db.selectFrom("users").select("login").orderBy("login"),
        (rows) => rows.map(({ login }) => login)
      )
      for (const withTransaction of [sql.withTransaction, db.withTransaction]) {
        const failing = Effect.gen(function*() {
          yield* add("gone")
          yield* is(logins, ["gone"])
          return yield* Effect.fail("boom")
        })
        yield* is(Effect.flip(withTransaction(failing)), "boom")
        yield* is(logins, [])
      }
      yield* db.withTransaction(Effect.gen(function*() {
        yield* add("outer")
        yield* Effect.ignore(db.withTransaction(Effect.zipRight(add("inner"), add("inner"))))
        yield* sql`insert into users (login) values ('other')`
        yield* is(logins, ["other", "outer"])
      }))
      yield* is(logins, ["other", "outer"])
    })

    test("gets each of 50 queries at once its own answer, in and out of a transaction", function*() {
      const db = yield* kysely
      const one = (id: number) =>
        Effect.gen(function*() {
          yield* db.insertInto("users").values({ id, login: `user ${id}` })
          yield* db.updateTable("users").set({ login: `User ${id}` }).where("id", "=", id)
          return yield* db.selectFrom("users").select("login").where("id", "=", id)
        })
      yield* is(all(numbers(50).map(one)), numbers(50).map((id) => [{ login: `User ${id}` }]))
      const more = numbers(50).map((id) => one(100 + id))
      yield* is(db.withTransaction(all(more)), numbers(50).map((id) => [{ login: `User ${100 + id}` }]))
      yield* is(db.selectFrom("users").select((eb) => eb.fn.countAll().as("n")), [{ n: 100 }])
    })

    test("stores a blob, finds it, and reads it as a Buffer", function*() {
      const db = yield* kysely
      for (const image of [bytes, bytes.subarray(3, 9), Buffer.from("small"), new Uint8Array(0)]) {
        yield* db.insertInto("users").values({ login: "a", image })
        const [row] = yield* db.selectFrom("users").select("image").where("image", "=", image)
        assert.isTrue(Buffer.isBuffer(row!.image))
        assert.deepStrictEqual(row, { image: Buffer.from(image) })
        yield* db.deleteFrom("users")
      }
    })

    test("gets the names of columns transformed as the client says", function*() {
      const db = yield* kysely
      yield* is(db.selectNoFrom(fragment<number>`7`.as("user_id")), [{ userId: 7 }])
    }, { transformResultNames: String.snakeToCamel })
  })

  describe(`over ${name}, Drizzle`, () => {
    test("inserts, selects, updates and deletes", function*() {
      const db = yield* drizzle
      const add = db.insert(users).values([{ login: "a" }, { login: "b" }, { login: "c" }])
      const returning = add.returning({ id: users.id, login: users.login })
      yield* is(returning, [{ id: 1, login: "a" }, { id: 2, login: "b" }, { id: 3, login: "c" }])
      yield* db.insert(posts).values({ userId: 2, title: "t" })
      yield* db.update(users).set({ login: "B" }).where(orm.eq(users.id, 2))
      yield* is(db.delete(users).where(orm.eq(users.login, "c")).returning({ id: users.id }), [{ id: 3 }])
      const joined = db.select({ login: users.login, title: posts.title }).from(users)
        .leftJoin(posts, orm.eq(posts.userId, users.id)).orderBy(orm.desc(users.login))
      yield* is(joined, [{ login: "a", title: null }, { login: "B", title: "t" }])
      yield* is(db.select().from(users).where(orm.inArray(users.login, ["a", "z"])), [{
        id: 1,
        login: "a",
        image: null
      }])
      const conflicting = db.insert(users).values({ id: 1, login: "a" })
      const upsert = conflicting.onConflictDoUpdate({ target: users.login, set: { login: "A" } })
      yield* is(upsert.returning({ login: users.login }), [{ login: "A" }])
      yield* is(countIn(db), 2)
    })

    test("queries relations, by prepared statements too", function*() {
      const db = yield* drizzle
      yield* db.insert(users).values([{ login: "a" }, { login: "b" }])
      yield* db.insert(posts).values([{ userId: 1, title: "x" }, { userId: 1, title: "y" }])
      const withPosts = db.query.users.findMany({
        columns: { login: true },
        with: { posts: { columns: { title: true } } }
      })
      yield* is(withPosts, [{ login: "a", posts: [{ title: "x" }, { title: "y" }] }, { login: "b", posts: [] }])
      const author = db.query.posts.findMany({ where: orm.eq(posts.title, "y"), with: { author: true } })
      const expected = { id: 2, userId: 1, title: "y", author: { id: 1, login: "a", image: null } }
      yield* is(author, [expected])
      const byId = db.select({ login: users.login }).from(users).where(orm.eq(users.id, orm.sql.placeholder("id")))
        .prepare()
      const each = numbers(2).map((id) => Effect.promise(() => byId.all({ id })))
      yield* is(all(each), [[{ login: "a" }], [{ login: "b" }]])
    })

    test("has a violated unique constraint, a missing column and a foreign key fail typed", function*() {
      const db = yield* drizzle
      const sql = yield* SqlClient.SqlClient
      const add = db.insert(users).values({ login: "a" })
      yield* add
      const unique = { code: "SQLITE_CONSTRAINT_UNIQUE", message: "UNIQUE constraint failed: users.login" }
      for (const way of [add, sql.withTransaction(add)]) {
        const failure = yield* Effect.flip(way)
        assert.instanceOf(failure, SqlError.SqlError)
        assert.deepInclude(rootOf(failure), unique)
      }
      const orphan = yield* Effect.flip(db.insert(posts).values({ userId: 9, title: "t" }))
      assert.deepInclude(rootOf(orphan), { code: "SQLITE_CONSTRAINT_FOREIGNKEY" })
      const missing = yield* Effect.flip(db.select({ x: orm.sql`missing` }).from(users))
      assert.deepInclude(rootOf(missing), { code: "SQLITE_ERROR", message: "no such column: missing" })
      yield* is(db.select({ login: users.login }).from(users), [{ login: "a" }])
    })

    test("sees its inserts inside withTransaction, which undoes them when it fails and keeps them when not", function*() {
      const db = yield* drizzle
      const sql = yield* SqlClient.SqlClient
      const add = (login: string) => db.insert(users).values({ login })
      const logins = Effect.map(db.select().from(users).orderBy(users.login), (rows) => rows.map(({ login }) => login))
      const failing = Effect.gen(function*() {
        yield* add("gone")
        yield* is(logins, ["gone"])
        return yield* Effect.fail("boom")
      })
      yield* is(Effect.flip(sql.withTransaction(failing)), "boom")
      yield* is(logins, [])
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* add("outer")
        yield* Effect.ignore(sql.withTransaction(Effect.zipRight(add("inner"), add("inner"))))
        yield* sql`insert into users (login) values ('other')`
        yield* is(logins, ["other", "outer"])
      }))
      yield* is(logins, ["other", "outer"])
    })

    test("gets each of 50 queries at once its own answer, in and out of a transaction", function*() {
      const db = yield* drizzle
      const sql = yield* SqlClient.SqlClient
      const one = (id: number) =>
        Effect.gen(function*() {
          yield* db.insert(users).values({ id, login: `user ${id}` })
          yield* db.update(users).set({ login: `User ${id}` }).where(orm.eq(users.id, id))
          return yield* db.select({ login: users.login }).from(users).where(orm.eq(users.id, id))
        })
      yield* is(all(numbers(50).map(one)), numbers(50).map((id) => [{ login: `User ${id}` }]))
      const more = numbers(50).map((id) => one(100 + id))
      yield* is(sql.withTransaction(all(more)), numbers(50).map((id) => [{ login: `User ${100 + id}` }]))
      yield* is(countIn(db), 100)
    })

    test("stores a blob, finds it, and reads it as a Buffer", function*() {
      const db = yield* drizzle
      for (const image of [bytes, bytes.subarray(3, 9), Buffer.from("small"), Buffer.alloc(0)].map(Buffer.from)) {
        yield* db.insert(users).values({ login: "a", image })
        const [row] = yield* db.select({ image: users.image }).from(users).where(orm.eq(users.image, image))
        assert.isTrue(Buffer.isBuffer(row!.image))
        assert.deepStrictEqual(row, { image })
        yield* db.delete(users)
      }
    })
  })

  describe(`over ${name}, both builders and the client`, () => {
    test("share one transaction", function*() {
      const one = yield* kysely
      const other = yield* drizzle
      const sql = yield* SqlClient.SqlClient
      const count = Effect.map(sql<{ n: number }>`select count(*) as n from users`, ([row]) => row!.n)
      const three = Effect.gen(function*() {
        yield* one.insertInto("users").values({ login: "kysely" })
        yield* other.insert(users).values({ login: "drizzle" })
        yield* sql`insert into users (login) values ('client')`
        return yield* count
      })
      yield* is(Effect.flip(sql.withTransaction(Effect.flip(three))), 3)
      yield* is(count, 0)
      yield* is(one.withTransaction(three), 3)
      yield* is(count, 3)
    })
  })
}

describe("over the pool alone,", () => {
  const test = (claim: string, body: Body) =>
    it.scopedLive(claim, () => {
      const client = Effect.map(temporaryFile("builders.sqlite"), (filename) => SqlitePool.layer({ filename }))
      return Effect.provide(Effect.zipRight(tables, Effect.gen(body)), Layer.unwrapScoped(client))
    })

  test("a builder's query outside a transaction is answered while one is open, from before it", function*() {
    const one = yield* kysely
    const other = yield* drizzle
    const written = yield* Deferred.make<void>()
    const asked = yield* Deferred.make<void>()
    const add = Effect.zipRight(one.insertInto("users").values({ login: "a" }), Deferred.succeed(written, undefined))
    const open = yield* Effect.fork(one.withTransaction(Effect.zipRight(add, Deferred.await(asked))))
    yield* Deferred.await(written)
    yield* is(one.selectFrom("users").select("id"), [])
    yield* is(other.select().from(users), [])
    yield* Deferred.succeed(asked, undefined)
    yield* Fiber.join(open)
    yield* is(countIn(other), 1)
  })

  test("Drizzle's own transaction, whose BEGIN may be anybody's, is refused with what to use, and writes nothing", function*() {
    const db = yield* drizzle
    const own = Effect.tryPromise(() => db.transaction((tx) => tx.insert(users).values({ login: "a" })))
    const refused = yield* Effect.either(own)
    assert.match(`${Either.isLeft(refused) ? `${rootOf(refused.left)}` : "it went on"}`, /sql\.withTransaction/)
    yield* is(countIn(db), 0)
  })
})

const tables = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table users (id integer primary key, login text not null unique, image blob)`
  yield* sql`create table posts (
    id integer primary key, user_id integer not null references users (id), title text not null
  )`
})

/** More than a chunk of a Buffer's pool, with every byte. */
const bytes = Uint8Array.from({ length: 10_000 }, (_, i) => i)

const countIn = (db: SqliteRemoteDatabase<typeof relations>) =>
  Effect.map(db.select({ n: orm.count() }).from(users), ([row]) => row!.n)

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

const all = <A, E, R>(effects: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.all(effects, { concurrency: "unbounded" })

const is = <A, E, R>(effect: Effect.Effect<A, E, R>, expected: unknown) =>
  Effect.map(effect, (actual) => assert.deepStrictEqual<unknown>(actual, expected))

const failsWith = <A, E, R>(effect: Effect.Effect<A, E, R>, code: string, message: RegExp) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.instanceOf(error, SqlError.SqlError)
    assert.deepInclude(rootOf(error), { code, name: "SqliteError" })
    assert.match(`${rootOf(error)}`, message)
  })

/** The driver's error below those that each layer wraps around it. */
const rootOf = (error: unknown): object =>
  typeof error === "object" && error !== null
    ? "cause" in error && error.cause !== undefined ? rootOf(error.cause) : error
    : { message: `${error}` }

/** What a program does that was written for `SqliteClient.layer`, on that and on the pool, with the same expectations. */
import { PersistedQueue, Reactivity } from "@effect/experimental"
import { NodeContext } from "@effect/platform-node"
import type { Statement } from "@effect/sql"
import { Model, SqlClient, SqlError, SqlEventJournal, SqlPersistedQueue, SqlResolver, SqlSchema } from "@effect/sql"
import { SqliteClient, SqliteMigrator } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import type { Scope } from "effect"
import type { YieldWrap } from "effect/Utils"
import { Chunk, Effect, Either, Layer, Option, Schema, Stream, String } from "effect"
import { SqlitePool } from "effect-avatars"
import { temporaryFile } from "./layers.js"

type Client = SqliteClient.SqliteClient | SqlClient.SqlClient
type Services = Client | Reactivity.Reactivity | Scope.Scope
type Body = () => Generator<YieldWrap<Effect.Effect<unknown, unknown, Services>>, void>

const clients: ReadonlyArray<
  readonly [name: string, layer: (config: SqliteClient.SqliteClientConfig) => Layer.Layer<Client, unknown>]
> = [
  ["the driver", SqliteClient.layer],
  ["the pool", SqlitePool.layer],
  ["the pool in memory", (config) => SqlitePool.layer({ ...config, filename: ":memory:" })],
  ["the pool without WAL", (config) => SqlitePool.layer({ ...config, disableWAL: true })]
]

for (const [name, layer] of clients) {
  const test = (claim: string, body: Body, config: Partial<SqliteClient.SqliteClientConfig> = {}) =>
    it.scopedLive(claim, () => {
      const client = Effect.map(temporaryFile("same.sqlite"), (filename) => layer({ ...config, filename }))
      return Effect.provide(Effect.gen(body), Layer.merge(Layer.unwrapScoped(client), Reactivity.layer))
    })

  describe(`over ${name}, a program`, () => {
    test("uses every helper of a template", function*() {
      const sql = yield* users
      const where = (condition: Statement.Fragment) => ids(sql`select id from users where ${condition} order by id`)
      yield* is(where(sql.in("id", [3, 1, 9])), [1, 3])
      yield* is(where(sql.in("id", [])), [])
      yield* is(where(sql.and([sql`id > ${1}`, sql`name <> ${"c"}`])), [2])
      yield* is(where(sql.or([sql`id = 1`, sql.and(["id > 2", "id < 4"])])), [1, 3])
      yield* is(ids(sql`select ${sql.csv(["id"])} from ${sql("users")} ${sql.csv("order by", ["id"])}`), [1, 2, 3])
      const x = { id: 1, name: "x" }
      yield* is(sql`update users set ${sql.update(x, ["id"])} where id = 1 returning id, name`, [x])
      const d = { id: 4, name: "d" }
      yield* is(sql`insert into users ${sql.insert(d).returning("id, name")}`, [d])
      yield* is(sql`insert into users ${sql.insert([{ id: 5, name: "e" }, { id: 6, name: "f" }])}`, [])
      const pick = (dialect: string) => () => sql.literal(`'${dialect}'`)
      const dialects = { sqlite: pick("sqlite"), pg: pick("pg"), mysql: pick("mysql"), mssql: pick("mssql") }
      const dialect = sql.onDialect({ ...dialects, clickhouse: pick("clickhouse") })
      yield* is(sql`select ${dialect} as it`, [{ it: "sqlite" }])
      yield* is(sql.unsafe("select ? as a, ? as b", [1, "two"]), [{ a: 1, b: "two" }])
    })

    test("binds parameters by name", function*() {
      const sql = yield* SqlClient.SqlClient
      yield* is(sql.unsafe("select @a as a, $b as b", [{ a: 1, b: Buffer.from("b") }]), [{ a: 1, b: Buffer.from("b") }])
    })

    test("gets rows as objects, raw, as values, and unprepared; what returns no rows answers none", function*() {
      const sql = yield* SqlClient.SqlClient
      yield* is(sql`create table t (a integer primary key, b)`, [])
      yield* is(sql`insert into t (b) values ('x')`.raw, { changes: 1, lastInsertRowid: 1 })
      const two = sql`insert into t (b) values ('y'), ('z')`.raw
      yield* is(sql.withTransaction(two), { changes: 2, lastInsertRowid: 3 })
      yield* is(sql`select * from t where a = 1`.raw, [{ a: 1, b: "x" }])
      yield* is(sql`select * from t where a = 0`.raw, [])
      yield* is(sql`select b, a from t where a < 3`.values, [["x", 1], ["y", 2]])
      yield* is(sql`select a, a as a from t where a = 1`.values, [[1, 1]])
      yield* is(sql`delete from t where a = 3`.values, [])
      yield* is(sql`select * from t where a = ${2}`.unprepared, [{ a: 2, b: "y" }])
      yield* is(sql`insert into t (b) values ('w') returning b`.unprepared, [{ b: "w" }])
      const commented = sql`/* a comment */ -- and another
          with x(b) as (select 'v') insert into t (b) select b from x returning b`
      yield* is(Effect.all([commented, commented]), [[{ b: "v" }], [{ b: "v" }]])
      yield* is(sql`select count(*) as n from t`, [{ n: 5 }])
    })

    test("has names transformed, but not where it asks not to", function*() {
      const sql = yield* users
      yield* sql`insert into users ${sql.insert({ id: 4, name: "d", firstName: "D" })}`
      const transformed = sql`select ${sql("firstName")} from users where ${sql("firstName")} = 'D'`
      yield* is(transformed, [{ firstName: "D" }])
      yield* is(transformed.unprepared, [{ firstName: "D" }])
      yield* is(sql.safe`select first_name from users where id = 4`, [{ firstName: "D" }])
      const asItIs = sql`select first_name from users where id = 4`
      yield* is(asItIs.withoutTransform, [{ first_name: "D" }])
      yield* is(asItIs.raw, [{ first_name: "D" }])
      yield* is(sql.withoutTransforms()`select first_name from users where id = 4`, [{ first_name: "D" }])
    }, { transformQueryNames: String.camelToSnake, transformResultNames: String.snakeToCamel })

    test("stores and reads every type of value, as it was", function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`create table v (value)`
      const bytes = Uint8Array.from({ length: 5_000 }, (_, i) => i)
      const texts = ["", "Estebán 👋🏽 Ghâlib", "nul\0in the middle", "x".repeat(100_000)]
      const blobs = [Buffer.from([0, 255]), Buffer.alloc(0), Buffer.from(bytes)]
      for (const value of [null, 0, -1, 2 ** 53 - 1, 0.1, -1e300, ...texts, ...blobs]) {
        const [row] = yield* sql<{ value: unknown }>`insert into v values (${value}) returning value`
        assert.deepStrictEqual(row, { value })
        assert.strictEqual(Buffer.isBuffer(row!.value), Buffer.isBuffer(value))
        yield* is(sql`select value from v where value is ${value}`, [{ value }])
        yield* is(sql`select value from v where value is ${value}`.values, [[value]])
        yield* sql`delete from v`
      }
      yield* is(sql`select ${bytes.subarray(1, 3)} as b`, [{ b: Buffer.from([1, 2]) }])
      yield* is(sql`select typeof(${1}) as number, typeof(${1n}) as bigint`, [{ number: "real", bigint: "integer" }])
      yield* is(sql.unsafe("select ? as a", [undefined]), [{ a: null }])
      const types = sql`select ${2n ** 62n} as big, 1 as small, 1.5 as real`
      const exact = Effect.provideService(types, SqlClient.SafeIntegers, true)
      yield* is(exact, [{ big: 2n ** 62n, small: 1n, real: 1.5 }])
      // The driver's SafeIntegers sticks to the statement.
      yield* name === "the driver" ? Effect.void : is(types, [{ big: 2 ** 62, small: 1, real: 1.5 }])
    })

    test("gets failures typed, with SQLite's code and message, in and out of transactions", function*() {
      const sql = yield* users
      const cases = [
        [sql`insert into users (id, name) values (1, 'a')`, "CONSTRAINT_PRIMARYKEY", /UNIQUE.*failed: users\.id/],
        [sql`insert into users (id, name) values (9, null)`, "CONSTRAINT_NOTNULL", /NOT NULL.*users\.name/],
        [sql`selec 1`, "ERROR", /syntax error/],
        [sql`select * from nobody`, "ERROR", /no such table: nobody/],
        [sql`select abs(-9223372036854775808)`, "ERROR", /integer overflow/]
      ] as const
      for (const [statement, code, message] of cases) {
        for (const way of [statement, statement.values, statement.raw, sql.withTransaction(statement)]) {
          const error = yield* Effect.flip(way)
          assert.instanceOf(error, SqlError.SqlError)
          assert.deepInclude(error.cause, { code: `SQLITE_${code}`, name: "SqliteError" })
          assert.match((error.cause as Error).message, message)
        }
      }
    })

    test("has bad parameters refused typed, beside good ones", function*() {
      const sql = yield* SqlClient.SqlClient
      const select = (...values: ReadonlyArray<unknown>) => Effect.either(sql.unsafe("select ? as a", values))
      const outside = [2n ** 64n, -(2n ** 63n) - 1n]
      const bad = [[() => 1], [Symbol("s")], [true], [new Date()], [new Map()], ...outside.map((n) => [n]), [], [
        1,
        2
      ]]
      const pairs = bad.map((params) => Effect.all([select(...params), select(1)], { concurrency: 2 }))
      for (const [refused, answered] of yield* Effect.all(pairs, { concurrency: "unbounded" })) {
        assert.instanceOf(Either.isLeft(refused) ? refused.left : refused, SqlError.SqlError)
        assert.deepStrictEqual(Either.getOrThrow(answered), [{ a: 1 }])
      }
    })

    test("commits, rolls back, and nests transactions", function*() {
      const sql = yield* users
      const add = (id: number) => sql`insert into users (id, name) values (${id}, 'n')`
      const boom = Effect.fail("boom")
      yield* sql.withTransaction(add(4))
      yield* is(Effect.flip(sql.withTransaction(Effect.zipRight(add(5), boom))), "boom")
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* add(6)
        yield* Effect.ignore(sql.withTransaction(Effect.zipRight(add(7), boom)))
        yield* sql.withTransaction(add(8))
      }))
      yield* is(ids(sql`select id from users where id > 3`), [4, 6, 8])
    })

    test("resolves batches, in and out of transactions", function*() {
      const sql = yield* users
      const batches: Array<number> = []
      const noted = <A>(requests: ReadonlyArray<A>) => {
        batches.push(requests.length)
        return requests
      }
      const Result = Schema.Struct({ id: Schema.Number, name: Schema.String })
      const strings = { Request: Schema.String, Result }
      const named = sql`select id, name from users where name`
      const byName = (names: ReadonlyArray<string>) => sql`${named} in ${sql.in(noted(names))}`
      const insert = yield* SqlResolver.ordered("Insert", {
        ...strings,
        execute: (all) => sql`insert into users ${sql.insert(noted(all).map((name) => ({ name })))} returning id, name`
      })
      const find = yield* SqlResolver.findById("Find", {
        Id: Schema.Number,
        Result,
        ResultId: (user) => user.id,
        execute: (all) => sql`select id, name from users where id in ${sql.in(noted(all))}`
      })
      const group = yield* SqlResolver.grouped("Group", {
        ...strings,
        RequestGroupKey: (name) => name,
        ResultGroupKey: (user) => user.name,
        execute: byName
      })
      const remove = yield* SqlResolver.void("Remove", {
        Request: Schema.Number,
        execute: (all) => sql`delete from users where id in ${sql.in(noted(all))}`
      })
      const batching = { batching: true } as const
      const each = Effect.gen(function*() {
        const [d, e] = yield* Effect.all([insert.execute("d"), insert.execute("d")], batching)
        assert.deepStrictEqual([d.name, e.name, e.id - d.id], ["d", "d", 1])
        const found = Effect.all([find.execute(1), find.execute(99), find.execute(d.id)], batching)
        yield* is(found, [Option.some({ id: 1, name: "a" }), Option.none(), Option.some(d)])
        yield* is(Effect.all([group.execute("d"), group.execute("none")], batching), [[d, e], []])
        yield* Effect.all([remove.execute(d.id), remove.execute(e.id)], batching)
        yield* is(group.execute("d"), [])
        assert.deepStrictEqual(batches.splice(0), [2, 3, 2, 2, 1])
      })
      yield* each
      yield* sql.withTransaction(each)
      yield* Effect.flip(sql.withTransaction(Effect.zipRight(insert.execute("gone"), Effect.fail("boom"))))
      yield* is(group.execute("gone"), [])
      const short = yield* SqlResolver.ordered("Short", { ...strings, execute: byName })
      const error = yield* Effect.flip(Effect.all([short.execute("a"), short.execute("none")], batching))
      assert.deepInclude(error, { _tag: "ResultLengthMismatch", expected: 2, actual: 1 })
    })

    test("decodes by SqlSchema, and keeps a Model's repository", function*() {
      const sql = yield* users
      const Result = Schema.Struct({ id: Schema.Number, name: Schema.String })
      const from = (id: number) => sql`select id, name from users where id >= ${id} order by id`
      const options = { Request: Schema.Number, Result, execute: from }
      yield* is(Effect.map(SqlSchema.findAll(options)(2), (users) => users.length), 2)
      yield* is(SqlSchema.findOne(options)(9), Option.none())
      yield* is(SqlSchema.single(options)(3), { id: 3, name: "c" })
      yield* SqlSchema.void({ Request: Schema.Number, execute: (id) => sql`delete from users where id = ${id}` })(3)
      class User extends Model.Class<User>("User")({
        id: Model.Generated(Schema.Number),
        name: Schema.String,
        first_name: Model.FieldOption(Schema.String)
      }) {}
      const repository = yield* Model.makeRepository(User, { tableName: "users", spanPrefix: "User", idColumn: "id" })
      const user = yield* repository.insert(User.insert.make({ name: "m", first_name: Option.none() }))
      const changed = yield* repository.update(User.update.make({ ...user, first_name: Option.some("M") }))
      yield* is(repository.findById(user.id), Option.some(changed))
      yield* repository.delete(user.id)
      yield* is(repository.findById(user.id), Option.none())
    })

    test("migrates, once", function*() {
      const sql = yield* SqlClient.SqlClient
      const loader = SqliteMigrator.fromRecord({
        "0001_make": Effect.flatMap(SqlClient.SqlClient, (sql) => sql`create table m (id integer primary key)`),
        "0002_fill": Effect.flatMap(SqlClient.SqlClient, (sql) => sql`insert into m values (1), (2)`)
      })
      const migrate = Effect.provide(SqliteMigrator.run({ loader }), NodeContext.layer)
      yield* is(migrate, [[1, "make"], [2, "fill"]])
      yield* is(migrate, [])
      yield* is(sql`select count(*) as n from m`, [{ n: 2 }])
    })

    test("keeps a persisted queue and an event journal", function*() {
      yield* Effect.gen(function*() {
        const queue = yield* PersistedQueue.make({ name: "q", schema: Schema.Struct({ n: Schema.BigInt }) })
        yield* Effect.repeatN(queue.offer({ n: 1n }, { id: "same" }), 1)
        yield* is(Effect.flip(queue.take(() => Effect.fail("boom"))), "boom")
        yield* is(queue.take(({ n }, { attempts }) => Effect.succeed([n, attempts])), [1n, 1])
      }).pipe(Effect.provide(Layer.provide(PersistedQueue.layer, SqlPersistedQueue.layerStore())))
      const journal = yield* SqlEventJournal.make()
      const event = { event: "e", primaryKey: "k", payload: new Uint8Array([1, 2]) }
      const id = yield* journal.write({ ...event, effect: (entry) => Effect.succeed(entry.idString) })
      const entries = yield* journal.entries
      assert.deepStrictEqual(entries.map((entry) => [entry.idString, Array.from(entry.payload)]), [[id, [1, 2]]])
    })

    test("gets reactive queries answered anew after each mutation", function*() {
      const sql = yield* users
      const add = Reactivity.mutation(sql`insert into users (name) values ('r')`, ["users"])
      const counts = sql.reactive(["users"], sql<{ n: number }>`select count(*) as n from users`).pipe(
        Stream.map(([row]) => row!.n),
        Stream.tap((n) => n < 5 ? Effect.fork(add) : Effect.void),
        Stream.takeUntil((n) => n === 5),
        Stream.runCollect
      )
      yield* is(Effect.map(counts, Chunk.toReadonlyArray), [3, 4, 5])
    })

    test("exports the database, and backs it up", function*() {
      yield* users
      const sql = yield* SqliteClient.SqliteClient
      const copy = yield* temporaryFile("copy.sqlite")
      assert.strictEqual(Buffer.from((yield* sql.export).subarray(0, 15)).toString(), "SQLite format 3")
      yield* sql.backup(copy)
      const count = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select count(*) as n from users`)
      yield* is(Effect.provide(count, SqlitePool.layer({ filename: copy })), [{ n: 3 }])
      assert.instanceOf(yield* Effect.flip(sql.loadExtension("/nowhere/extension")), SqlError.SqlError)
    })
  })
}

/** A table of three. */
const users = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table users (id integer primary key, name text not null, first_name text)`
  yield* sql`insert into users ${sql.insert([{ id: 1, name: "a" }, { id: 2, name: "b" }, { id: 3, name: "c" }])}`
  return sql
})

const is = <A, E, R>(effect: Effect.Effect<A, E, R>, expected: unknown) =>
  Effect.map(effect, (actual) => assert.deepStrictEqual<unknown>(actual, expected))

const ids = <E, R>(rows: Effect.Effect<ReadonlyArray<object>, E, R>) =>
  Effect.map(rows, (rows) => rows.map((row) => "id" in row && row.id))

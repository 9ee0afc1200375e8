/** What works on the driver works on the pool: rarely used ways, which a pool could easily miss. */
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer } from "effect"
import type { Scope } from "effect"
import { SqlitePool } from "effect-avatars"
import type { DatabaseError } from "effect-avatars"
import { temporaryFile } from "./layers.js"
import { makePool, slowSql } from "./pool.js"

const short = { acquireTimeout: "300 millis", statementTimeout: "300 millis" } as const

type Client = SqlClient.SqlClient | SqliteClient.SqliteClient

const clients: ReadonlyArray<
  readonly [name: string, layer: (config: SqliteClient.SqliteClientConfig) => Layer.Layer<Client, unknown>]
> = [
  ["the driver", SqliteClient.layer],
  ["the pool", (config) => SqlitePool.layer({ ...config, ...short })]
]

for (const [name, layer] of clients) {
  const over = <A, E>(
    effect: Effect.Effect<A, E, Client | Scope.Scope>,
    config = {}
  ) =>
    Effect.map(temporaryFile("rare.sqlite"), (filename) => layer({ filename, ...config })).pipe(
      (client) => Effect.provide(effect, Layer.unwrapScoped(client)),
      Effect.timeout("3 seconds")
    )

  describe(`over ${name}`, () => {
    it.scopedLive("statements run on the connection that is provided as the TransactionConnection", () =>
      over(Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql`create table t (a)`
        const connection = yield* sql.reserve
        yield* connection.executeUnprepared("BEGIN", [], undefined)
        const add = Effect.zipRight(sql`insert into t values (1)`, sql`select count(*) as n from t`)
        const rows = yield* Effect.provideService(add, SqlClient.TransactionConnection, [connection, 0])
        assert.deepStrictEqual<unknown>(rows, [{ n: 1 }])
        yield* connection.executeUnprepared("ROLLBACK", [], undefined)
      })))

    it.scopedLive("prepared statements may be kept for ever", () =>
      over(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select 1`), { prepareCacheTTL: Duration.infinity }))

    it.scopedLive("values by name may have no prototype", () =>
      over(Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const named = Object.assign(Object.create(null) as object, { a: 1 })
        assert.deepStrictEqual<unknown>(yield* sql.unsafe("select @a as a", [named]), [{ a: 1 }])
      })))

    it.scopedLive("export is a Buffer", () =>
      over(Effect.gen(function*() {
        const bytes = yield* (yield* SqliteClient.SqliteClient).export
        assert.isTrue(Buffer.isBuffer(bytes))
      })))
  })
}

describe("a transaction that waits for itself", () => {
  it.scopedLive("fails typed after acquireTimeout where a nested one awaits a statement of the outer one", () =>
    Effect.gen(function*() {
      const sql = yield* makePool(short)
      const nested = Effect.flatMap(
        Effect.context<never>(),
        (outer) => sql.withTransaction(Effect.provide(sql`select 1 as one`, outer))
      )
      const error = yield* Effect.flip(sql.withTransaction(nested))
      assert.include(error.message, "one inside it to end")
      assert.deepStrictEqual<unknown>(yield* sql.withTransaction(sql`select 1 as one`), [{ one: 1 }])
    }))

  it.scopedLive("fails typed where a level that has ended is used for another transaction", () =>
    Effect.gen(function*() {
      const sql = yield* makePool(short)
      yield* sql`create table t (a)`
      const late = yield* Deferred.make<void>()
      const fiber = yield* sql.withTransaction(Effect.gen(function*() {
        const daemon = yield* sql.withTransaction(Effect.forkDaemon(
          Effect.zipRight(Deferred.await(late), Effect.flip(sql.withTransaction(sql`insert into t values (1)`)))
        ))
        yield* Deferred.succeed(late, undefined)
        yield* Fiber.await(daemon)
        return daemon
      }))
      assert.include((yield* Fiber.join(fiber)).message, "has ended")
      assert.deepStrictEqual<unknown>(yield* sql`select a from t`, [])
    }))

  it.scopedLive("lets its caller go where a read in it does not end, and the pool goes on with another writer", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ statementTimeout: "100 millis", busyTimeout: "20 seconds" })
      yield* sql`create table t (a)`
      const error = yield* Effect.flip(sql.withTransaction(sql.unsafe(slowSql(10_000_000))))
      assert.strictEqual((error.cause as DatabaseError.DatabaseError).reason, "StatementTimeoutError")
      yield* sql`insert into t values (1)`
      assert.deepStrictEqual<unknown>(yield* sql`select a from t`, [{ a: 1 }])
    }))
})

/**
 * The pool for a schema of one's own, without avatars: it is a `SqlClient` and the `SqliteClient` of `@effect/sql-sqlite-node`, so that migrators,
 * `SqlSchema`, `Model` and query builders run on it, while the event loop stays free.
 *
 * Prints
 *
 *     migrations: 1_orders
 *     1000 orders, each acknowledged after its COMMIT
 *     the largest order is 999
 *     the event loop turned while a statement ran for long: true
 *     readers: at most 4, deaths 0
 */
import { NodeContext } from "@effect/platform-node"
import { SqlClient, SqlSchema } from "@effect/sql"
import { SqliteMigrator } from "@effect/sql-sqlite-node"
import { Console, Effect, Layer, Schema } from "effect"
import { SqlitePool } from "effect-avatars"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const directory = mkdtempSync(join(tmpdir(), "any-schema-"))

const Pool = SqlitePool.layer({
  filename: join(directory, "shop.sqlite"),
  maxReaders: 4,
  transformQueryNames: (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
  transformResultNames: (name) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
})

const Migrations = SqliteMigrator.layer({
  loader: SqliteMigrator.fromRecord({
    "1_orders": Effect.flatMap(
      SqlClient.SqlClient,
      (sql) => sql`create table orders (order_id integer primary key, total_price integer not null)`
    )
  })
})

class Order extends Schema.Class<Order>("Order")({ orderId: Schema.Number, totalPrice: Schema.Number }) {}

const program = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const pool = yield* SqlitePool.SqlitePool
  const names = yield* sql<{ readonly name: string; readonly migrationId: number }>`select * from effect_sql_migrations`
  yield* Console.log(`migrations: ${names.map(({ migrationId, name }) => `${migrationId}_${name}`).join()}`)

  // Writes that wait together share a transaction, and each is acknowledged after its COMMIT.
  const insert = (orderId: number) => sql`insert into orders ${sql.insert({ orderId, totalPrice: orderId })}`
  yield* Effect.forEach(Array.from({ length: 1000 }, (_, i) => i), insert, { concurrency: "unbounded", discard: true })
  const [row] = yield* sql<{ readonly count: number }>`select count(*) as count from orders`
  yield* Console.log(`${row!.count} orders, each acknowledged after its COMMIT`)

  const largest = SqlSchema.single({
    Request: Schema.Void,
    Result: Order,
    execute: () => sql`select * from orders order by total_price desc limit 1`
  })
  yield* Console.log(`the largest order is ${(yield* largest()).totalPrice}`)

  let turns = 0
  const timer = setInterval(() => turns++, 1)
  yield* sql`with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000000) select sum(i) from n`
  clearInterval(timer)
  yield* Console.log(`the event loop turned while a statement ran for long: ${turns > 10}`)

  const { deaths, readers } = yield* pool.stats
  yield* Console.log(`readers: at most ${readers.max}, deaths ${deaths}`)
})

await program.pipe(
  Effect.provide(Migrations.pipe(Layer.provideMerge(Pool), Layer.provideMerge(NodeContext.layer))),
  Effect.ensuring(Effect.sync(() => rmSync(directory, { recursive: true }))),
  Effect.runPromise
)

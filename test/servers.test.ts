import { Reactivity } from "@effect/experimental"
import type { SqlClient } from "@effect/sql"
import { MysqlClient } from "@effect/sql-mysql2"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { shared } from "./shared.js"

const withClient = <A, E>(url: string, f: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const config = { url: Redacted.make(url), maxConnections: 1 }
    return yield* f(yield* url.startsWith("postgres") ? PgClient.make(config) : MysqlClient.make(config))
  }).pipe(Effect.scoped, Effect.provide(Reactivity.layer))

for (const { absent, database, name } of shared) {
  describe(`a test's database in ${name}`, () => {
    it.scopedLive("is its own, and goes with its scope", (ctx) =>
      Effect.gen(function*() {
        ctx.skip(absent !== undefined, absent)
        const url = yield* database
        const gone = yield* Effect.scoped(
          Effect.tap(database, (other) => withClient(other, (sql) => sql`create table t (a int)`))
        )
        assert.notStrictEqual(url, gone)
        yield* withClient(url, (sql) => sql`create table t (a int)`)
        yield* Effect.flip(withClient(gone, (sql) => sql`select 1`))
      }))
  })
}

/** What the tests of the pool share. */
import { Reactivity } from "@effect/experimental"
import type { SqlError } from "@effect/sql"
import type { Scope } from "effect"
import { Effect } from "effect"
import { SqlitePool } from "effect-avatars"
import { temporaryFile } from "./layers.js"

/** A pool over a new file (or the one that `config` names), for the scope of the test. */
export const makePool = (
  config: Partial<SqlitePool.SqlitePoolConfig> = {}
): Effect.Effect<SqlitePool.SqlitePool, SqlError.SqlError, Scope.Scope> =>
  Effect.gen(function*() {
    const filename = config.filename ?? (yield* temporaryFile("pool.sqlite"))
    return yield* SqlitePool.make({ ...config, filename })
  }).pipe(Effect.provide(Reactivity.layer))

/** Runs for as long as it counts, and yields one row: what no driver can stop. */
export const slowSql = (count: number) =>
  `with recursive n(i) as (select 1 union all select i + 1 from n where i < ${count}) select sum(i) as total from n`

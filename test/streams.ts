/** What the suites of streams share. */
import type { SqlError } from "@effect/sql/SqlError"
import Sqlite from "better-sqlite3"
import { Effect, type Scope } from "effect"
import type { SqlitePool } from "effect-avatars"
import { temporaryFile } from "./layers.js"
import { makePool } from "./pool.js"

interface Other {
  readonly other: Sqlite.Database
  readonly pool: SqlitePool.SqlitePool
}

/** A pool with a table of one row, and another connection to its file. */
export const withOther: Effect.Effect<Other, SqlError, Scope.Scope> = Effect.gen(function*() {
  const filename = yield* temporaryFile("other.sqlite")
  const pool = yield* makePool({ filename, minReaders: 1, maxReaders: 2 })
  const other = yield* Effect.acquireRelease(
    Effect.sync(() => new Sqlite(filename)),
    (db) => Effect.sync(() => db.close())
  )
  other.exec("create table t (a, b); insert into t values (null, null)")
  return { other, pool }
})

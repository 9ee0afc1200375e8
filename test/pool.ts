/** What the tests of the pool share. */
import { Reactivity } from "@effect/experimental"
import { SqlError } from "@effect/sql"
import { assert } from "@effect/vitest"
import type { Scope } from "effect"
import { Array as Arr, Cause, Chunk, Effect, Exit, Logger, Schedule, Stream } from "effect"
import { DatabaseError, SqlitePool } from "effect-avatars"
import type { Worker } from "node:worker_threads"
import { temporaryFile } from "./layers.js"

/** A pool over a new file (or the one that `config` names), for the scope of the test. */
export const makePool = (
  config: Partial<SqlitePool.SqlitePoolConfig> = {}
): Effect.Effect<SqlitePool.SqlitePool, SqlError.SqlError, Scope.Scope> =>
  Effect.gen(function*() {
    const filename = "filename" in config ? config.filename : yield* temporaryFile("pool.sqlite")
    return yield* SqlitePool.make({ ...config, filename })
  }).pipe(Effect.provide(Reactivity.layer))

/** Runs for as long as it counts, and yields one row: what no driver can stop. */
export const slowSql = (count: number) =>
  `with recursive n(i) as (select 1 union all select i + 1 from n where i < ${count}) select sum(i) as total from n`

export const until = (pool: SqlitePool.SqlitePool, condition: (stats: SqlitePool.Stats) => boolean) =>
  Effect.repeat(pool.stats, { until: condition, schedule: Schedule.spaced("1 millis") })

/** What is logged, by those who have the layer. */
export const logs = Effect.sync(() => {
  const lines: Array<string> = []
  const layer = Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => void lines.push(String(message))))
  return { lines, layer }
})

/** A pool, and its threads that have not ended, the writer first. */
export const openWatched = (config: Partial<SqlitePool.SqlitePoolConfig> = {}) =>
  Effect.gen(function*() {
    const alive = new Set<Worker>()
    const onWorker = (worker: Worker) => {
      alive.add(worker)
      worker.on("exit", () => alive.delete(worker))
    }
    process.on("worker", onWorker)
    yield* Effect.addFinalizer(() => Effect.sync(() => process.off("worker", onWorker)))
    return { alive, sql: yield* makePool(config) }
  })

/** What it failed with: it does fail, and with nothing but a `SqlError`. */
export const failure = (outcome: Effect.Effect<unknown, unknown>) =>
  Effect.map(Effect.exit(outcome), (exit) => {
    assert(Exit.isFailure(exit), "it succeeds")
    const error = Cause.squash(exit.cause)
    assert(error instanceof SqlError.SqlError && Chunk.isEmpty(Cause.defects(exit.cause)), Cause.pretty(exit.cause))
    return DatabaseError.fromSqlError(error)
  })

/** What a call failed with, if it did: a failure of its type, no defect and no interruption. */
export const errorOf = (exit: Exit.Exit<unknown, unknown>): DatabaseError.DatabaseError | undefined => {
  if (Exit.isSuccess(exit)) {
    return undefined
  }
  const error = Cause.squash(exit.cause)
  assert(error instanceof SqlError.SqlError && Chunk.isEmpty(Cause.defects(exit.cause)), Cause.pretty(exit.cause))
  return DatabaseError.fromSqlError(error)
}

/** Whatever can be asked of the pool is answered, many at once. */
export const works = (sql: SqlitePool.SqlitePool) =>
  Effect.gen(function*() {
    const all = <A, E>(call: Effect.Effect<A, E>) =>
      Effect.all(Arr.makeBy(20, () => call), { concurrency: "unbounded" })
    yield* sql`create table if not exists works (a)`
    yield* Effect.all([
      all(sql`select * from works`),
      all(sql`insert into works values (1)`),
      all(sql.withTransaction(sql`insert into works values (2)`)),
      all(sql.snapshot(sql`select * from works`)),
      all(Stream.runDrain(sql`select * from works`.stream))
    ], { concurrency: "unbounded" }).pipe(Effect.timeout("10 seconds"), Effect.orDie)
    assert.strictEqual((yield* sql.stats).pending, 0)
  })

/** SQLite pools whose threads die, for histories. */
import { Reactivity } from "@effect/experimental"
import { SqlClient } from "@effect/sql"
import { AvatarRepository, Database, SqlitePool } from "effect-avatars"
import { Effect } from "effect"
import { syncBuiltinESMExports } from "node:module"
import * as path from "node:path"
import workerThreads, { type WorkerOptions } from "node:worker_threads"

const { Worker } = workerThreads

/** From the root of the package, since this may be bundled. */
const mortalThread = path.resolve("test/fixtures/mortalThread.mjs")

class MortalWorker extends Worker {
  constructor(entry: URL, options: WorkerOptions) {
    super(mortalThread, { ...options, workerData: { ...options.workerData, entry: entry.href } })
  }
}

const replace = (by: typeof Worker) =>
  Effect.sync(() => {
    Object.assign(workerThreads, { Worker: by })
    syncBuiltinESMExports()
  })

/** Pools on one file, and how many of their threads have died. */
export const openPools = (filename: string, count: number) =>
  Effect.gen(function*() {
    yield* Effect.acquireRelease(replace(MortalWorker), () => replace(Worker))
    const open = Effect.gen(function*() {
      const sql = yield* SqlitePool.make({ filename, acquireTimeout: "20 seconds" })
      yield* Effect.provideService(Database.migrate, SqlClient.SqlClient, sql)
      return { sql, users: yield* Effect.provideService(AvatarRepository.make, SqlClient.SqlClient, sql) }
    })
    const clients = yield* Effect.replicateEffect(open, count)
    const deaths = Effect.map(
      Effect.forEach(clients, ({ sql }) => sql.stats),
      (all) => all.reduce((sum, { deaths }) => sum + deaths, 0)
    )
    return { clients, deaths }
  }).pipe(Effect.provide(Reactivity.layer))

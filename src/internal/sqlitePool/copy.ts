/** Copies of the whole database, made beside the pool's own threads. */
import type { SqlError } from "@effect/sql/SqlError"
import type { BackupMetadata } from "@effect/sql-sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import { Worker } from "node:worker_threads"
import type { BackupData, BackupReply } from "./backup.js"
import { fromWire, poolError } from "./errors.js"

/** A backup under way. */
export interface Copy {
  /** Fails it with this; settles when its thread has ended. */
  readonly stop: (reason: SqlError) => Promise<void>
}

const summary = "Failed to backup database"

/**
 * Copies a file, or the bytes of a database in memory. Answers when the thread has ended: its connection must not be the last one, which would leave
 * a `-wal` file.
 */
export const backup = (
  source: BackupData["source"],
  copies: Set<Copy>,
  destination: string,
  onProgress?: (progress: BackupMetadata) => void
): Effect.Effect<BackupMetadata, SqlError> =>
  Effect.async((resume) => {
    const worker = new Worker(new URL("./backup.js", import.meta.url), {
      name: "backup",
      execArgv: [],
      workerData: { source, destination } satisfies BackupData
    })
    let outcome: Effect.Effect<BackupMetadata, SqlError> | undefined
    const ended = (why: string) => {
      outcome ??= Effect.fail(poolError("ConnectionError", "execute", `The thread of the backup ended (${why}).`))
    }
    worker.on("message", (reply: BackupReply) => {
      if (reply.is === "failed") {
        outcome ??= Effect.fail(fromWire(reply.error, summary))
        return
      }
      const progress = { totalPages: reply.totalPages, remainingPages: reply.remainingPages }
      if (reply.is === "done") {
        outcome ??= Effect.succeed(progress)
      } else if (outcome === undefined) {
        try {
          onProgress?.(progress)
        } catch (defect) {
          stop(Effect.die(defect))
        }
      }
    })
    worker.on("error", (error) => ended(error instanceof Error ? error.message : String(error)))
    const stop = (reason: Effect.Effect<never, SqlError>) => {
      outcome ??= reason
      worker.postMessage("stop")
      return exited
    }
    const exited = new Promise<void>((resolve) => {
      worker.on("exit", () => {
        copies.delete(copy)
        ended("it was stopped")
        resume(outcome!)
        resolve()
      })
    })
    const copy: Copy = { stop: (reason) => stop(Effect.fail(reason)) }
    copies.add(copy)
    return Effect.promise(() => stop(Effect.never))
  })

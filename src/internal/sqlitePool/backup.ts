/**
 * A thread for one backup: its driver works in steps between which a thread has to serve its event loop, which the pool's threads never
 * do. It is pinned to one moment of the database; otherwise each write would make it begin anew.
 */
import Sqlite from "better-sqlite3"
import { parentPort, workerData } from "node:worker_threads"
import { checkIdentity } from "./identity.js"
import { toWire } from "./protocol.js"
import type { WireError } from "./protocol.js"
import { syncDirectoryOf } from "./sync.js"

export interface BackupData {
  readonly filename: string
  /** The file that the pool has open. */
  readonly identity: string | undefined
  readonly destination: string
}

export type BackupReply =
  | { readonly is: "progress" | "done"; readonly totalPages: number; readonly remainingPages: number }
  | { readonly is: "failed"; readonly error: WireError }

const { destination, filename, identity } = workerData as BackupData

// Asked to stop. Not by `worker.terminate()`: where a native call fails meanwhile, the driver aborts the process.
let isStopped = false
parentPort?.once("message", () => {
  isStopped = true
})

const post = (reply: BackupReply) => parentPort?.postMessage(reply)

try {
  checkIdentity(filename, identity)
  const db = new Sqlite(filename, { fileMustExist: true, readonly: true })
  try {
    checkIdentity(filename, identity)
    db.exec("BEGIN; SELECT count(*) FROM sqlite_schema")
    const done = await db.backup(destination, {
      progress: (progress) => {
        if (isStopped) {
          throw new Error("the backup was stopped")
        }
        post({ is: "progress", ...progress })
        return 1_000
      }
    })
    // The driver has closed the copy, and synced it, but not that its journal is removed.
    await syncDirectoryOf(destination)
    post({ is: "done", ...done })
  } finally {
    db.close()
  }
} catch (error) {
  post({ is: "failed", error: toWire(error) })
} finally {
  parentPort?.close()
}

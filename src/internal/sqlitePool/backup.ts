/**
 * A thread for one backup: its driver works in steps between which a thread has to serve its event loop, which the pool's threads never
 * do. It is pinned to one moment of the database; otherwise each write would make it begin anew.
 */
import Sqlite from "better-sqlite3"
import * as fs from "node:fs"
import * as path from "node:path"
import { parentPort, workerData } from "node:worker_threads"
import { makePrivate } from "./privateFile.js"
import { toWire } from "./protocol.js"
import type { WireError } from "./protocol.js"

export interface BackupData {
  /** A file, or the bytes of a database in memory. */
  readonly source: string | Uint8Array
  readonly destination: string
}

export type BackupReply =
  | { readonly is: "progress" | "done"; readonly totalPages: number; readonly remainingPages: number }
  | { readonly is: "failed"; readonly error: WireError }

const { source, ...data } = workerData as BackupData

/** As the driver takes it. */
const destination = data.destination.trim()

// Asked to stop. Not by `worker.terminate()`: where a native call fails meanwhile, the driver aborts the process.
let isStopped = false
parentPort?.once("message", () => {
  isStopped = true
})

let isNew = false

const post = (reply: BackupReply) => parentPort?.postMessage(reply)

try {
  // The driver's own error of a missing directory has no code.
  fs.statSync(path.dirname(destination))
  const db = typeof source === "string"
    ? new Sqlite(source, { fileMustExist: true, readonly: true })
    : new Sqlite(Buffer.from(source.buffer, source.byteOffset, source.byteLength), { readonly: true })
  try {
    isNew = makePrivate(destination)
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
    post({ is: "done", ...done })
  } finally {
    db.close()
  }
} catch (error) {
  if (isNew) {
    fs.rmSync(destination, { force: true })
  }
  post({ is: "failed", error: toWire(error) })
} finally {
  parentPort?.close()
}

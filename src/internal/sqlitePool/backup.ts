/**
 * A thread for one backup: its driver works in steps between which a thread has to serve its event loop, which the pool's threads never
 * do. It is pinned to one moment of the database; otherwise each write would make it begin anew.
 */
import Sqlite from "better-sqlite3"
import * as fs from "node:fs"
import * as path from "node:path"
import { parentPort, workerData } from "node:worker_threads"
import { checkIdentity } from "./identity.js"
import { makePrivate } from "./privateFile.js"
import { toWire } from "./protocol.js"
import type { WireError } from "./protocol.js"
import { syncDirectoryOf } from "./sync.js"

export interface BackupData {
  /** The file that the pool has open, or the bytes of a database in memory. */
  readonly source: OpenFile | Uint8Array
  readonly destination: string
}

export interface OpenFile {
  readonly filename: string
  readonly identity: string | undefined
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

const openSame = ({ filename, identity }: OpenFile): Sqlite.Database => {
  checkIdentity(filename, identity)
  const db = new Sqlite(filename, { fileMustExist: true, readonly: true })
  try {
    checkIdentity(filename, identity)
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

try {
  // The driver's own error of a missing directory has no code.
  fs.statSync(path.dirname(destination))
  const db = source instanceof Uint8Array
    ? new Sqlite(Buffer.from(source.buffer, source.byteOffset, source.byteLength), { readonly: true })
    : openSame(source)
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
    // The driver has closed the copy, and synced it, but not that its journal is removed.
    await syncDirectoryOf(destination)
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

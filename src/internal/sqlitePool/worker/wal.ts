/**
 * The write-ahead log is kept small. SQLite begins it anew only at a moment at which nobody reads it, and while reads overlap there is none: it would grow
 * for ever. So where it is large the writer waits for the reads that run; those that begin meanwhile need it no more. Where somebody reads one moment for
 * long, as a snapshot or another process does, it does not wait again, but looks until that has ended.
 */
import * as fs from "node:fs"
import { db } from "./database.js"
import { isClosing, isMemory, now, options } from "./shared.js"

/** Larger is large (bytes): half of what is promised. */
const limit = 32 * 1024 * 1024

/** How long writes wait for reads (ms), at most, and at most a tenth of the time. */
const patience = 1_000
const restTime = 10 * patience

/** How often the size is looked at, and how often it is tried while it is large (ms). */
const lookInterval = 50
const tryInterval = 1_000

const isWriteAhead = !isMemory && options.role !== "reader"

let nextLook = 0
let patientAt = 0
let isLarge = false
/** How much of it the last try that failed could bring into the database. */
let checkpointed: unknown

/** Has it begin anew where it is large. Answers after which time to ask again though nothing was written (ms). */
export const limitWal = (): number => {
  if (!isWriteAhead) {
    return Infinity
  }
  const start = now()
  if (start >= nextLook && !db.inTransaction) {
    isLarge = !isSmall()
    nextLook = now() + (isLarge ? tryInterval : lookInterval)
  }
  return isLarge ? Math.max(0, nextLook - start) : Infinity
}

const isSmall = (): boolean => {
  try {
    const size = fs.statSync(`${options.filename}-wal`, { throwIfNoEntry: false })?.size ?? 0
    return size <= limit || truncate()
  } catch {
    // Nobody asked for it: whoever writes next is told what is wrong with the disk.
    return false
  }
}

/** Tries once or, where it is time to, until it succeeds, unless what is read is the same moment as last time. */
const truncate = (): boolean => {
  const before = checkpointed
  const deadline = now() < patientAt ? 0 : now() + patience
  for (;;) {
    const [result] = db.pragma("wal_checkpoint(TRUNCATE)") as [{ readonly busy: number; readonly checkpointed: number }]
    checkpointed = result.busy === 0 ? undefined : result.checkpointed
    if (result.busy === 0 || checkpointed === before || isClosing()) {
      return result.busy === 0
    }
    if (now() > deadline) {
      patientAt = deadline === 0 ? patientAt : now() + restTime
      return false
    }
  }
}

/** One statement by itself: a read, one of a lease, or a write that cannot be grouped. */
import { chunkRows, Flag } from "../protocol.js"
import type { Parameters, Rows, Statement, Value } from "../protocol.js"
import { toWire } from "../protocol.js"
import { Chunks, flush, postChunk } from "./answers.js"
import type { Outcome } from "./answers.js"
import {
  append,
  beginReads,
  checkFile,
  checkSchema,
  db,
  durably,
  prepare,
  rollback,
  rowsOf,
  untilFree
} from "./database.js"
import type { Prepared } from "./database.js"
import { checkTransaction } from "./leases.js"
import { isCancelled, isCommitting, now, options } from "./shared.js"

/** Answers wait for a read that took less than this last time, so as to leave together; for no other (ms). */
const quickTime = 0.5

/** Runs a statement on the connection as it is; answers its rows or what it changed. */
export const run = (slot: number, request: Statement): Outcome => {
  const entry = prepare(request)
  const { statement } = entry
  const [, , params, flags] = request
  const safeIntegers = (flags & Flag.SafeIntegers) !== 0
  if (entry.safeIntegers !== safeIntegers) {
    statement.safeIntegers(safeIntegers)
    entry.safeIntegers = safeIntegers
  }
  if (!statement.reader) {
    const { changes, lastInsertRowid } = statement.run(...params)
    return { is: "done", changes, lastInsertRowid }
  }
  if ((flags & Flag.Values) !== 0) {
    return [flat(statement.all(...params) as Array<Array<Value>>)]
  }
  return statement.readonly ? read(slot, entry, params) : write(entry, params)
}

const flat = (rows: ReadonlyArray<ReadonlyArray<Value>>): Array<Value> => {
  const values: Array<Value> = []
  rows.forEach((row) => append(values, row))
  return values
}

const read = (slot: number, entry: Prepared, params: Parameters): Outcome => {
  const start = now()
  if (!entry.isQuick) {
    flush()
  }
  let values: Array<Value> = []
  let rows = 0
  for (const row of entry.statement.iterate(...params)) {
    if (isCancelled(slot)) {
      return { is: "cancelled" }
    }
    if (rows === chunkRows) {
      if (!postChunk(slot, rowsOf(entry, values))) {
        return { is: "cancelled" }
      }
      values = []
      rows = 0
    }
    append(values, row as Array<Value>)
    rows += 1
  }
  entry.isQuick = now() - start < quickTime
  return rowsOf(entry, values)
}

/** It writes and returns rows: it comes to its end, whoever still wants them, and is answered when it is durable. */
const write = (entry: Prepared, params: Parameters): Chunks => {
  const rows = entry.statement.all(...params) as Array<Array<Value>>
  const chunks: Array<Rows> = []
  for (let start = 0; start === 0 || start < rows.length; start += chunkRows) {
    chunks.push(rowsOf(entry, flat(rows.slice(start, start + chunkRows))))
  }
  return new Chunks(chunks)
}

export const single = (slot: number, request: Statement): Outcome => {
  checkTransaction()
  if (options.role === "reader") {
    return readOnly(slot, request)
  }
  const { readonly, reader } = prepare(request).statement
  if (readonly && reader) {
    return readAlone(slot, request)
  }
  if (reader) {
    // Not without need: it begins a snapshot, on which a write that waits for the lock of another process could not go on.
    checkSchema()
  }
  if (readonly === db.inTransaction) {
    // What commits by itself, such as VACUUM, or what may be a COMMIT, on a connection that was reserved.
    isCommitting(slot)
    return untilFree(options.busyTimeout, slot, () => durably(() => run(slot, request)))
  }
  return untilFree(options.busyTimeout, slot, () => run(slot, request))
}

/** In the transaction of its message, where it has one. */
const readOnly = (slot: number, request: Statement): Outcome => {
  let entry: Prepared
  try {
    entry = prepare(request)
  } catch (error) {
    return { is: "writes", error: toWire(error) }
  }
  if (!entry.statement.readonly || !entry.statement.reader) {
    return { is: "writes", error: undefined }
  }
  if (!db.inTransaction) {
    checkFile()
  }
  return untilFree(options.busyTimeout, slot, () => run(slot, request))
}

/** In a transaction of its own, where there is none yet. */
const readAlone = (slot: number, request: Statement): Outcome => {
  const isOurs = !db.inTransaction
  untilFree(options.busyTimeout, slot, beginReads)
  try {
    return run(slot, request)
  } finally {
    if (isOurs) {
      rollback()
    }
  }
}

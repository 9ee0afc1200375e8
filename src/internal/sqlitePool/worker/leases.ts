/** What only the holder of a connection asks for: transactions, savepoints, cursors, the connection's own affairs. */
import Sqlite from "better-sqlite3"
import { chunkRows, Flag } from "../protocol.js"
import type { Request, Statement, Value } from "../protocol.js"
import { done } from "./answers.js"
import type { Outcome } from "./answers.js"
import {
  append,
  begin,
  checkFile,
  commit,
  connect,
  db,
  durably,
  prepare,
  rollback,
  rowsOf,
  untilFree
} from "./database.js"
import type { Prepared } from "./database.js"
import { isCancelled, isCommitting, isMemory, options } from "./shared.js"

/** Whether a transaction was begun for a lease, and may therefore be missed. */
let isTransaction = false

export const checkTransaction = (): void => {
  if (isTransaction && !db.inTransaction) {
    throw new Sqlite.SqliteError(
      "the transaction was rolled back by SQLite after an earlier failure; nothing of it is stored",
      "SQLITE_ABORT_ROLLBACK"
    )
  }
}

export const perform = (slot: number, request: Exclude<Request, Statement>): Outcome => {
  switch (request.op) {
    case "begin":
      begin(request.immediate ? "BEGIN IMMEDIATE" : "BEGIN", slot, request.busyTimeout)
      isTransaction = true
      return done
    case "commit":
      checkTransaction()
      isCommitting(slot)
      try {
        commit(slot)
      } finally {
        isTransaction = false
        rollback()
      }
      return done
    case "savepoint":
      checkTransaction()
      db.exec(request.text)
      return done
    case "open":
      checkTransaction()
      openCursor(slot, request.cursor, request.statement)
      return done
    case "pull":
      checkTransaction()
      return pull(slot, request.cursor)
    case "close":
      closeCursor(request.cursor)
      return done
    case "release":
      Array.from(cursors.keys()).forEach(closeCursor)
      isTransaction = false
      rollback()
      if (request.reopen && !isMemory) {
        db.close()
        connect()
      }
      return done
    case "loadExtension":
      db.loadExtension(request.path)
      return done
    case "export":
      return { is: "bytes", bytes: db.serialize() }
    case "end":
      db.close()
      return done
  }
}

interface Cursor {
  readonly entry: Prepared
  readonly start: () => IterableIterator<unknown>
  /** Once it was pulled. */
  rows: IterableIterator<unknown> | undefined
}

const cursors = new Map<number, Cursor>()

const openCursor = (slot: number, cursor: number, [, text, params, flags]: Statement): void => {
  const entry = prepare([undefined, text, params, flags])
  const { statement } = entry
  if (options.role === "reader" && !statement.readonly) {
    // Its holder may have told the connection that it is not `query_only` any more.
    throw new Sqlite.SqliteError("attempt to write a readonly database", "SQLITE_READONLY")
  }
  statement.safeIntegers((flags & Flag.SafeIntegers) !== 0)
  if (!db.inTransaction) {
    checkFile()
  }
  const write = <A>(run: () => A): A => {
    if (db.inTransaction) {
      return run()
    }
    isCommitting(slot)
    return durably(run)
  }
  if (!statement.reader) {
    write(() => statement.run(...params))
  } else if (statement.readonly) {
    cursors.set(cursor, { entry, start: () => statement.iterate(...params), rows: undefined })
  } else {
    const rows = write(() => statement.all(...params))
    cursors.set(cursor, { entry, start: () => rows[Symbol.iterator](), rows: undefined })
  }
}

const pull = (slot: number, id: number): Outcome => {
  const cursor = cursors.get(id)
  if (cursor === undefined) {
    // The statement returns no rows, or was told to stop.
    return [[]]
  }
  const { entry } = cursor
  const values: Array<Value> = []
  for (let count = 0; count < chunkRows; count++) {
    const next = cursor.rows === undefined ? first(slot, cursor) : cursor.rows.next()
    if (next.done === true || isCancelled(slot)) {
      closeCursor(id)
      return rowsOf(entry, values)
    }
    append(values, next.value as Array<Value>)
  }
  return { is: "more", rows: rowsOf(entry, values) }
}

/** The first row takes the lock; an iterator that could not have it is at its end. */
const first = (slot: number, cursor: Cursor): IteratorResult<unknown> =>
  untilFree(options.busyTimeout, slot, () => {
    allowBeside(true)
    cursor.rows = cursor.start()
    return cursor.rows.next()
  })

const closeCursor = (id: number): void => {
  cursors.get(id)?.rows?.return?.()
  cursors.delete(id)
  if (cursors.size === 0) {
    allowBeside(false)
  }
}

let isAllowed = false

/** Lets statements run beside an open cursor. The driver has one word for that and for SQLite's defensive mode, which is off meanwhile. */
const allowBeside = (isWanted: boolean): void => {
  if (isWanted !== isAllowed) {
    db.unsafeMode(isWanted)
    isAllowed = isWanted
  }
}

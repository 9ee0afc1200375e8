/** The thread's connection: how it is opened, what it has prepared, which schema it last saw, and how it waits for locks. */
import Sqlite from "better-sqlite3"
import * as fs from "node:fs"
import { checkIdentity, identityOf } from "../identity.js"
import { makePrivate } from "../privateFile.js"
import * as protocol from "../protocol.js"
import { Claim, Word } from "../protocol.js"
import { isCancelled, isClosing, isMemory, now, options, words } from "./shared.js"

/** SQLite itself waits only this long for a lock, since that cannot be interrupted; the rest of `busyTimeout` is waited here (ms). */
const nativeBusyTimeout = 5

/** How often a lock is asked for (ms). */
const lockInterval = 2

export interface Prepared {
  readonly statement: Sqlite.Statement<Array<unknown>>
  /** The schema of which the pool knows the names of the columns. */
  epoch: number
  isQuick: boolean
  safeIntegers: boolean
}

export let db: Sqlite.Database

/** The file, once one was opened. */
let opened: string | undefined
/**
 * Where a file cannot be opened for writing SQLite opens it for reading, and tells so at the first write. That connection stays so, also when the
 * file can be written: then it is opened anew.
 */
let isReadonly = false
let schemaVersion: Sqlite.Statement<[]>
let beginRead: Sqlite.Statement<[]>

/** Opens the file that `identity` names, if it does, and again that file; answers what it is on its disk. */
export const connect = (identity?: string): string | undefined => {
  opened ??= identity
  db = untilFree(options.busyTimeout, undefined, open)
  opened ??= isMemory ? undefined : identityOf(options.filename)
  isReadonly = false
  schemaVersion = db.prepare<[]>("PRAGMA schema_version").pluck()
  beginRead = db.prepare<[]>("BEGIN")
  prepared.clear()
  return opened
}

const open = (): Sqlite.Database => {
  checkNow()
  if (!isMemory && options.role !== "reader" && opened === undefined) {
    makePrivate(options.filename)
  }
  // Closed first and last by the writer, so that SQLite removes the -wal file: readers could not, if they were opened read-only.
  const db = new Sqlite(options.filename, {
    fileMustExist: !isMemory,
    // What a reader has not begun is taken back by the pool, which must not take a wait in SQLite for a long statement.
    timeout: options.role === "reader" ? 0 : nativeBusyTimeout
  })
  try {
    checkNow()
    if (options.wal && options.role === "writer") {
      writeAhead(db)
    }
    db.pragma(`synchronous = ${synchronous(db)}`)
    db.pragma("journal_size_limit = 67108864")
    // What whoever wrote the file has put into its views, triggers and defaults reaches no function that acts beyond the database.
    db.pragma("trusted_schema = OFF")
    db.prepare("select count(*) from sqlite_schema").get()
    apply("extensions", options.extensions, (extension) => db.loadExtension(extension))
    apply("pragmas", options.pragmas, (pragma) => db.pragma(pragma))
    apply("initialSql", options.initialSql, (sql) => db.exec(sql))
    if (options.role === "reader") {
      db.pragma("query_only = ON")
    }
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/** Where a COMMIT is the removal of a journal, "full" does not make sure that it stays removed. */
const synchronous = (db: Sqlite.Database) =>
  options.synchronous === "full" && options.role !== "reader" &&
    db.pragma("journal_mode", { simple: true }) === "delete"
    ? "extra"
    : options.synchronous

/** A file that this user may only read stays as it is. */
const writeAhead = (db: Sqlite.Database) => {
  try {
    db.pragma("journal_mode = WAL")
  } catch (error) {
    if (!(error instanceof Sqlite.SqliteError && error.code.startsWith("SQLITE_READONLY"))) {
      throw error
    }
  }
}

/** Names the option whose value fails. */
const apply = (option: string, values: ReadonlyArray<string>, run: (value: string) => unknown) => {
  try {
    values.forEach(run)
  } catch (error) {
    throw Object.assign(error as Error, { option })
  }
}

/** For so long reads may still answer from a file that is gone (ms). */
const checkInterval = 100

let checkedAt = 0

/** Before reads: looking at the file takes longer than many of them. */
export const checkFile = (): void => {
  const time = now()
  if (time - checkedAt > checkInterval) {
    checkNow()
    checkedAt = time
  }
}

/** What any statement fails with passes here. */
export const noteFailure = (error: unknown): void => {
  isReadonly ||= options.role !== "reader" && !isMemory && error instanceof Sqlite.SqliteError &&
    error.code === "SQLITE_READONLY"
}

const isWritable = (): boolean => {
  try {
    fs.accessSync(options.filename, fs.constants.W_OK)
    return true
  } catch {
    return false
  }
}

const checkNow = (): void => {
  if (!isMemory && opened !== undefined) {
    checkIdentity(options.filename, opened)
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Statements
// ---------------------------------------------------------------------------------------------------------------------

const texts = new Map<number, string>()
const prepared = new Map<number, Prepared>()

/** A text crosses once, also with a request that never runs. */
export const learnTexts = ({ forget, requests }: protocol.Message): void => {
  for (const id of forget) {
    texts.delete(id)
    prepared.delete(id)
  }
  for (const [, request] of requests) {
    if (protocol.isStatement(request) && request[0] !== undefined && request[1] !== undefined) {
      texts.set(request[0], request[1])
    }
  }
}

export const prepare = ([id, text]: protocol.Statement): Prepared => {
  const known = id === undefined ? undefined : prepared.get(id)
  if (known !== undefined) {
    return known
  }
  const statement = db.prepare<Array<unknown>>(text ?? texts.get(id!)!)
  if (statement.reader) {
    statement.raw(true)
  }
  const entry: Prepared = { statement, epoch: -1, isQuick: false, safeIntegers: false }
  if (id !== undefined) {
    prepared.set(id, entry)
  }
  return entry
}

/** Counts the schemas that were seen: names of columns are told again after each change, whoever made it. */
let epoch = 0
let lastSchema: unknown

export const checkSchema = (): void => {
  const version = schemaVersion.get()
  if (version !== lastSchema) {
    lastSchema = version
    tellNamesAgain()
  }
}

export const tellNamesAgain = (): void => {
  epoch += 1
}

const isBlob = (value: protocol.Value) => typeof value === "object" && value !== null

export const append = (values: Array<protocol.Value>, row: ReadonlyArray<protocol.Value>): void => {
  for (const value of row) {
    values.push(value)
  }
}

/** Values as they cross, with the names of their columns where the pool does not know them. */
export const rowsOf = (entry: Prepared, values: Array<protocol.Value>): protocol.Rows => {
  const names = entry.epoch === epoch ? undefined : entry.statement.columns().map((column) => column.name)
  entry.epoch = epoch
  return [values, names, values.some(isBlob)]
}

// ---------------------------------------------------------------------------------------------------------------------
// Transactions
// ---------------------------------------------------------------------------------------------------------------------

export const isBusy = (error: unknown): boolean =>
  error instanceof Sqlite.SqliteError && error.code.startsWith("SQLITE_BUSY") && error.code !== "SQLITE_BUSY_SNAPSHOT"

/** Runs what needs a lock, again and again until the time is over or the request of the slot is cancelled. */
export const untilFree = <A>(timeout: number, slot: number | undefined, run: () => A): A => {
  const deadline = now() + timeout
  for (;;) {
    try {
      return run()
    } catch (error) {
      if (!isBusy(error) || now() >= deadline || isCancelled(slot) || isClosing()) {
        throw error
      }
      Atomics.wait(
        words,
        Word.FirstSlot + (slot ?? 0),
        slot === undefined ? words[Word.FirstSlot]! : Claim.Begun,
        lockInterval
      )
    }
  }
}

export const begin = (sql: string, slot: number | undefined, timeout = options.busyTimeout): void =>
  untilFree(timeout, slot, () => {
    checkNow()
    if (isReadonly && isWritable()) {
      const before = db
      connect()
      before.close()
    }
    db.exec(sql)
  })

export const commit = (slot: number | undefined): void =>
  untilFree(options.busyTimeout, slot, () => durably(() => void db.exec("COMMIT")))

/**
 * Runs what makes a change durable. Where the disk fails in it, the change may stand in the file all the same and be found there after a crash;
 * where the file is gone afterwards, the change may be gone with it. Nobody can tell then.
 */
export const durably = <A>(run: () => A): A => {
  if (options.role === "reader") {
    return run()
  }
  checkNow()
  let isDone = false
  try {
    const result = run()
    isDone = true
    checkNow()
    return result
  } catch (error) {
    throw isDone || isFromDisk(error) ? Object.assign(error as Error, { outcome: "unknown" }) : error
  }
}

const isFromDisk = (error: unknown): boolean =>
  error instanceof Sqlite.SqliteError && /^SQLITE_IOERR(?!_(SHORT_)?READ)/.test(error.code)

export const rollback = (): void => {
  if (db.inTransaction) {
    db.exec("ROLLBACK")
  }
}

/**
 * Autocommit reads in one transaction: they see one moment and one schema, the one whose names they tell, and take SQLite's locks once.
 * That moment comes after all of them were asked for. Inside a transaction they are part of it.
 */
export const beginReads = (): void => {
  if (db.inTransaction) {
    return checkSchema()
  }
  checkFile()
  beginRead.run()
  try {
    checkSchema()
  } catch (error) {
    rollback()
    throw error
  }
}

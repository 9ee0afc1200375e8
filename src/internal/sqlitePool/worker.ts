/**
 * The thread: one connection, one loop. It sleeps until the pool has posted a message, runs what the message asks for, in order,
 * and answers. It runs no promise and no timer: all it does is synchronous, and its sleep is `Atomics.wait`.
 */
import Sqlite from "better-sqlite3"
import * as fs from "node:fs"
import type { MessagePort } from "node:worker_threads"
import { receiveMessageOnPort, workerData } from "node:worker_threads"
import * as protocol from "./protocol.js"
import { Claim, Flag, Word } from "./protocol.js"

const { options, port, words } = workerData as {
  readonly options: protocol.Options
  readonly port: MessagePort
  readonly words: Int32Array
}

/** How long a thread stays awake after its last answer: waking it costs more than that (ms). */
const spinTime = 0.05

/** Answers wait for a read that took less than this last time, so as to leave together; for no other (ms). */
const quickTime = 0.5

/** SQLite itself waits only this long for a lock, since that cannot be interrupted; the rest of `busyTimeout` is waited here (ms). */
const nativeBusyTimeout = 5

/** A group of writes is committed after this time, that those who wait behind it need not wait for all of it (ms). */
const groupTime = 20

/** How often a lock is asked for (ms). */
const lockInterval = 2

const now = () => performance.now()

interface Prepared {
  readonly statement: Sqlite.Statement<Array<unknown>>
  /** The schema of which the pool knows the names of the columns. */
  epoch: number
  isQuick: boolean
  safeIntegers: boolean
}

// ---------------------------------------------------------------------------------------------------------------------
// The connection
// ---------------------------------------------------------------------------------------------------------------------

const isMemory = options.filename === ":memory:" || options.filename === ""

const isBusy = (error: unknown): boolean =>
  error instanceof Sqlite.SqliteError && error.code.startsWith("SQLITE_BUSY") && error.code !== "SQLITE_BUSY_SNAPSHOT"

/** Runs what needs a lock, again and again until the time is over or the request of the slot is cancelled. */
const untilFree = <A>(timeout: number, slot: number | undefined, run: () => A): A => {
  const deadline = now() + timeout
  for (;;) {
    try {
      return run()
    } catch (error) {
      if (!isBusy(error) || now() >= deadline || isCancelled(slot) || Atomics.load(words, Word.Closing) !== 0) {
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

/** Names the option whose value fails. */
const apply = (option: string, values: ReadonlyArray<string>, run: (value: string) => unknown) => {
  try {
    values.forEach(run)
  } catch (error) {
    throw Object.assign(error as Error, { option })
  }
}

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

const open = (): Sqlite.Database => {
  // Closed first and last by the writer, so that SQLite removes the -wal file: readers could not, if they were opened read-only.
  const db = new Sqlite(options.filename, {
    fileMustExist: options.role === "reader" || options.identity !== undefined,
    timeout: nativeBusyTimeout
  })
  try {
    // Statements run beside an open cursor of the same connection.
    db.unsafeMode(true)
    if (options.wal && options.role === "writer") {
      writeAhead(db)
    }
    db.pragma(`synchronous = ${options.synchronous}`)
    db.pragma("journal_size_limit = 67108864")
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

/** What the file is on its disk. A file that was deleted or replaced would take writes and lose them, unseen by SQLite. */
const identity = (): string | undefined => {
  if (isMemory) {
    return ""
  }
  const file = fs.statSync(options.filename, { throwIfNoEntry: false, bigint: true })
  return file === undefined ? undefined : `${file.dev}:${file.ino}`
}

let db: Sqlite.Database
let opened: string | undefined
let schemaVersion: Sqlite.Statement<[]>
let beginRead: Sqlite.Statement<[]>

const connect = () => {
  db = untilFree(options.busyTimeout, undefined, open)
  opened = options.identity ?? identity()
  schemaVersion = db.prepare<[]>("PRAGMA schema_version").pluck()
  beginRead = db.prepare<[]>("BEGIN")
  prepared.clear()
}

const checkIdentity = () => {
  if (identity() !== opened) {
    throw new Sqlite.SqliteError(
      "the database file was deleted or replaced while it was open",
      "SQLITE_READONLY_DBMOVED"
    )
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Statements
// ---------------------------------------------------------------------------------------------------------------------

const texts = new Map<number, string>()
const prepared = new Map<number, Prepared>()

const prepare = (request: protocol.Statement): Prepared => {
  const [id, text] = request
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

const checkSchema = () => {
  const version = schemaVersion.get()
  if (version !== lastSchema) {
    lastSchema = version
    epoch += 1
  }
}

/**
 * Autocommit reads in one transaction: they see one moment and one schema, the one whose names they tell, and take SQLite's locks once.
 * That moment comes after all of them were asked for.
 */
const readTogether = (reads: () => void): void => {
  if (db.inTransaction) {
    checkSchema()
    return reads()
  }
  untilFree(options.busyTimeout, undefined, () => {
    beginRead.run()
    try {
      checkSchema()
    } catch (error) {
      rollback()
      throw error
    }
  })
  try {
    reads()
  } finally {
    rollback()
  }
}

const isBlob = (value: protocol.Value) => typeof value === "object" && value !== null

const rowsOf = (entry: Prepared, rows: Array<Array<protocol.Value>>): protocol.Rows => {
  const names = entry.epoch === epoch ? undefined : entry.statement.columns().map((column) => column.name)
  entry.epoch = epoch
  return [rows, names, rows.some((row) => row.some(isBlob))]
}

const isStopped = () => Atomics.load(words, Word.Closing) === protocol.Closing.Now

const isCancelled = (slot: number | undefined) =>
  isStopped() || (slot !== undefined && protocol.isCancelled(words, slot))

let chunks = 0

/** Posts rows and waits until the pool has taken them. Answers whether more are wanted. */
const postChunk = (slot: number, rows: protocol.Rows): boolean => {
  answer(slot, { is: "more", rows })
  flush()
  chunks += 1
  for (;;) {
    const taken = Atomics.load(words, Word.Taken)
    if (taken >= chunks || isCancelled(slot)) {
      return !isCancelled(slot)
    }
    Atomics.wait(words, Word.Taken, taken)
  }
}

const read = (slot: number, entry: Prepared, params: protocol.Parameters): protocol.Reply => {
  const start = now()
  if (!entry.isQuick) {
    flush()
  }
  let rows: Array<Array<protocol.Value>> = []
  for (const row of entry.statement.iterate(...params)) {
    if (isCancelled(slot)) {
      return { is: "cancelled" }
    }
    if (rows.length === protocol.chunkRows) {
      if (!postChunk(slot, rowsOf(entry, rows))) {
        return { is: "cancelled" }
      }
      rows = []
    }
    rows.push(row as Array<protocol.Value>)
  }
  entry.isQuick = now() - start < quickTime
  return rowsOf(entry, rows)
}

const run = (slot: number, request: protocol.Statement): protocol.Reply => {
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
  if (statement.readonly) {
    return read(slot, entry, params)
  }
  // It writes and returns rows: it comes to its end, whoever still wants them.
  return rowsOf(entry, statement.all(...params) as Array<Array<protocol.Value>>)
}

// ---------------------------------------------------------------------------------------------------------------------
// Groups of writes
// ---------------------------------------------------------------------------------------------------------------------

type Member = readonly [slot: number, request: protocol.Statement]

const failed = (error: unknown): protocol.Reply => ({ is: "failed", error: protocol.toWire(error) })

const rollback = () => {
  if (db.inTransaction) {
    db.exec("ROLLBACK")
  }
}

const begin = (sql: string, slot: number | undefined, timeout = options.busyTimeout) =>
  untilFree(timeout, slot, () => {
    checkIdentity()
    db.exec(sql)
  })

/** Writes that waited together share transactions, each of at most `groupTime`. */
const group = (members: ReadonlyArray<Member>): void => {
  let rest = members
  while (rest.length > 0) {
    try {
      begin("BEGIN IMMEDIATE", undefined)
      checkSchema()
    } catch (error) {
      rest.filter(([slot]) => isClaimed(slot)).forEach(([slot]) => answer(slot, failed(error)))
      return
    }
    rest = rest.slice(transact(rest))
    if (rest.length > 0) {
      flush()
    }
  }
}

/**
 * Runs members in the open transaction, ends it, and answers them after its COMMIT; tells how many it got to. A member that fails
 * has undone itself, and the others go on. Where a failure ended the transaction, or the COMMIT fails, nothing of it is there:
 * then each half runs again, until the member that is to blame is alone.
 */
const transact = (members: ReadonlyArray<Member>): number => {
  const start = now()
  const answers: Array<readonly [Member, protocol.Reply]> = []
  let count = 0
  let failure: unknown
  while (count < members.length && failure === undefined && now() - start < groupTime) {
    const member = members[count++]!
    const [slot, request] = member
    if (isClaimed(slot)) {
      try {
        answers.push([member, run(slot, request)])
      } catch (error) {
        answers.push([member, failed(error)])
        failure = db.inTransaction ? undefined : error
      }
    }
  }
  if (failure === undefined) {
    try {
      answers.forEach(([[slot]]) => protocol.mark(words, slot, Claim.Committing))
      untilFree(options.busyTimeout, undefined, () => db.exec("COMMIT"))
    } catch (error) {
      failure = error
    }
  }
  rollback()
  if (failure === undefined || answers.length === 1) {
    answers.forEach(([[slot], reply]) => answer(slot, failure === undefined ? reply : failed(failure)))
  } else {
    const again = answers.map(([member]) => member)
    again.forEach(([slot]) => protocol.mark(words, slot, Claim.Sent))
    // Names that were told with answers that are not sent are told again.
    epoch += 1
    const half = again.length >> 1
    group(again.slice(0, half))
    group(again.slice(half))
  }
  return count
}

// ---------------------------------------------------------------------------------------------------------------------
// Requests
// ---------------------------------------------------------------------------------------------------------------------

const cursors = new Map<number, { readonly entry: Prepared; readonly rows: IterableIterator<unknown> }>()

/** Whether a transaction was begun for a lease, and may therefore be missed. */
let isTransaction = false

const checkTransaction = () => {
  if (isTransaction && !db.inTransaction) {
    throw new Sqlite.SqliteError(
      "the transaction was rolled back by SQLite after an earlier failure; nothing of it is stored",
      "SQLITE_ABORT_ROLLBACK"
    )
  }
}

/** A statement that shares its transaction with no other: a read, one of a lease, or one that cannot be grouped. */
const single = (slot: number, request: protocol.Statement): protocol.Reply => {
  checkTransaction()
  if (options.role === "reader") {
    let entry: Prepared
    try {
      entry = prepare(request)
    } catch (error) {
      return { is: "writes", error: protocol.toWire(error) }
    }
    return entry.statement.readonly && entry.statement.reader
      ? run(slot, request)
      : { is: "writes", error: undefined }
  }
  const { readonly, reader } = prepare(request).statement
  if (readonly && reader) {
    let reply: protocol.Reply = done
    readTogether(() => {
      reply = run(slot, request)
    })
    return reply
  }
  checkSchema()
  if (db.inTransaction) {
    return run(slot, request)
  }
  if (!readonly) {
    // What commits by itself, such as VACUUM, is durable at an unknown moment.
    protocol.mark(words, slot, Claim.Committing)
  }
  return untilFree(options.busyTimeout, slot, () => run(slot, request))
}

const pull = (slot: number, id: number): protocol.Reply => {
  const cursor = cursors.get(id)
  if (cursor === undefined) {
    // The statement returns no rows, or was told to stop.
    return [[], [], false]
  }
  const { entry, rows } = cursor
  const chunk: Array<Array<protocol.Value>> = []
  while (chunk.length < protocol.chunkRows) {
    const next = rows.next()
    if (next.done === true || isCancelled(slot)) {
      closeCursor(id)
      return rowsOf(entry, chunk)
    }
    chunk.push(next.value as Array<protocol.Value>)
  }
  return { is: "more", rows: rowsOf(entry, chunk) }
}

const closeCursor = (id: number) => {
  cursors.get(id)?.rows.return?.()
  cursors.delete(id)
}

const done: protocol.Reply = { is: "done", changes: 0, lastInsertRowid: 0 }

const perform = (slot: number, request: protocol.Request): protocol.Reply => {
  if (protocol.isStatement(request)) {
    return single(slot, request)
  }
  switch (request.op) {
    case "begin":
      begin(request.immediate ? "BEGIN IMMEDIATE" : "BEGIN", slot, request.busyTimeout)
      isTransaction = true
      return done
    case "commit":
      checkTransaction()
      protocol.mark(words, slot, Claim.Committing)
      try {
        untilFree(options.busyTimeout, slot, () => db.exec("COMMIT"))
      } finally {
        isTransaction = false
        rollback()
      }
      return done
    case "savepoint":
      checkTransaction()
      db.exec(request.text)
      return done
    case "open": {
      checkTransaction()
      const [, text, params, flags] = request.statement
      const entry = prepare([undefined, text, params, flags])
      entry.statement.safeIntegers((flags & Flag.SafeIntegers) !== 0)
      if (!entry.statement.reader) {
        entry.statement.run(...params)
      } else if (entry.statement.readonly) {
        cursors.set(request.cursor, { entry, rows: entry.statement.iterate(...params) })
      } else {
        cursors.set(request.cursor, { entry, rows: entry.statement.all(...params)[Symbol.iterator]() })
      }
      return done
    }
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

const isClaimed = (slot: number): boolean => {
  // What a thread that is stopped has not begun runs elsewhere.
  const isOurs = !isStopped() && protocol.claim(words, slot, Claim.Begun)
  if (!isOurs && !isStopped()) {
    answer(slot, { is: "withdrawn" })
  }
  return isOurs
}

let replies: Array<readonly [slot: number, reply: protocol.Reply]> = []

const answer = (slot: number, reply: protocol.Reply) => {
  if (protocol.isRows(reply) && reply[0].length > protocol.chunkRows) {
    const [rows, names, hasBlobs] = reply
    let start = 0
    for (; start + protocol.chunkRows < rows.length; start += protocol.chunkRows) {
      postChunk(slot, [rows.slice(start, start + protocol.chunkRows), names, hasBlobs])
    }
    replies.push([slot, [rows.slice(start), names, hasBlobs]])
  } else {
    replies.push([slot, reply])
  }
}

const flush = () => {
  if (replies.length > 0) {
    port.postMessage(replies satisfies protocol.Replies)
    replies = []
  }
}

const isGrouped = (request: protocol.Request): request is protocol.Statement =>
  protocol.isStatement(request) && (request[3] & Flag.Grouped) !== 0

const handle = (message: protocol.Message): void => {
  if (options.role === "reader" && message.requests.every(([, request]) => protocol.isStatement(request))) {
    let isReading = false
    try {
      readTogether(() => {
        isReading = true
        work(message)
      })
    } catch (error) {
      if (isReading) {
        throw error
      }
      message.requests.filter(([slot]) => isClaimed(slot)).forEach(([slot]) => answer(slot, failed(error)))
    }
  } else {
    work(message)
  }
  flush()
}

const work = ({ forget, requests }: protocol.Message): void => {
  for (const id of forget) {
    texts.delete(id)
    prepared.delete(id)
  }
  // A text crosses once, also with a request that never runs.
  for (const [, request] of requests) {
    if (protocol.isStatement(request) && request[0] !== undefined && request[1] !== undefined) {
      texts.set(request[0], request[1])
    }
  }
  for (let i = 0; i < requests.length;) {
    const members: Array<Member> = []
    for (; i < requests.length; i++) {
      const [slot, request] = requests[i]!
      if (!isGrouped(request)) {
        break
      }
      members.push([slot, request])
    }
    group(members)
    for (; i < requests.length; i++) {
      const [slot, request] = requests[i]!
      if (isGrouped(request)) {
        break
      }
      if (isClaimed(slot)) {
        try {
          answer(slot, perform(slot, request))
        } catch (error) {
          answer(slot, isCancelled(slot) ? { is: "cancelled" } : failed(error))
        }
      }
    }
  }
}

/** Awake for a moment after each answer, asleep otherwise. */
const main = () => {
  let isOpen = true
  let awakeUntil = 0
  while (isOpen) {
    const posted = Atomics.load(words, Word.Posted)
    if (isStopped()) {
      db.close()
      break
    }
    const received = receiveMessageOnPort(port)
    if (received !== undefined) {
      const message = received.message as protocol.Message
      handle(message)
      isOpen = !message.requests.some(([, request]) => !protocol.isStatement(request) && request.op === "end")
      awakeUntil = now() + spinTime
    } else if (now() > awakeUntil) {
      Atomics.wait(words, Word.Posted, posted)
    }
  }
  port.close()
}

try {
  connect()
  port.postMessage([[protocol.nobody, { is: "opened", identity: opened }]] satisfies protocol.Replies)
  main()
} catch (error) {
  port.postMessage([[protocol.nobody, failed(error)]] satisfies protocol.Replies)
  port.close()
}

/**
 * What crosses the thread: every message, every shared word, and who may write it when.
 *
 * A request's life: **queued** in the pool; **sent** in a message, when its slot's word becomes `Sent`; **begun** when its thread
 * claims the slot; **answered** by exactly one final reply, after which the slot is free. Until it is begun the pool may take it
 * back, by claiming the slot for itself: then it never runs, and is answered as `withdrawn`. What stands in the slot's word when a
 * thread dies tells what became of its request.
 *
 *     word of a slot     who writes it                              a death of the thread means
 *     Sent               the pool, before it posts the message      it never ran: it may run on another thread
 *     Begun              the thread, from Sent only                 a read may run again; a write is rolled back
 *     Committing         the thread, around what makes it durable   nobody knows whether it was committed
 *     Cancelled          the pool, from Begun only                  nobody waits for it
 *     Withdrawn          the pool, from Sent only                   it never ran
 */

/** One thread's shared memory: a few words, then one for each slot. */
export const Word = {
  /** Counts the messages that the pool posted. The thread sleeps on it. Written by the pool. */
  Posted: 0,
  /** Counts the chunks of rows that the pool has taken. The thread sleeps on it between two chunks. Written by the pool. */
  Taken: 1,
  /** Whether the thread is to end. Written by the pool. */
  Closing: 2,
  /** 1 while the thread sleeps, or is about to: only then it has to be woken. Written by the thread. */
  Asleep: 3,
  /** Counts the messages that the thread posted. Written by the thread. */
  Answered: 4,
  /** How long its last message took (µs). Written by the thread. */
  Took: 5,
  /** 1 from when it opens its connection. Written by the thread. */
  Begun: 6,
  FirstSlot: 8
} as const

/** `Soon`: no lock of another process is waited for any longer. `Now`: nothing begins any more, and what can stop does. */
export const Closing = { No: 0, Soon: 1, Now: 2 } as const

export const Claim = { Free: 0, Sent: 1, Begun: 2, Committing: 3, Withdrawn: 4, Cancelled: 5 } as const

/** More than are ever under way on one thread: each of its users sends a bounded number at a time. */
export const slots = 4096

export const makeWords = (): Int32Array => new Int32Array(new SharedArrayBuffer(4 * (Word.FirstSlot + slots)))

/** Not a slot: what opening the connection is answered under. */
export const nobody = -1

/** From `Sent` to `Begun` or `Withdrawn`: of the thread and the pool exactly one succeeds. */
export const claim = (words: Int32Array, slot: number, as: typeof Claim.Begun | typeof Claim.Withdrawn): boolean =>
  Atomics.compareExchange(words, Word.FirstSlot + slot, Claim.Sent, as) === Claim.Sent

export const mark = (words: Int32Array, slot: number, as: (typeof Claim)[keyof typeof Claim]): void => {
  Atomics.store(words, Word.FirstSlot + slot, as)
}

/**
 * Has what runs stop: a read at its next row, a wait for a lock or for chunks to be taken at once. What is done already, or is a write, is
 * not stopped by it.
 */
export const cancel = (words: Int32Array, slot: number): void => {
  Atomics.compareExchange(words, Word.FirstSlot + slot, Claim.Begun, Claim.Cancelled)
  Atomics.notify(words, Word.FirstSlot + slot)
  Atomics.notify(words, Word.Taken)
}

export const isCancelled = (words: Int32Array, slot: number): boolean => state(words, slot) === Claim.Cancelled

export const state = (words: Int32Array, slot: number): number => Atomics.load(words, Word.FirstSlot + slot)

/** Rows that cross in one message: building them takes the event loop about a millisecond. */
export const chunkRows = 1_000

export type Parameters = ReadonlyArray<unknown>

/**
 * A statement, as a tuple since it crosses so often. `id` is the number of its text, which crosses only when the thread does not know it;
 * without a number the statement is prepared for this once.
 */
export type Statement = readonly [id: number | undefined, text: string | undefined, params: Parameters, flags: number]

export const Flag = {
  /** Integers are answered as bigints. */
  SafeIntegers: 1,
  /** A write that may share its transaction with others. */
  Grouped: 2,
  /** At most about `chunkRows` rows, of which only the values are wanted: no names are told, and nothing stops it between two rows. */
  Values: 4
} as const

export const isStatement = (request: Request): request is Statement => Array.isArray(request)

/** What a thread is asked for. */
export type Request =
  | Statement
  /** Begins a transaction, or waits for the lock of another process until `busyTimeout` (ms). */
  | { readonly op: "begin"; readonly immediate: boolean; readonly busyTimeout: number }
  /** COMMIT; rolled back where it fails. */
  | { readonly op: "commit" }
  /** SAVEPOINT, RELEASE, ROLLBACK TO. */
  | { readonly op: "savepoint"; readonly text: string }
  /** Opens a cursor; `pull` asks for its next rows. */
  | { readonly op: "open"; readonly cursor: number; readonly statement: Statement }
  | { readonly op: "pull"; readonly cursor: number }
  | { readonly op: "close"; readonly cursor: number }
  /** Ends a lease: cursors are closed, an open transaction is rolled back, a connection that was changed is opened anew. */
  | { readonly op: "release"; readonly reopen: boolean }
  | { readonly op: "loadExtension"; readonly path: string }
  | { readonly op: "export" }
  /** Checkpoints, closes the connection and ends the thread. */
  | { readonly op: "end" }

export interface Message {
  readonly requests: ReadonlyArray<readonly [slot: number, request: Request]>
  /** Numbers of texts that are not used any more. */
  readonly forget: ReadonlyArray<number>
}

export type Value = null | number | bigint | string | Uint8Array

/**
 * Rows, value after value: as many make a row as it has names. `names` stand there only where they are not what was sent for this text
 * before.
 */
export type Rows = readonly [values: Array<Value>, names?: ReadonlyArray<string> | undefined, hasBlobs?: boolean]

export interface WireError {
  readonly name: string
  readonly code: string | undefined
  readonly message: string
  /** The option of the pool that made opening fail, if one did. */
  readonly option?: string | undefined
  /** Nobody can tell whether the change is stored. */
  readonly outcome?: "unknown" | undefined
}

/** One answer, to the request of a slot. Rows are the commonest, and stand in the tuple itself. */
export type Reply = readonly [slot: number, ...rows: Rows] | readonly [slot: number, answer: Answer]

/** All but `more` are final. */
export type Answer =
  | { readonly is: "more"; readonly rows: Rows }
  | { readonly is: "done"; readonly changes: number; readonly lastInsertRowid: number | bigint }
  | { readonly is: "bytes"; readonly bytes: Uint8Array }
  | { readonly is: "failed"; readonly error: WireError }
  /** A reader cannot run it: it writes or, with an error, does not prepare there. */
  | { readonly is: "writes"; readonly error: WireError | undefined }
  /** The connection is open; `identity` tells the file from another one under its name. */
  | { readonly is: "opened"; readonly identity: string | undefined }
  | { readonly is: "withdrawn" }
  | { readonly is: "cancelled" }

export const isRows = (reply: Reply): reply is readonly [slot: number, ...rows: Rows] => Array.isArray(reply[1])

export type Replies = ReadonlyArray<Reply>

/** What a thread needs to open its connection. */
export interface Options {
  readonly filename: string
  /** `writer` may create the file; `reader` cannot write; `both` does all on one connection. */
  readonly role: "writer" | "reader" | "both"
  readonly wal: boolean
  readonly synchronous: "off" | "normal" | "full" | "extra"
  readonly busyTimeout: number
  readonly pragmas: ReadonlyArray<string>
  readonly initialSql: ReadonlyArray<string>
  readonly extensions: ReadonlyArray<string>
}

/** Has a thread open its connection: the first that is posted to it. */
export interface Connect {
  /** The file that the pool has opened, where this is not its first connection. */
  readonly identity: string | undefined
}

export const toWire = (thrown: unknown): WireError => {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined
  const option = "option" in error && typeof error.option === "string" ? error.option : undefined
  const outcome = "outcome" in error && error.outcome === "unknown" ? "unknown" : undefined
  return { name: error.name, code, message: error.message, option, outcome }
}

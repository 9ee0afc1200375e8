/** One request on its way: `queued` in the pool, `sent` to a thread (which may have begun it), `settled` by exactly one outcome. */
import type { SqlError } from "@effect/sql/SqlError"
import type * as protocol from "./protocol.js"
import type { Text } from "./routing.js"
import type { Thread } from "./thread.js"

/** Rows as objects, as arrays of values, or as one array of the values of all. */
export type Shape = "objects" | "arrays" | "values"

const noRows: Array<unknown> = []

let count = 0

export class Job {
  /** Requests are served in the order in which they were asked. */
  readonly number = count++
  readonly queuedAt = performance.now()
  status: "queued" | "sent" | "settled" = "queued"
  /** Where it waits. */
  queue: { readonly forget: () => void } | undefined = undefined
  /** Where it was sent to, and under which slot. */
  thread: Thread | undefined = undefined
  slot = -1
  /** When it was first seen running; 0 before. */
  seenAt = 0
  /** How many threads have died over it. */
  deaths = 0

  error: SqlError | undefined = undefined
  rows = noRows
  names: ReadonlyArray<string> | undefined = undefined
  /** Whether the statement is one that answers rows, though it may answer none. */
  isRows = false
  /** Where a cursor has more rows. */
  isOpen = false
  changes = 0
  lastInsertRowid: number | bigint = 0
  bytes: Uint8Array | undefined = undefined

  constructor(
    readonly request: protocol.Request,
    /** Called once; `error` tells how it ended. */
    private readonly settled: (job: Job) => void,
    readonly text: Text | undefined = undefined,
    /** False also for one that was taken for a read until a reader found that it writes. */
    public isRead = false,
    readonly shape: Shape = "objects",
    /** Whether it waits though too many wait. */
    readonly isBatch = false
  ) {}

  /** Whether it is a lookup of many rows. */
  get isBulky(): boolean {
    return this.shape === "values"
  }

  settle(error?: SqlError): void {
    if (this.status !== "settled") {
      const queue = this.status === "queued" ? this.queue : undefined
      this.status = "settled"
      queue?.forget()
      this.error = error
      this.settled(this)
      // Whoever still holds the job, such as what would interrupt it, need not hold its rows.
      this.rows = noRows
    }
  }

  /** Some of its rows have come. */
  append(rows: Array<unknown>): void {
    this.isRows = true
    if (this.rows.length === 0) {
      this.rows = rows
    } else {
      for (const row of rows) {
        this.rows.push(row)
      }
    }
  }

  /** It runs again, from its beginning. */
  restart(): void {
    this.deaths += 1
    this.status = "queued"
    this.rows = noRows
    this.names = undefined
  }
}

/** What waits for a thread, first come first served. */
import type { SqlError } from "@effect/sql/SqlError"
import { acquireTimedOut } from "./errors.js"
import { Fifo } from "../fifo.js"
import { Job } from "./job.js"
import type { Lease } from "./lease.js"

/** Somebody who waits for a connection of their own. */
export class Waiter {
  readonly queuedAt = performance.now()
  status: "queued" | "granted" | "settled" = "queued"
  lease: Lease | undefined
  /** Where it waits. */
  queue: { readonly forget: () => void } | undefined

  constructor(private readonly resume: (outcome: Lease | SqlError) => void) {}

  grant(lease: Lease): void {
    this.status = "granted"
    this.lease = lease
    this.resume(lease)
  }

  refuse(error: SqlError): void {
    if (this.status === "queued") {
      this.leave()
      this.resume(error)
    }
  }

  /** Ends the waiting of somebody who does not want a connection any more. */
  leave(): void {
    if (this.status === "queued") {
      this.status = "settled"
      this.queue?.forget()
    }
  }
}

export const refuse = (entry: Job | Waiter, error: SqlError): void =>
  entry instanceof Job ? entry.settle(error) : entry.refuse(error)

/** Those that were settled while they waited stay until their turn comes or they are too many, and are passed over. */
export class Queue<Entry extends Job | Waiter> {
  private readonly entries = new Fifo<Entry>()
  private settled = 0

  /** How many wait. */
  get size(): number {
    return this.entries.length - this.settled
  }

  push(entry: Entry): void {
    entry.queue = this
    this.entries.push(entry)
  }

  /** Puts back what was taken, before all others and in its order. */
  putBack(entries: ReadonlyArray<Entry>): void {
    if (entries.length > 0) {
      for (const entry of entries) {
        entry.queue = this
      }
      this.entries.unshift(entries)
    }
  }

  peek(): Entry | undefined {
    let entry = this.entries.peek()
    while (entry !== undefined && entry.status !== "queued") {
      this.settled -= 1
      this.entries.shift()
      entry = this.entries.peek()
    }
    return entry
  }

  shift(): Entry | undefined {
    const entry = this.peek()
    if (entry !== undefined) {
      entry.queue = undefined
      this.entries.shift()
    }
    return entry
  }

  /** An entry was settled where it stands. */
  forget(): void {
    this.settled += 1
    if (this.settled > 1_000 && this.settled > this.size) {
      this.entries.retain(({ status }) => status === "queued")
      this.settled = 0
    }
  }

  refuseAll(error: SqlError): void {
    for (let entry = this.shift(); entry !== undefined; entry = this.shift()) {
      refuse(entry, error)
    }
  }

  /** Refuses those that have waited for longer than `timeout` (ms). */
  expire(timeout: number, onExpired: () => void): void {
    const oldest = performance.now() - timeout
    let refusal: SqlError | undefined
    for (let entry = this.peek(); entry !== undefined && entry.queuedAt < oldest; entry = this.peek()) {
      this.shift()
      onExpired()
      refuse(entry, refusal ??= acquireTimedOut(timeout))
    }
  }
}

/** What waits for a thread, first come first served. */
import * as MutableList from "effect/MutableList"
import { acquireTimedOut } from "./errors.js"
import type { Lease } from "./lease.js"
import { settle } from "./thread.js"
import type { Job } from "./thread.js"
import type { SqlError } from "@effect/sql/SqlError"

/** Somebody who waits for a connection of their own. */
export interface Waiter {
  readonly kind: "waiter"
  readonly queuedAt: number
  status: "queued" | "granted" | "settled"
  lease: Lease | undefined
  /** Where it waits. */
  queue: { readonly forget: () => void } | undefined
  readonly resume: (outcome: Lease | SqlError) => void
}

export const makeWaiter = (resume: Waiter["resume"]): Waiter => ({
  kind: "waiter",
  queuedAt: performance.now(),
  status: "queued",
  lease: undefined,
  queue: undefined,
  resume
})

export const grant = (waiter: Waiter, lease: Lease): void => {
  waiter.status = "granted"
  waiter.lease = lease
  waiter.resume(lease)
}

export const refuse = (entry: Job | Waiter, error: SqlError): void => {
  if (!("kind" in entry)) {
    settle(entry, error)
  } else if (entry.status === "queued") {
    leave(entry)
    entry.resume(error)
  }
}

/** Ends the waiting of somebody who does not want a connection any more. */
export const leave = (waiter: Waiter): void => {
  if (waiter.status === "queued") {
    waiter.queue?.forget()
    waiter.status = "settled"
  }
}

export const isWaiter = (entry: Job | Waiter): entry is Waiter => "kind" in entry

/** Those that were settled while they waited stay in the list until their turn comes or they are too many, and are passed over. */
export class Queue<Entry extends Job | Waiter> {
  private entries = MutableList.empty<Entry>()
  private settled = 0

  /** How many wait. */
  get size(): number {
    return MutableList.length(this.entries) - this.settled
  }

  push(entry: Entry): void {
    entry.queue = this
    MutableList.append(this.entries, entry)
  }

  /** Puts back what was taken, before all others and in its order. */
  putBack(entries: ReadonlyArray<Entry>): void {
    for (const entry of entries.toReversed()) {
      entry.queue = this
      MutableList.prepend(this.entries, entry)
    }
  }

  peek(): Entry | undefined {
    for (let entry = MutableList.head(this.entries); entry !== undefined; entry = MutableList.head(this.entries)) {
      if (entry.status === "queued") {
        return entry
      }
      MutableList.shift(this.entries)
      this.settled -= 1
    }
    return undefined
  }

  shift(): Entry | undefined {
    const entry = this.peek()
    if (entry !== undefined) {
      MutableList.shift(this.entries)
      entry.queue = undefined
    }
    return entry
  }

  /** An entry was settled where it stands. */
  forget(): void {
    this.settled += 1
    if (this.settled > 1_000 && this.settled > this.size) {
      this.entries = MutableList.fromIterable(Array.from(this.entries).filter((entry) => entry.status === "queued"))
      this.settled = 0
    }
  }

  refuseAll(error: SqlError): void {
    for (let entry = this.shift(); entry !== undefined; entry = this.shift()) {
      refuse(entry, error)
    }
  }

  /** Refuses those that have waited for longer than `timeout` (ms). */
  expire(timeout: number): void {
    const oldest = performance.now() - timeout
    for (let entry = this.peek(); entry !== undefined && entry.queuedAt < oldest; entry = this.peek()) {
      this.shift()
      refuse(entry, acquireTimedOut(timeout))
    }
  }
}

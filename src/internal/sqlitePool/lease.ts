/**
 * A connection that one caller has for itself: the writer for a transaction or `reserve`, a reader for a stream or a snapshot.
 *
 * A lease is `open` until it is released or its thread ends; afterwards every request on it fails typed, and nothing runs on another
 * connection in its stead. Its requests run in the order in which they came, a bounded number under way.
 */
import type { SqlError } from "@effect/sql/SqlError"
import { queueFull } from "./errors.js"
import { Job } from "./job.js"
import { Queue } from "./queue.js"
import { isStatement } from "./protocol.js"
import { oncePerTurn } from "./supervisor.js"
import type { Thread } from "./thread.js"

/** Requests in one message, and messages under way. */
const batch = 256
const maxMessages = 2

export interface LeaseOptions {
  /** So many statements may wait. */
  readonly maxQueue: number
  /** Called when something was sent. */
  readonly onChange: () => void
  /** Called when the connection is free again. */
  readonly giveBack: () => void
}

export class Lease {
  /** Whether a statement changed the connection, which is opened anew then before others get it. */
  isChanged = false
  readonly queue = new Queue<Job>()
  readonly grantedAt = performance.now()
  private refusal: SqlError | undefined
  private isReleased = false

  constructor(readonly thread: Thread, private readonly options: LeaseOptions) {
    thread.lease = this
  }

  submit(job: Job): void {
    if (this.refusal !== undefined) {
      job.settle(this.refusal)
    } else if (isStatement(job.request) && this.isFull) {
      job.settle(queueFull(this.options.maxQueue))
    } else {
      this.queue.push(job)
      this.flush()
    }
  }

  private get isFull(): boolean {
    if (this.queue.size >= this.options.maxQueue) {
      this.flush.now()
    }
    return this.queue.size >= this.options.maxQueue
  }

  readonly flush = oncePerTurn(() => {
    const jobs: Array<Job> = []
    while (this.thread.messages < maxMessages && jobs.length < batch && this.queue.peek() !== undefined) {
      jobs.push(this.queue.shift()!)
    }
    if (jobs.length > 0) {
      this.thread.send(jobs)
      this.options.onChange()
    }
  })

  /** Fails what waits to be sent, and every later request. */
  refuse(error: SqlError): void {
    this.refusal ??= error
    this.queue.refuseAll(error)
  }

  /** Rolls back what is open, and gives the connection back; `onReleased` is called when that is done. Only the first call counts. */
  release(reason: SqlError, onReleased: () => void): void {
    if (this.isReleased) {
      return onReleased()
    }
    this.isReleased = true
    this.refuse(reason)
    const finish = () => {
      this.thread.lease = undefined
      this.options.giveBack()
      onReleased()
    }
    if (this.thread.state === "ended") {
      finish()
    } else {
      this.thread.send([
        new Job({ op: "release", reopen: this.isChanged }, ({ error }) => {
          if (error !== undefined) {
            // Whatever state it is in, nobody else gets it.
            this.thread.stop()
          }
          finish()
        })
      ])
    }
  }
}

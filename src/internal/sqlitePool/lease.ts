/**
 * A connection that one caller has for itself: the writer for a transaction or `reserve`, a reader for a stream or a snapshot.
 *
 * A lease is `open` until it is released or its thread ends; afterwards every request on it fails typed, and nothing runs on another
 * connection in its stead.
 */
import type { SqlError } from "@effect/sql/SqlError"
import { threadDied } from "./errors.js"
import { makeJob, settle } from "./thread.js"
import type { Job, Thread } from "./thread.js"

export class Lease {
  /** Whether a statement changed the connection, which is opened anew then before others get it. */
  isChanged = false
  private refusal: SqlError | undefined

  constructor(readonly thread: Thread, private readonly giveBack: () => void) {
    thread.lease = this
  }

  submit(job: Job): void {
    if (this.refusal !== undefined || this.thread.state === "ended") {
      settle(job, this.refusal ?? threadDied("its thread ended during the lease"))
    } else {
      this.thread.send([job])
    }
  }

  /** Fails every later request with this. */
  refuse(error: SqlError): void {
    this.refusal ??= error
  }

  /** Rolls back what is open, and gives the connection back; `onReleased` is called when that is done. Only the first call counts. */
  release(reason: SqlError, onReleased: () => void): void {
    if (this.refusal === reason || this.isReleased) {
      return onReleased()
    }
    this.isReleased = true
    this.refuse(reason)
    const finish = () => {
      this.thread.lease = undefined
      this.giveBack()
      onReleased()
    }
    if (this.thread.state === "ended") {
      finish()
    } else {
      const job = makeJob({ op: "release", reopen: this.isChanged }, (outcome) => {
        if ("_tag" in outcome) {
          // Whatever state it is in, nobody else gets it.
          this.thread.stop()
        }
        finish()
      })
      this.thread.send([job])
    }
  }

  private isReleased = false
}

/**
 * The writer: one thread, to which everything goes that changes the database, first come first served.
 *
 * Writes that wait together leave in one message and share transactions there (group commit). A lease has the thread for itself:
 * it is granted when all before it was answered, and those behind it wait for its end.
 *
 * Where the pool has one connection only, everything goes here.
 */
import type { SqlError } from "@effect/sql/SqlError"
import { closed, poolError } from "./errors.js"
import { Lease } from "./lease.js"
import { grant, isWaiter, Queue, refuse } from "./queue.js"
import type { Waiter } from "./queue.js"
import { settle } from "./thread.js"
import type { Events, Job, Thread } from "./thread.js"

/** Statements in one message: enough for large groups, and few enough that a lease does not wait long. */
const batch = 512

/** Messages under way: those that come meanwhile make the next group larger. */
const maxMessages = 2

const backoff = (failures: number) => Math.min(10 * 2 ** failures, 1_000)

export interface WriterOptions {
  /** Whether the database is gone with its thread, as one in memory is. */
  readonly isVolatile: boolean
  readonly acquireTimeout: number
  readonly spawn: (events: Events) => Thread
  readonly onDeath: (why: string) => void
  readonly watch: () => void
}

export class Writer {
  thread: Thread | undefined
  readonly queue = new Queue<Job | Waiter>()
  lease: Lease | undefined
  private failures = 0
  private refusal: SqlError | undefined
  private isFlushing = false
  private respawn: NodeJS.Timeout | undefined

  constructor(private readonly options: WriterOptions) {}

  /** Starts the thread; answers why not, where its connection cannot be opened. */
  start(): Promise<SqlError | undefined> {
    return this.spawn().opened
  }

  submit(entry: Job | Waiter): void {
    if (this.refusal !== undefined) {
      return refuse(entry, this.refusal)
    }
    this.queue.push(entry)
    this.schedule()
  }

  close(reason: SqlError = closed()): void {
    this.refusal ??= reason
    clearTimeout(this.respawn)
    this.queue.refuseAll(reason)
  }

  get hasWork(): boolean {
    return this.queue.size > 0 || this.thread?.isIdle === false
  }

  check(): void {
    this.queue.expire(this.options.acquireTimeout)
    this.flush()
  }

  private schedule(): void {
    if (!this.isFlushing) {
      this.isFlushing = true
      queueMicrotask(() => {
        this.isFlushing = false
        this.flush()
      })
    }
  }

  private flush(): void {
    const { thread } = this
    if (thread?.state === "open" && this.lease === undefined && this.refusal === undefined) {
      const jobs: Array<Job> = []
      const free = thread.messages < maxMessages ? batch : 0
      for (let entry = this.queue.peek(); entry !== undefined && jobs.length < free; entry = this.queue.peek()) {
        if (isWaiter(entry)) {
          if (jobs.length === 0 && thread.isIdle) {
            this.queue.shift()
            this.lease = new Lease(thread, () => {
              this.lease = undefined
              this.schedule()
            })
            grant(entry, this.lease)
          }
          break
        }
        jobs.push(entry)
        this.queue.shift()
      }
      if (jobs.length > 0) {
        thread.send(jobs)
      }
    }
    if (this.hasWork) {
      this.options.watch()
    }
  }

  private spawn(): Thread {
    const thread = this.options.spawn({
      onAnswers: () => this.schedule(),
      onWrites: () => {},
      onEnd: (_, why, again) => this.onEnd(why, again)
    })
    this.thread = thread
    void thread.opened.then((error) => {
      if (error === undefined) {
        this.failures = 0
        this.schedule()
      }
    })
    return thread
  }

  private onEnd(why: string, again: ReadonlyArray<Job>): void {
    this.thread = undefined
    if (this.refusal !== undefined) {
      again.forEach((job) => settle(job, this.refusal!))
      return
    }
    this.queue.putBack(again)
    this.options.onDeath(why)
    if (this.options.isVolatile) {
      this.close(poolError("ConnectionError", "execute", `The database in memory is lost: its thread ended (${why}).`))
    } else {
      this.respawn = setTimeout(() => void this.spawn(), backoff(this.failures++))
    }
  }
}

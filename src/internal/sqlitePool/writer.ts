/**
 * The writer: one thread, to which everything goes that changes the database, first come first served.
 *
 * Writes that wait together leave together, a half of them at a time, and share a message's transactions there (group commit). A lease has the thread for itself:
 * it is granted when all before it was answered, and those behind it wait for its end.
 *
 * Where the pool has one connection only, everything goes here.
 */
import type { SqlError } from "@effect/sql/SqlError"
import { closed, poolError } from "./errors.js"
import { Job } from "./job.js"
import { Lease } from "./lease.js"
import type { Metrics } from "./metrics.js"
import * as protocol from "./protocol.js"
import { Queue, refuse, Waiter } from "./queue.js"
import { oncePerTurn, Restart } from "./supervisor.js"
import type { Events, Thread } from "./thread.js"

/** Statements in one message: enough for large groups, and few enough that a lease does not wait long. Fewer only where fewer wait. */
const maxBatch = 512
const minBatch = 64

/** Messages under way: those that come meanwhile make the next group larger. */
const maxMessages = 2

export interface WriterOptions {
  /** Whether the database is gone with its thread, as one in memory is. */
  readonly isVolatile: boolean
  readonly acquireTimeout: number
  readonly maxQueue: number
  readonly metrics: Metrics
  readonly spawn: (events: Events) => Thread
  readonly onDeath: (why: string) => void
  /** Called when something was sent, answered, granted or given back. */
  readonly onChange: () => void
}

export class Writer {
  thread: Thread | undefined
  readonly queue = new Queue<Job | Waiter>()
  lease: Lease | undefined
  private refusal: SqlError | undefined
  /** Why the last connection could not be opened. */
  private unopened: SqlError | undefined
  private readonly restart = new Restart()

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
    this.restart.cancel()
    this.queue.refuseAll(reason)
  }

  get hasWork(): boolean {
    return this.queue.size > 0 || this.thread?.isIdle === false
  }

  check(): void {
    this.queue.expire(this.options.acquireTimeout, this.options.metrics.timedOut, this.unopened)
    this.flush()
  }

  readonly schedule = oncePerTurn(() => this.flush())

  private flush(): void {
    const { thread } = this
    if (thread?.state === "open" && this.lease === undefined && this.refusal === undefined) {
      while (thread.messages < maxMessages && this.queue.peek() instanceof Job) {
        thread.send(this.takeJobs())
      }
      const next = this.queue.peek()
      if (next instanceof Waiter && thread.isIdle) {
        this.queue.shift()
        this.grant(next, thread)
      }
    }
    this.options.onChange()
  }

  /** The statements before the next lease: half of them, so that the next message is made while this one is worked on. */
  private takeJobs(): ReadonlyArray<Job> {
    const size = Math.min(maxBatch, Math.max(minBatch, Math.ceil(this.queue.size / 2)))
    const jobs: Array<Job> = []
    for (let next = this.queue.peek(); next instanceof Job && jobs.length < size; next = this.queue.peek()) {
      this.queue.shift()
      jobs.push(next)
    }
    return jobs
  }

  private grant(waiter: Waiter, thread: Thread): void {
    const { maxQueue, metrics, onChange } = this.options
    const giveBack = () => {
      metrics.used(performance.now() - lease.grantedAt)
      this.lease = undefined
      this.schedule()
    }
    const lease = new Lease(thread, { maxQueue, onChange, giveBack })
    this.lease = lease
    metrics.waited(lease.grantedAt - waiter.queuedAt)
    waiter.grant(lease)
  }

  private spawn(): Thread {
    const thread = this.options.spawn({
      onAnswers: ({ lease }) => (lease?.flush ?? this.schedule)(),
      onWrites: () => {},
      onEnd: (thread, why, again) => this.onEnd(thread, why, again)
    })
    this.thread = thread
    void thread.opened.then((error) => {
      this.unopened = error
      if (error === undefined) {
        this.restart.succeeded()
        this.schedule()
      }
    })
    return thread
  }

  /** Takes a thread out of the pool whose statement does not stop; what it holds locked is locked until it does. */
  abandon(thread: Thread): void {
    if (this.thread === thread) {
      this.thread = undefined
      thread.stop()
      this.queue.putBack(thread.waiting().filter((job) => protocol.isStatement(job.request) && thread.withdraw(job)))
      this.restart.schedule(() => void this.spawn())
    }
  }

  private onEnd(thread: Thread, why: string, again: ReadonlyArray<Job>): void {
    const wasInPool = this.thread === thread
    if (wasInPool) {
      this.thread = undefined
    }
    if (this.refusal !== undefined) {
      again.forEach((job) => job.settle(this.refusal))
      return
    }
    this.queue.putBack(again)
    if (!wasInPool) {
      return this.schedule()
    }
    this.options.onDeath(why)
    if (this.options.isVolatile) {
      this.close(poolError("ConnectionError", "execute", `The database in memory is lost: its thread ended (${why}).`))
    } else {
      this.restart.schedule(() => void this.spawn())
    }
    this.schedule()
  }
}

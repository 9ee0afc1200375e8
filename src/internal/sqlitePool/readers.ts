/**
 * The readers: between `min` and `max` threads, which share one queue.
 *
 * A free reader takes the next few reads. One that has not answered for a moment is taken to be at a long statement: what it has not
 * begun is taken back for the others, and a further reader is started where all are at long statements. So no quick read waits
 * behind a slow one while a reader is idle or could be started.
 */
import type { SqlError } from "@effect/sql/SqlError"
import { availableParallelism } from "node:os"
import { closed } from "./errors.js"
import type { Job } from "./job.js"
import { Lease } from "./lease.js"
import type { Metrics } from "./metrics.js"
import { Queue } from "./queue.js"
import type { Waiter } from "./queue.js"
import { oncePerTurn, Restart } from "./supervisor.js"
import type { Events, Thread } from "./thread.js"

/** Statements in one message: more cost latency and gain nothing. */
const batch = 32

/** Messages under way on one reader: with one it would sleep while the next is made, with many they would be small. */
const maxMessages = 2

/** A reader that has not answered for so long is at a long statement (ms). */
const stallTime = 4

const processors = availableParallelism()

export interface ReadersOptions {
  readonly min: number
  readonly max: number
  readonly idleTimeout: number
  readonly acquireTimeout: number
  readonly maxQueue: number
  readonly metrics: Metrics
  readonly spawn: (events: Events) => Thread
  readonly onWrites: Events["onWrites"]
  readonly onDeath: (why: string) => void
  /** Whether too many threads are at statements that do not end, for yet another to be started. */
  readonly isStuck: () => boolean
  /** Called when something was sent, answered, granted or given back. */
  readonly onChange: () => void
}

export class Readers {
  readonly threads = new Set<Thread>()
  readonly queue = new Queue<Job>()
  readonly waiters = new Queue<Waiter>()
  leased = 0
  /** Gets no more work until it is idle, and then goes to who waits for a reader alone. */
  private draining: Thread | undefined
  private isClosed = false
  /** Why the last connection could not be opened. */
  private unopened: SqlError | undefined
  private readonly restart = new Restart()
  private shrink: NodeJS.Timeout | undefined

  constructor(private readonly options: ReadersOptions) {}

  /** Starts the least number of readers; answers why not, where one cannot be opened. */
  async start(): Promise<SqlError | undefined> {
    const opened = await Promise.all(Array.from({ length: this.options.min }, () => this.spawn().opened))
    return opened.find((error) => error !== undefined)
  }

  submit(job: Job): void {
    if (this.isClosed) {
      return job.settle(closed())
    }
    this.queue.push(job)
    this.schedule()
  }

  lease(waiter: Waiter): void {
    this.waiters.push(waiter)
    this.schedule()
  }

  /** Ends the threads' work: nothing new begins. */
  close(): void {
    this.isClosed = true
    this.restart.cancel()
    clearTimeout(this.shrink)
    this.queue.refuseAll(closed())
    this.waiters.refuseAll(closed())
  }

  get hasWork(): boolean {
    return this.queue.size > 0 || this.waiters.size > 0 || Array.from(this.threads).some((thread) => !thread.isIdle)
  }

  /** Takes back what stalled readers have not begun, and starts a reader where all stall. */
  check(): void {
    const now = performance.now()
    this.queue.expire(this.options.acquireTimeout, this.options.metrics.timedOut, this.unopened)
    this.waiters.expire(this.options.acquireTimeout, this.options.metrics.timedOut, this.unopened)
    const canServe = this.available().some((thread) => thread.isIdle) || this.threads.size < this.options.max
    for (const thread of this.threads) {
      if (canServe && !thread.isLeased && isStalled(thread, now)) {
        this.queue.putBack(thread.waiting().filter((job) => thread.withdraw(job)))
      }
    }
    this.flush()
    if (this.queue.peek() !== undefined && this.isStalled()) {
      this.grow()
    }
  }

  readonly schedule = oncePerTurn(() => this.flush())

  private available(): Array<Thread> {
    return Array.from(this.threads).filter((thread) => thread.state === "open" && !thread.isLeased)
  }

  private flush(): void {
    if (!this.isClosed) {
      this.grantLeases()
      this.dispatch()
      if (!this.hasWork && this.threads.size > this.options.min) {
        this.shrink ??= setTimeout(() => this.shrinkIdle(), this.options.idleTimeout).unref()
      }
    }
    this.options.onChange()
  }

  /** Shares what waits among the readers that may get more. */
  private dispatch(): void {
    if (this.queue.peek() === undefined) {
      return
    }
    const available = this.available()
    const share = Math.min(batch, Math.ceil(this.queue.size / Math.max(1, available.length)))
    while (this.queue.peek() !== undefined) {
      const thread = chosen(available, (thread) => thread.messages < maxMessages && thread !== this.draining)
      if (thread === undefined) {
        return
      }
      thread.send(this.take(share))
    }
  }

  /** The next jobs for one message: a bulky one travels alone, so that its rows are taken while those of the next are read. */
  private take(share: number): ReadonlyArray<Job> {
    const jobs: Array<Job> = []
    for (let job = this.queue.peek(); job !== undefined && jobs.length < share; job = this.queue.peek()) {
      if (job.isBulky && jobs.length > 0) {
        break
      }
      this.queue.shift()
      jobs.push(job)
      if (job.isBulky) {
        break
      }
    }
    return jobs
  }

  private isStalled(): boolean {
    const now = performance.now()
    return this.available().every((thread) => isStalled(thread, now))
  }

  /** A lease leaves at least one reader for plain reads, and has one without other work. */
  private grantLeases(): void {
    const { draining } = this
    this.draining = undefined
    for (let waiter = this.waiters.peek(); waiter !== undefined; waiter = this.waiters.peek()) {
      const available = this.available()
      if (this.leased >= this.options.max - 1) {
        return
      }
      if (available.length < 2) {
        return this.grow()
      }
      // Where none is idle, the one with the least work gets no more until it is.
      const thread = available.find((thread) => thread.isIdle) ??
        available.find((thread) => thread === draining) ??
        available.reduce((one, other) => one.load <= other.load ? one : other)
      if (!thread.isIdle) {
        this.draining = thread
        return
      }
      this.waiters.shift()
      this.grant(waiter, thread)
    }
  }

  private grant(waiter: Waiter, thread: Thread): void {
    const { maxQueue, metrics, onChange } = this.options
    const giveBack = () => {
      metrics.used(performance.now() - lease.grantedAt)
      this.leased -= 1
      this.schedule()
    }
    const lease = new Lease(thread, { maxQueue, onChange, giveBack })
    this.leased += 1
    metrics.waited(lease.grantedAt - waiter.queuedAt)
    waiter.grant(lease)
  }

  private grow(): void {
    const isOpening = Array.from(this.threads).some((thread) => thread.state === "opening")
    const isBounded = this.threads.size < this.options.max && !this.options.isStuck()
    if (!isOpening && isBounded && !this.restart.isDue && !this.isClosed) {
      this.spawn()
    }
  }

  private spawn(): Thread {
    const thread = this.options.spawn({
      onAnswers: ({ lease }) => (lease?.flush ?? this.schedule)(),
      onWrites: this.options.onWrites,
      onEnd: (thread, why, again) => this.onEnd(thread, why, again)
    })
    this.threads.add(thread)
    void thread.opened.then((error) => {
      this.unopened = error
      if (error === undefined) {
        this.restart.succeeded()
        this.schedule()
        this.replace()
      }
    })
    return thread
  }

  /** Starts a reader where there are too few. */
  private replace(): void {
    if (this.threads.size < this.options.min) {
      this.grow()
    }
  }

  /** Takes a thread out of the pool whose statement does not stop. */
  abandon(thread: Thread): void {
    if (this.threads.delete(thread)) {
      thread.stop()
      this.queue.putBack(thread.waiting().filter((job) => thread.withdraw(job)))
      this.replace()
      this.schedule()
    }
  }

  private onEnd(thread: Thread, why: string, again: ReadonlyArray<Job>): void {
    const wasInPool = this.threads.delete(thread)
    if (this.isClosed) {
      again.forEach((job) => job.settle(closed()))
      return
    }
    this.queue.putBack(again)
    if (wasInPool) {
      this.options.onDeath(why)
      this.restart.schedule(() => {
        this.replace()
        this.schedule()
      })
    } else {
      this.replace()
    }
    this.schedule()
  }

  private shrinkIdle(): void {
    this.shrink = undefined
    const oldest = performance.now() - this.options.idleTimeout
    for (const thread of this.available()) {
      if (this.threads.size > this.options.min && thread.isIdle && thread.activeAt <= oldest) {
        this.threads.delete(thread)
        thread.finish()
      }
    }
    this.options.onChange()
    if (this.threads.size > this.options.min) {
      this.shrink = setTimeout(() => this.shrinkIdle(), this.options.idleTimeout).unref()
    }
  }
}

const isStalled = (thread: Thread, now: number): boolean => !thread.isIdle && now - thread.activeAt > stallTime

/**
 * Which reader gets the next message. The one that answered last, while it is idle or its messages are quick: it is awake, and another would
 * have to be woken. Else the least busy one; but no idle one where as many work as there are processors, since they would only take
 * each other's time, and the event loop's.
 */
const chosen = (available: ReadonlyArray<Thread>, isFree: (thread: Thread) => boolean): Thread | undefined => {
  const now = performance.now()
  const working = available.filter((thread) => !thread.isIdle && !isStalled(thread, now)).length
  const free = available.filter((thread) => isFree(thread) && (!thread.isIdle || working < processors))
  const latest = free.reduce<Thread | undefined>(
    (one, other) => one !== undefined && one.activeAt >= other.activeAt ? one : other,
    undefined
  )
  return latest === undefined || latest.isIdle || latest.isQuick
    ? latest
    : free.reduce((one, other) => one.load <= other.load ? one : other)
}

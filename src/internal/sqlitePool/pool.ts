/** The pool put together: its threads, its queue's limits, its clock, its end. */
import type { SqlError } from "@effect/sql/SqlError"
import type { Pool } from "./client.js"
import type { Copy } from "./copy.js"
import { acquireTimedOut, closed, queueFull, readonly, statementTimedOut } from "./errors.js"
import { Job } from "./job.js"
import { makeMetrics } from "./metrics.js"
import type { Metrics, Stats } from "./metrics.js"
import * as protocol from "./protocol.js"
import type { Waiter } from "./queue.js"
import { Readers } from "./readers.js"
import { Texts } from "./routing.js"
import type { Route } from "./routing.js"
import { Thread } from "./thread.js"
import type { Events } from "./thread.js"
import { Writer } from "./writer.js"

/** The options of a pool, checked and complete; times in milliseconds. */
export interface Settings {
  readonly filename: string
  readonly readonly: boolean
  readonly disableWAL: boolean
  readonly minReaders: number
  readonly maxReaders: number
  readonly readerIdleTimeout: number
  readonly acquireTimeout: number
  readonly statementTimeout: number
  readonly closeTimeout: number
  readonly busyTimeout: number
  readonly maxQueue: number
  readonly prepareCacheSize: number
  readonly prepareCacheTTL: number
  readonly synchronous: protocol.Options["synchronous"]
  readonly pragmas: ReadonlyArray<string>
  readonly initialSql: ReadonlyArray<string>
  readonly extensions: ReadonlyArray<string>
  readonly poolName: string
}

/** How often timeouts and stalls are looked after while there is work (ms). */
const watchInterval = 5

/** A thread whose statement does not stop this long after it was told to is given up (ms). */
const graceTime = 200

export const isMemory = (filename: string) => filename === ":memory:" || filename === ""

export class Core implements Pool {
  readonly readers: Readers | undefined
  readonly writer: Writer | undefined
  readonly texts: Texts
  readonly isSingle: boolean
  readonly copies = new Set<Copy>()
  readonly metrics: Metrics
  private readonly threads = new Set<Thread>()
  /** Threads whose statement does not stop: they have no work any more, and are not yet gone. */
  private readonly abandoned = new Set<Thread>()
  private readonly extensions: Array<string>
  /** Settles when the file is there, or with why it is not. */
  private made: Promise<SqlError | undefined> = Promise.resolve(undefined)
  /** The file that was opened first: whatever stands under its name later is another one. */
  private identity: string | undefined
  /** The same for all, since refusing must be cheap. */
  private readonly full: SqlError
  private deaths = 0
  isClosed = false
  private timer: NodeJS.Timeout | undefined

  constructor(readonly settings: Settings, private readonly logDeath: (role: string, why: string) => void) {
    const { acquireTimeout, filename, maxQueue } = settings
    const metrics = makeMetrics(settings.poolName)
    this.metrics = metrics
    this.full = queueFull(maxQueue)
    this.extensions = [...settings.extensions]
    const isSingle = isMemory(filename) || (settings.disableWAL && !settings.readonly)
    this.isSingle = isSingle
    const onChange = () => this.onChange()
    this.texts = new Texts(
      settings.prepareCacheSize,
      settings.prepareCacheTTL,
      (id) => this.threads.forEach((thread) => thread.forget(id))
    )
    this.writer = settings.readonly ? undefined : new Writer({
      isVolatile: isMemory(filename),
      acquireTimeout,
      maxQueue,
      metrics,
      spawn: (events) => this.spawn(isSingle ? "both" : "writer", events),
      onDeath: (why) => this.onDeath("writer", why),
      onChange
    })
    this.readers = isSingle ? undefined : new Readers({
      min: settings.minReaders,
      max: settings.maxReaders,
      idleTimeout: settings.readerIdleTimeout,
      acquireTimeout,
      maxQueue,
      metrics,
      spawn: (events) => this.spawn("reader", events),
      onWrites: (job, error) => this.onWrites(job, error),
      onDeath: (why) => this.onDeath("reader", why),
      isStuck: () => this.abandoned.size > settings.maxReaders,
      onChange
    })
    metrics.setMax((this.readers === undefined ? 0 : settings.maxReaders) + (this.writer === undefined ? 0 : 1))
  }

  get busyTimeout(): number {
    return this.settings.busyTimeout
  }

  get acquireTimeout(): number {
    return this.settings.acquireTimeout
  }

  get maxQueue(): number {
    return this.settings.maxQueue
  }

  /** Whether the database is in memory. */
  get isVolatile(): boolean {
    return isMemory(this.settings.filename)
  }

  get file(): { readonly filename: string } & protocol.Connect {
    return { filename: this.settings.filename, identity: this.identity }
  }

  get isReadonly(): boolean {
    return this.writer === undefined
  }

  readonly text = (sql: string) => this.texts.get(sql)

  readonly submit = (job: Job, route: Route): void => {
    const refusal = this.refusal(job.isBatch)
    if (refusal !== undefined) {
      job.settle(refusal)
    } else if (this.readers !== undefined && (route === "read" || this.writer === undefined)) {
      this.readers.submit(job)
    } else {
      this.writer?.submit(job)
    }
  }

  readonly lease = (waiter: Waiter, kind: "writer" | "reader"): void => {
    const refusal = this.refusal()
    if (refusal !== undefined) {
      waiter.refuse(refusal)
    } else if (this.writer !== undefined && (kind === "writer" || this.readers === undefined)) {
      this.writer.submit(waiter)
    } else {
      this.readers?.lease(waiter)
    }
  }

  private refusal(isBatch = false): SqlError | undefined {
    return this.isClosed ? closed() : !isBatch && this.isFull ? this.full : undefined
  }

  /** What idle threads can take does not wait. */
  private get isFull(): boolean {
    const { maxQueue } = this.settings
    if (this.pending >= maxQueue) {
      this.readers?.schedule.now()
      this.writer?.schedule.now()
    }
    return this.pending >= maxQueue
  }

  get stats(): Stats {
    let open = 0
    let used = 0
    for (const thread of this.readers?.threads ?? []) {
      if (thread.state === "open") {
        open += 1
        used += thread.isLeased || !thread.isIdle ? 1 : 0
      }
    }
    const writer = this.writer?.thread?.state === "open" ? this.writer.thread : undefined
    return {
      readers: {
        open,
        used,
        leased: this.readers?.leased ?? 0,
        max: this.readers === undefined ? 0 : this.settings.maxReaders
      },
      writer: {
        open: writer === undefined ? 0 : 1,
        used: writer !== undefined && (writer.isLeased || !writer.isIdle) ? 1 : 0,
        leased: this.writer?.lease === undefined ? 0 : 1
      },
      pending: this.pending,
      deaths: this.deaths,
      abandoned: this.abandoned.size
    }
  }

  /** The same request on every connection, also on those that are leased; the first failure, if any. */
  async broadcast(request: protocol.Request): Promise<SqlError | undefined> {
    const open = Array.from(this.threads).filter((thread) => thread.state === "open")
    const jobs = await Promise.all(
      open.map((thread) => new Promise<Job>((resolve) => thread.send([new Job(request, resolve)])))
    )
    return jobs.find(({ error }) => error !== undefined)?.error
  }

  /** Every connection that is opened from now on loads it too. */
  loadExtension(file: string): Promise<SqlError | undefined> {
    if (this.isClosed) {
      return Promise.resolve(closed())
    }
    this.extensions.push(file)
    return this.broadcast({ op: "loadExtension", path: file }).then((error) => {
      if (error !== undefined) {
        this.extensions.splice(this.extensions.lastIndexOf(file), 1)
      }
      return error
    })
  }

  /** All threads start at once; the readers open their connections after the writer, which makes the file and its journal mode. */
  async start(): Promise<SqlError | undefined> {
    this.made = this.writer?.start() ?? this.made
    const readers = this.readers?.start()
    return await this.made ?? await readers
  }

  /** Ends leases, lets what has begun end, closes readers before the writer; answers how many are at a statement that does not end. */
  async close(): Promise<number> {
    this.isClosed = true
    const deadline = performance.now() + this.settings.closeTimeout
    this.readers?.close()
    this.writer?.close()
    for (const thread of this.threads) {
      // What ends a lease still runs: it gives the connection back.
      const waiting = thread.waiting().filter(({ request }) =>
        protocol.isStatement(request) || request.op !== "release"
      )
      waiting.filter((job) => thread.withdraw(job)).forEach((job) => job.settle(closed()))
      thread.lease?.release(closed(), () => {})
    }
    const writer = this.writer?.thread
    const readers = Array.from(this.threads).filter((thread) => thread !== writer)
    // A reader that does not end leaves the writer time to.
    await within(Promise.all(Array.from(this.copies, (copy) => copy.stop(closed()))), deadline - performance.now())
    await this.finish(readers, deadline - Math.min(graceTime, this.settings.closeTimeout / 2))
    await this.finish(writer === undefined ? [] : [writer], deadline)
    clearTimeout(this.timer)
    const left = Array.from(this.threads)
    left.forEach((thread) => thread.abandon())
    this.metrics.observe(nothing)
    this.metrics.setMax(0)
    // The others only start late, and end by themselves.
    return left.filter((thread) => thread.hasBegun).length
  }

  private async finish(threads: ReadonlyArray<Thread>, deadline: number): Promise<void> {
    const ended = Promise.all(threads.map((thread) => thread.ended))
    threads.filter((thread) => thread.state !== "ended").forEach((thread) => thread.finish())
    await within(ended, deadline - performance.now())
    if (threads.some((thread) => thread.state !== "ended")) {
      threads.forEach((thread) => thread.stop())
      await within(ended, graceTime)
    }
  }

  private get pending(): number {
    return (this.readers?.queue.size ?? 0) + (this.readers?.waiters.size ?? 0) + (this.writer?.queue.size ?? 0)
  }

  /** Timeouts and stalls are looked after while there is work. */
  private onChange(): void {
    if (!this.isClosed) {
      this.metrics.observe(this.stats)
    }
    if (this.timer === undefined && (this.readers?.hasWork === true || this.writer?.hasWork === true)) {
      this.timer = setTimeout(() => this.watch(), watchInterval)
    }
  }

  private watch(): void {
    this.timer = undefined
    for (const thread of this.threads) {
      // What came while the event loop was busy counts.
      thread.receiveAll()
      this.checkTime(thread, performance.now())
      this.checkWait(thread, performance.now())
    }
    this.readers?.check()
    this.writer?.check()
  }

  /** What was sent and has not begun waits as what is queued does. */
  private checkWait(thread: Thread, now: number): void {
    const { acquireTimeout } = this.settings
    for (const job of thread.waiting()) {
      if (protocol.isStatement(job.request) && now - job.queuedAt > acquireTimeout && thread.withdraw(job)) {
        this.metrics.timedOut()
        job.settle(acquireTimedOut(acquireTimeout))
      }
    }
    thread.lease?.queue.expire(acquireTimeout, this.metrics.timedOut)
  }

  /** A read that outlasts `statementTimeout` is failed and told to stop; one that does not stop costs its thread. */
  private checkTime(thread: Thread, now: number): void {
    const { statementTimeout } = this.settings
    for (const job of thread.running()) {
      job.seenAt ||= now
      if (job.isRead && now - job.seenAt > statementTimeout) {
        thread.cancel(job)
        job.settle(statementTimedOut(statementTimeout))
        if (now - job.seenAt > statementTimeout + graceTime) {
          this.abandon(thread)
        }
      }
    }
  }

  /**
   * Its callers are let go, also those of a lease, and others get another thread in its stead. A database in memory has no other: who
   * has no lease waits until `acquireTimeout`.
   */
  private abandon(thread: Thread): void {
    if (!this.isVolatile && !this.abandoned.has(thread)) {
      this.abandoned.add(thread)
      this.readers?.abandon(thread)
      this.writer?.abandon(thread)
    }
    if (this.abandoned.has(thread) || thread.isLeased) {
      thread.letGo("its statement does not end")
    }
  }

  private spawn(role: protocol.Options["role"], events: Events): Thread {
    const { busyTimeout, disableWAL, filename, initialSql, poolName, pragmas, synchronous } = this.settings
    const options = {
      filename,
      role,
      wal: !disableWAL,
      synchronous,
      busyTimeout,
      pragmas,
      initialSql,
      extensions: this.extensions
    }
    const startedAt = performance.now()
    const thread = new Thread(options, `${poolName} ${role}`, this.metrics, {
      ...events,
      onEnd: (thread, why, again) => {
        this.threads.delete(thread)
        this.abandoned.delete(thread)
        events.onEnd(thread, why, again)
      }
    })
    this.threads.add(thread)
    void this.made.then((error) => {
      if (error === undefined) {
        thread.connect(this.identity)
      }
    })
    void thread.opened.then((error) => {
      this.identity ??= thread.identity
      if (error === undefined) {
        this.metrics.created(performance.now() - startedAt)
      }
    })
    return thread
  }

  private onDeath(role: string, why: string): void {
    this.deaths += 1
    this.logDeath(role, why)
  }

  /** A reader cannot run it: the writer can, or says why not. */
  private onWrites(job: Job, error: SqlError | undefined): void {
    if (this.writer === undefined) {
      job.settle(error ?? readonly())
    } else {
      job.isRead = false
      this.writer.submit(job)
    }
  }
}

/** The numbers of a pool that is gone. */
const nothing: Stats = {
  readers: { open: 0, used: 0, leased: 0, max: 0 },
  writer: { open: 0, used: 0, leased: 0 },
  pending: 0,
  deaths: 0,
  abandoned: 0
}

const within = async (promise: Promise<unknown>, milliseconds: number): Promise<void> => {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.max(0, milliseconds))
  })
  await Promise.race([promise, timeout])
  clearTimeout(timer)
}

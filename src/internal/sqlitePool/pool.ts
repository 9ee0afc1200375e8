/** The pool put together: its threads, its queue's limits, its clock, its end. */
import type { SqlError } from "@effect/sql/SqlError"
import Sqlite from "better-sqlite3"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { fromUnknown } from "../../DatabaseError.js"
import type { Pool } from "./client.js"
import type { Copy } from "./copy.js"
import { acquireTimedOut, closed, poolError, queueFull, readonly, statementTimedOut } from "./errors.js"
import * as protocol from "./protocol.js"
import { refuse } from "./queue.js"
import { Readers } from "./readers.js"
import { Texts } from "./routing.js"
import type { Route } from "./routing.js"
import { isFailure, makeJob, settle, Thread } from "./thread.js"
import type { Answer, Events, Job } from "./thread.js"
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

/** A pool's numbers at one moment. */
export interface Stats {
  /** Reader threads that are open, and how many of them have work or are leased. */
  readonly readers: { readonly open: number; readonly used: number; readonly leased: number; readonly max: number }
  readonly writer: { readonly open: number; readonly used: number; readonly leased: number }
  /** Statements and leases that wait for a connection. */
  readonly pending: number
  /** Threads that died and were replaced. */
  readonly deaths: number
  /** Threads whose statement did not end in time, and that are still running it. */
  readonly abandoned: number
}

/** How often timeouts and stalls are looked after while there is work (ms). */
const watchInterval = 5

/** A thread whose statement does not stop this long after it was told to is given up (ms). */
const graceTime = 200

const isMemory = (filename: string) => filename === ":memory:" || filename === ""

export class Core implements Pool {
  readonly readers: Readers | undefined
  readonly writer: Writer | undefined
  readonly texts: Texts
  readonly isSingle: boolean
  readonly copies = new Set<Copy>()
  private readonly threads = new Set<Thread>()
  private readonly extensions: Array<string>
  /** The file that was opened first: whatever stands under its name later is another one. */
  private identity: string | undefined
  private deaths = 0
  isClosed = false
  private timer: NodeJS.Timeout | undefined

  constructor(readonly settings: Settings, private readonly logDeath: (role: string, why: string) => void) {
    const { acquireTimeout, filename } = settings
    this.extensions = [...settings.extensions]
    const isSingle = isMemory(filename) || (settings.disableWAL && !settings.readonly)
    this.isSingle = isSingle
    const watch = () => {
      this.timer ??= setTimeout(() => this.watch(), watchInterval)
    }
    this.texts = new Texts(
      settings.prepareCacheSize,
      settings.prepareCacheTTL,
      (id) => this.threads.forEach((thread) => thread.forget(id))
    )
    this.writer = settings.readonly ? undefined : new Writer({
      isVolatile: isMemory(filename),
      acquireTimeout,
      spawn: (events) => this.spawn(isSingle ? "both" : "writer", events),
      onDeath: (why) => this.onDeath("writer", why),
      watch
    })
    this.readers = isSingle ? undefined : new Readers({
      min: settings.minReaders,
      max: settings.maxReaders,
      maxLeased: settings.maxReaders - 1,
      idleTimeout: settings.readerIdleTimeout,
      acquireTimeout,
      spawn: (events) => this.spawn("reader", events),
      onWrites: (job, error) => this.onWrites(job, error),
      onDeath: (why) => this.onDeath("reader", why),
      watch
    })
  }

  get busyTimeout(): number {
    return this.settings.busyTimeout
  }

  /** Whether the database is in memory. */
  get isVolatile(): boolean {
    return isMemory(this.settings.filename)
  }

  get isReadonly(): boolean {
    return this.writer === undefined
  }

  readonly text = (sql: string) => this.texts.get(sql)

  readonly submit = (job: Job, route: Route): void => {
    if (this.isClosed) {
      settle(job, closed())
    } else if (this.pending >= this.settings.maxQueue) {
      settle(job, queueFull(this.settings.maxQueue))
    } else if (this.readers !== undefined && (route === "read" || this.writer === undefined)) {
      this.readers.submit(job)
    } else {
      this.writer?.submit(job)
    }
  }

  readonly lease: Pool["lease"] = (waiter, kind) => {
    if (this.isClosed) {
      refuse(waiter, closed())
    } else if (this.pending >= this.settings.maxQueue) {
      refuse(waiter, queueFull(this.settings.maxQueue))
    } else if (this.writer !== undefined && (kind === "writer" || this.readers === undefined)) {
      this.writer.submit(waiter)
    } else {
      this.readers?.lease(waiter)
    }
  }

  get stats(): Stats {
    const readers = Array.from(this.readers?.threads ?? []).filter((thread) => thread.state === "open")
    const writer = this.writer?.thread?.state === "open" ? this.writer.thread : undefined
    return {
      readers: {
        open: readers.length,
        used: readers.filter((thread) => thread.isLeased || !thread.isIdle).length,
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
      abandoned: this.readers?.abandoned.size ?? 0
    }
  }

  /** The same request on every connection, also on those that are leased; the first failure, if any. */
  async broadcast(request: protocol.Request): Promise<SqlError | undefined> {
    const outcomes = await Promise.all(
      Array.from(this.threads).filter((thread) => thread.state === "open").map((thread) =>
        new Promise<Answer | SqlError>((resolve) => thread.send([makeJob(request, resolve)]))
      )
    )
    return outcomes.find(isFailure)
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

  /** Opens the writer first: it makes the file and its journal mode. */
  async start(): Promise<SqlError | undefined> {
    return await this.writer?.start() ?? await this.readers?.start()
  }

  /** Ends leases, lets what has begun end, closes readers before the writer; answers how many threads did not end in time. */
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
      waiting.filter((job) => thread.withdraw(job)).forEach((job) => settle(job, closed()))
      thread.lease?.release(closed(), () => {})
    }
    const writer = this.writer?.thread
    const readers = Array.from(this.threads).filter((thread) => thread !== writer)
    // A reader that does not end leaves the writer time to.
    await within(Promise.all(Array.from(this.copies, (copy) => copy.stop(closed()))), deadline - performance.now())
    await this.finish(readers, deadline - Math.min(graceTime, this.settings.closeTimeout / 2))
    await this.finish(writer === undefined ? [] : [writer], deadline)
    clearTimeout(this.timer)
    this.timer = undefined
    const left = Array.from(this.threads)
    left.forEach((thread) => thread.abandon())
    return left.length
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

  private watch(): void {
    this.timer = undefined
    const now = performance.now()
    for (const thread of this.threads) {
      this.checkTime(thread, now)
      this.checkWait(thread, now)
    }
    this.readers?.check()
    this.writer?.check()
  }

  /** What was sent and has not begun waits as what is queued does. */
  private checkWait(thread: Thread, now: number): void {
    const { acquireTimeout } = this.settings
    thread.waiting()
      .filter((job) => protocol.isStatement(job.request) && now - job.queuedAt > acquireTimeout && thread.withdraw(job))
      .forEach((job) => settle(job, acquireTimedOut(acquireTimeout)))
  }

  /** A read that outlasts `statementTimeout` is failed and told to stop; one that does not stop costs its thread. */
  private checkTime(thread: Thread, now: number): void {
    const { statementTimeout } = this.settings
    for (const job of thread.running()) {
      job.seenAt ||= now
      if (job.isRead && now - job.seenAt > statementTimeout) {
        thread.cancel(job)
        settle(job, statementTimedOut(statementTimeout))
        if (now - job.seenAt > statementTimeout + graceTime) {
          this.readers?.abandon(thread)
        }
      }
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
      extensions: this.extensions,
      identity: this.identity
    }
    const thread = new Thread(options, `${poolName} ${role}`, {
      ...events,
      onEnd: (thread, why, again) => {
        this.threads.delete(thread)
        events.onEnd(thread, why, again)
      }
    })
    this.threads.add(thread)
    void thread.opened.then(() => {
      this.identity ??= thread.identity
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
      settle(job, error ?? readonly())
    } else {
      job.isRead = false
      this.writer.submit(job)
    }
  }
}

const within = async (promise: Promise<unknown>, milliseconds: number): Promise<void> => {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.max(0, milliseconds))
  })
  await Promise.race([promise, timeout])
  clearTimeout(timer)
}

/** Opens a pool for a scope. */
export const open = (settings: Settings): Effect.Effect<Core, SqlError, Scope.Scope> =>
  Effect.gen(function*() {
    const runFork = Runtime.runFork(yield* Effect.runtime())
    const { filename } = settings
    const wrapped = (thrown: unknown) => {
      const option = typeof thrown === "object" && thrown !== null && "option" in thrown
        ? ` with ${String(thrown.option)}`
        : ""
      const subject = `The database '${filename}' could not be opened${option}`
      const error = fromUnknown(thrown, { operation: "connect", subject })
      const message = error === thrown ? `${subject}: ${error.message}` : error.message
      return poolError(error.reason, "connect", message, error.outcome, error.code)
    }
    if (!isMemory(filename)) {
      yield* Effect.tryPromise({
        try: () => fs.stat(settings.readonly ? filename : path.dirname(filename)),
        catch: wrapped
      })
    }
    // A driver that only threads had loaded could crash the process when one of them ends.
    yield* Effect.try({ try: () => new Sqlite(":memory:").close(), catch: wrapped })
    const core = new Core(settings, (role, why) =>
      void runFork(
        Effect.logWarning(`A ${role} thread of the pool '${settings.poolName}' ended and is replaced: ${why}`)
      ))
    yield* Effect.addFinalizer(() =>
      Effect.flatMap(Effect.promise(() => core.close()), (left) =>
        left === 0 ? Effect.void : Effect.logWarning(
          `The pool '${settings.poolName}' was closed, but ${left} of its threads run a statement that does not end; ` +
            `the process can only be ended by a signal.`
        ))
    )
    return yield* Effect.promise(() => core.start()).pipe(
      Effect.flatMap((error) => error === undefined ? Effect.succeed(core) : Effect.fail(wrapped(error.cause))),
      // The scope may last on.
      Effect.onError(() => Effect.promise(() => core.close()))
    )
  })

/**
 * The pool's side of one thread: posts requests, settles them as the answers come, and tells what became of them when the thread
 * ends. It decides nothing: which request goes to which thread is for `readers.ts`, `writer.ts` and `lease.ts`.
 */
import type { SqlError } from "@effect/sql/SqlError"
import { MessageChannel, receiveMessageOnPort, Worker } from "node:worker_threads"
import type { MessagePort, WorkerOptions } from "node:worker_threads"
import { fromWire, outcomeUnknown, readonly, threadDied } from "./errors.js"
import { Job } from "./job.js"
import type { Lease } from "./lease.js"
import type { Metrics } from "./metrics.js"
import * as protocol from "./protocol.js"
import { Claim, Word } from "./protocol.js"
import { remember } from "./routing.js"
import type { Text } from "./routing.js"
import { toArrays, toObjects } from "./rows.js"

/** What a thread tells those who use it. */
export interface Events {
  /** Some of its requests were answered. */
  readonly onAnswers: (thread: Thread) => void
  /** A reader found that a statement writes, or cannot be prepared there. */
  readonly onWrites: (job: Job, error: SqlError | undefined) => void
  /** It ended, and `again` are requests that may run on another thread. */
  readonly onEnd: (thread: Thread, why: string, again: ReadonlyArray<Job>) => void
}

/**
 * For so long after a message the event loop looks for the answer in each of its turns, beside all else that it does, instead of being
 * woken for it: waking it takes longer than most statements (ms).
 */
const pollTime = 0.2

/** A message is quick that took less (µs). */
const quickTime = 500

const none: ReadonlyArray<number> = []

interface Message {
  readonly sentAt: number
  /** Texts that the thread has forgotten when it answers this. */
  readonly forget: ReadonlyArray<number>
  unanswered: number
}

export class Thread {
  /** How many messages were not answered to their end. */
  messages = 0
  /** When it last answered a request to its end, or was given work while it had none: rows of which more come are no end. */
  activeAt = performance.now()
  lease: Lease | undefined
  /** What file it has opened, once it is open. */
  identity: string | undefined
  state: "opening" | "open" | "ended" = "opening"
  /** Settles when the connection is open, or with why it is not. */
  readonly opened: Promise<SqlError | undefined>
  readonly ended: Promise<void>

  private readonly words = protocol.makeWords()
  /** What each slot was given; no job where it was taken back. Arrays, since a Map's old tables would keep all later jobs alive. */
  private readonly jobs: Array<Job | undefined> = []
  private readonly inMessage: Array<Message | undefined> = []
  private readonly freeSlots: Array<number> = []
  private readonly port: MessagePort
  /** Or why there is none. */
  private readonly worker: Worker | Error
  private readonly known = new Set<number>()
  private readonly names = new Map<number, ReadonlyArray<string>>()
  private forgotten: ReadonlyArray<number> = none
  private pollUntil = 0
  /** When anything last came from it. */
  private heardAt = 0
  private isPolling = false
  /** How many messages the thread had posted when they were last looked for. */
  private seen = 0
  private failure: Error | undefined
  private isLetGo = false
  private resolveOpened: (error: SqlError | undefined) => void = () => {}

  constructor(
    options: protocol.Options,
    name: string,
    private readonly metrics: Metrics,
    private readonly events: Events
  ) {
    const { port1, port2 } = new MessageChannel()
    this.port = port1
    this.opened = new Promise((resolve) => {
      this.resolveOpened = resolve
    })
    this.worker = start({ name, workerData: { options, port: port2, words: this.words }, transferList: [port2] })
    port1.on("message", (replies: protocol.Replies) => this.receive(replies))
    this.ended = new Promise((resolve) => {
      const onExit = () => {
        this.end()
        resolve()
      }
      if (this.worker instanceof Worker) {
        this.worker.on("error", (error) => {
          this.failure = error instanceof Error ? error : new Error(String(error))
        })
        this.worker.on("exit", onExit)
      } else {
        this.failure = this.worker
        setImmediate(onExit)
      }
    })
  }

  /** Has it open its connection; `identity` is that of the file that the pool has opened, if it has. The thread itself starts before. */
  connect(identity: string | undefined): void {
    this.post({ identity })
  }

  get isLeased(): boolean {
    return this.lease !== undefined
  }

  get isIdle(): boolean {
    return this.load === 0
  }

  /** Whether it has begun to open its connection: before that it has no statement, and no file. */
  get hasBegun(): boolean {
    return Atomics.load(this.words, Word.Begun) === 1
  }

  /** Whether its last message took no longer than it takes to wake another thread up. */
  get isQuick(): boolean {
    return Atomics.load(this.words, Word.Took) < quickTime
  }

  /** Why it ended. */
  private get why(): string {
    return this.failure?.message ?? "it was stopped"
  }

  /** How many requests were not answered yet. */
  get load(): number {
    return this.jobs.length - this.freeSlots.length
  }

  send(jobs: ReadonlyArray<Job>): void {
    if (this.isLetGo) {
      return jobs.forEach((job) => job.settle(threadDied(this.why)))
    }
    const sentAt = performance.now()
    if (this.isIdle) {
      this.activeAt = sentAt
    }
    const message = { sentAt, unanswered: jobs.length, forget: this.forgotten }
    this.forgotten = none
    const requests = jobs.map((job) => this.take(job, message))
    this.messages += 1
    this.post({ requests, forget: message.forget })
    this.pollUntil = sentAt + pollTime
    this.poll()
  }

  private post(message: protocol.Connect | protocol.Message): void {
    this.port.postMessage(message)
    this.wake()
  }

  private wake(): void {
    Atomics.add(this.words, Word.Posted, 1)
    if (Atomics.load(this.words, Word.Asleep) === 1) {
      Atomics.notify(this.words, Word.Posted)
    }
  }

  private poll(): void {
    if (!this.isPolling) {
      this.isPolling = true
      setImmediate(this.look)
    }
  }

  private readonly look = () => {
    this.isPolling = false
    if (Atomics.load(this.words, Word.Answered) !== this.seen) {
      this.receiveAll()
      this.pollUntil = this.heardAt + pollTime
    }
    if (!this.isIdle && this.state !== "ended" && performance.now() < this.pollUntil) {
      this.poll()
    }
  }

  /** Takes the answers that have come. */
  receiveAll(): void {
    this.seen = Atomics.load(this.words, Word.Answered)
    for (let next = receiveMessageOnPort(this.port); next !== undefined; next = receiveMessageOnPort(this.port)) {
      this.receive(next.message as protocol.Replies)
    }
  }

  /** Takes a request back that has not begun; it is `queued` again. */
  withdraw(job: Job): boolean {
    if (job.status === "sent" && protocol.claim(this.words, job.slot, Claim.Withdrawn)) {
      job.status = "queued"
      job.thread = undefined
      this.jobs[job.slot] = undefined
      return true
    }
    return false
  }

  /** Has a running read, a wait for a lock or the sending of rows stop. */
  cancel(job: Job): void {
    protocol.cancel(this.words, job.slot)
  }

  /** The requests that were sent and have not begun, in their order. */
  waiting(): ReadonlyArray<Job> {
    return this.jobsIn(Claim.Sent)
  }

  /** The requests that were begun and not answered; of a reader the last is the one that runs. */
  running(): ReadonlyArray<Job> {
    return this.jobsIn(Claim.Begun, Claim.Committing, Claim.Cancelled)
  }

  private jobsIn(...states: ReadonlyArray<number>): ReadonlyArray<Job> {
    const jobs: Array<Job> = []
    for (let slot = 0; slot < this.jobs.length; slot++) {
      const job = this.jobs[slot]
      if (job !== undefined && states.includes(protocol.state(this.words, slot))) {
        jobs.push(job)
      }
    }
    return jobs.toSorted(byNumber)
  }

  forget(id: number): void {
    if (this.known.has(id)) {
      this.forgotten = [...this.forgotten, id]
    }
  }

  /** Closes the connection after all that was sent, and ends the thread. */
  finish(): void {
    Atomics.store(this.words, Word.Closing, protocol.Closing.Soon)
    this.send([new Job({ op: "end" }, () => {})])
  }

  /**
   * Ends the thread after what runs now; what has not begun does not begin. Not by `Worker.terminate`: where a native call fails meanwhile,
   * the driver aborts the whole process.
   */
  stop(): void {
    Atomics.store(this.words, Word.Closing, protocol.Closing.Now)
    this.wake()
    Atomics.notify(this.words, Word.Taken)
  }

  /** Nobody waits for its answers any more. */
  letGo(why: string): void {
    this.failure ??= new Error(why)
    this.isLetGo = true
    this.lease?.refuse(threadDied(why))
    this.jobs.forEach((job) => job?.settle(threadDied(why)))
  }

  /** Leaves alone a thread whose native call does not return: it keeps nobody waiting, and nothing of it is heard. */
  abandon(): void {
    if (this.worker instanceof Worker) {
      this.worker.unref()
    }
    this.port.close()
    this.letGo("its statement does not end")
  }

  private take(job: Job, message: Message): readonly [number, protocol.Request] {
    const slot = this.freeSlots.pop() ?? this.jobs.length
    job.thread = this
    job.slot = slot
    job.status = "sent"
    job.seenAt = 0
    this.jobs[slot] = job
    this.inMessage[slot] = message
    protocol.mark(this.words, slot, Claim.Sent)
    return [slot, this.withText(job)]
  }

  /** The text of a statement, where the thread does not know it yet. */
  private withText({ request, text }: Job): protocol.Request {
    if (text === undefined || !protocol.isStatement(request)) {
      return request
    }
    const [id, , params, flags] = request
    if (text.isForgotten) {
      // Nobody would ever tell the thread to forget it.
      return [undefined, text.sql, params, flags]
    }
    if (this.known.has(text.id)) {
      return request
    }
    this.known.add(text.id)
    return [id, text.sql, params, flags]
  }

  private receive(replies: protocol.Replies): void {
    this.heardAt = performance.now()
    for (const reply of replies) {
      if (reply[0] === protocol.nobody) {
        this.open(reply[1] as protocol.Answer)
      } else {
        this.reply(reply)
      }
    }
    this.events.onAnswers(this)
  }

  private open(answer: protocol.Answer): void {
    if (answer.is === "opened") {
      this.state = "open"
      this.identity = answer.identity
    } else if (answer.is === "failed") {
      this.failure ??= new Error(answer.error.message)
    }
    this.resolveOpened(answer.is === "failed" ? fromWire(answer.error, "Failed to open the database") : undefined)
  }

  private reply(reply: protocol.Reply): void {
    const slot = reply[0]
    const job = this.jobs[slot]
    if (protocol.isRows(reply)) {
      const [, values, names, hasBlobs] = reply
      this.answered(slot)
      if (job !== undefined) {
        this.build(job, values, names, hasBlobs)
        job.settle()
      }
      return
    }
    const answer = reply[1] as protocol.Answer
    if (answer.is === "more") {
      if (job !== undefined) {
        this.build(job, ...answer.rows)
      }
      if (job === undefined || protocol.isStatement(job.request) || job.request.op !== "pull") {
        Atomics.add(this.words, Word.Taken, 1)
        Atomics.notify(this.words, Word.Taken)
        return
      }
      job.isOpen = true
    }
    this.answered(slot, answer.is !== "writes")
    if (job?.status === "sent") {
      this.settle(job, answer)
    }
  }

  /** Frees the slot. A statement has waited until it was sent to where it ran: what is taken back, or has to run elsewhere, still waits. */
  private answered(slot: number, hasRun = true): void {
    const message = this.inMessage[slot]!
    const job = this.jobs[slot]
    if (job !== undefined && hasRun && !this.isLeased && protocol.isStatement(job.request)) {
      this.metrics.waited(message.sentAt - job.queuedAt)
    }
    this.activeAt = this.heardAt
    if (--message.unanswered === 0) {
      this.messages -= 1
      // Only now: what was sent before was answered by these names.
      for (const id of message.forget) {
        this.known.delete(id)
        this.names.delete(id)
      }
      if (!this.isLeased) {
        this.metrics.used(this.activeAt - message.sentAt)
      }
    }
    this.jobs[slot] = undefined
    this.inMessage[slot] = undefined
    this.freeSlots.push(slot)
    protocol.mark(this.words, slot, Claim.Free)
  }

  private settle(job: Job, answer: protocol.Answer): void {
    switch (answer.is) {
      case "done":
        job.changes = answer.changes
        job.lastInsertRowid = answer.lastInsertRowid
        break
      case "bytes":
        job.bytes = answer.bytes
        break
      case "failed":
        return job.settle(fromWire(answer.error))
      case "cancelled":
        return job.settle(threadDied("it was interrupted"))
      case "writes": {
        const error = answer.error === undefined ? undefined : fromWire(answer.error)
        if (this.isLeased) {
          return job.settle(error ?? readonly())
        }
        job.status = "queued"
        job.thread = undefined
        if (error === undefined && job.text !== undefined) {
          remember(job.text)
        }
        return this.events.onWrites(job, error)
      }
    }
    job.settle()
  }

  /** Rows from values. Names are told once, also with an answer that nobody waits for any more. */
  private build(
    job: Job,
    values: Array<protocol.Value>,
    names: ReadonlyArray<string> | undefined,
    hasBlobs = false
  ): void {
    const { text } = job
    if (names !== undefined) {
      job.names = names
      this.learn(text, names)
    }
    if (job.status === "sent") {
      job.append(job.shape === "values" ? values : this.toRows(job, values, hasBlobs))
    }
  }

  private toRows({ names, shape, text }: Job, values: Array<protocol.Value>, hasBlobs: boolean): Array<unknown> {
    const columns = names ?? this.names.get(text?.id ?? protocol.nobody) ?? []
    return shape === "arrays" ? toArrays(columns, values, hasBlobs) : toObjects(columns, values, hasBlobs)
  }

  private learn(text: Text | undefined, names: ReadonlyArray<string>): void {
    if (text !== undefined && this.known.has(text.id)) {
      this.names.set(text.id, names)
    }
  }

  /** Settles all that was under way, by what the slots say. */
  private end(): void {
    this.receiveAll()
    this.state = "ended"
    this.port.close()
    const { why } = this
    this.resolveOpened(threadDied(why))
    const again = this.jobs.filter((job) => job?.status === "sent" && this.mayRunAgain(job, why)) as Array<Job>
    this.jobs.length = 0
    this.freeSlots.length = 0
    this.lease?.refuse(threadDied(why))
    this.events.onEnd(this, why, again.toSorted(byNumber))
  }

  /** Whether it may run on another thread; settles it otherwise. */
  private mayRunAgain(job: Job, why: string): boolean {
    const state = protocol.state(this.words, job.slot)
    // What belongs to a lease or to this connection runs nowhere else.
    const isBound = this.isLeased || !protocol.isStatement(job.request)
    const isOutOfMemory = this.failure !== undefined && "code" in this.failure &&
      this.failure.code === "ERR_WORKER_OUT_OF_MEMORY"
    job.thread = undefined
    if (state === Claim.Committing) {
      job.settle(outcomeUnknown(why))
    } else if (!isBound && state === Claim.Sent) {
      job.status = "queued"
      return true
    } else if (!isBound && job.isRead && job.deaths === 0 && !isOutOfMemory) {
      job.restart()
      return true
    } else {
      job.settle(threadDied(why))
    }
    return false
  }
}

const byNumber = (one: Job, other: Job) => one.number - other.number

/** Where the system has no thread to give, a thread that has ended already: it is tried again. */
const start = (options: WorkerOptions): Worker | Error => {
  try {
    return new Worker(new URL("./worker.js", import.meta.url), {
      ...options,
      execArgv: [],
      // What a thread makes is sent away at once: a small nursery keeps it from resting in memory.
      resourceLimits: { maxYoungGenerationSizeMb: 2 }
    })
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

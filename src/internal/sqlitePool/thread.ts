/**
 * The pool's side of one thread: posts requests, settles them as the answers come, and tells what became of them when the thread
 * ends. It decides nothing: which request goes to which thread is for `readers.ts` and `writer.ts`.
 */
import type { SqlError } from "@effect/sql/SqlError"
import { MessageChannel, receiveMessageOnPort, Worker } from "node:worker_threads"
import type { MessagePort, WorkerOptions } from "node:worker_threads"
import { fromWire, outcomeUnknown, readonly, threadDied } from "./errors.js"
import type { Lease } from "./lease.js"
import * as protocol from "./protocol.js"
import { Claim, Word } from "./protocol.js"
import { remember } from "./routing.js"
import type { Text } from "./routing.js"

export interface Answer {
  rows: Array<unknown>
  /** Whether the statement is one that answers rows, though it may answer none. */
  isRows: boolean
  /** Where a cursor has more rows. */
  isOpen: boolean
  changes: number
  lastInsertRowid: number | bigint
  bytes: Uint8Array | undefined
}

/** One request on its way, from `queued` to `settled`. */
export interface Job {
  readonly request: protocol.Request
  readonly text: Text | undefined
  /** Rows as objects, or as arrays of values. */
  readonly isValues: boolean
  /** False also for one that was taken for a read until a reader found that it writes. */
  isRead: boolean
  /** Called once. */
  readonly settle: (outcome: Answer | SqlError) => void
  /** Called after it: somebody who was interrupted waits for the outcome. */
  onSettled: (() => void) | undefined
  readonly queuedAt: number
  status: "queued" | "sent" | "settled"
  /** Where it was sent to, and under which slot. */
  thread: Thread | undefined
  slot: number
  /** Where it waits. */
  queue: { readonly forget: () => void } | undefined
  /** How many threads have died over it. */
  deaths: number
  answer: Answer
  names: ReadonlyArray<string> | undefined
  /** When it was first seen running; 0 before. */
  seenAt: number
}

export const isFailure = (outcome: Answer | SqlError): outcome is SqlError => "_tag" in outcome

const noAnswer: Answer = { rows: [], isRows: false, isOpen: false, changes: 0, lastInsertRowid: 0, bytes: undefined }

const emptyAnswer = (): Answer => ({
  rows: [],
  isRows: false,
  isOpen: false,
  changes: 0,
  lastInsertRowid: 0,
  bytes: undefined
})

export const makeJob = (
  request: protocol.Request,
  settle: Job["settle"],
  options: { readonly text?: Text; readonly isValues?: boolean; readonly isRead?: boolean } = {}
): Job => ({
  request,
  text: options.text,
  isValues: options.isValues ?? false,
  isRead: options.isRead ?? false,
  settle,
  onSettled: undefined,
  queuedAt: performance.now(),
  status: "queued",
  thread: undefined,
  slot: protocol.nobody,
  queue: undefined,
  deaths: 0,
  answer: emptyAnswer(),
  names: undefined,
  seenAt: 0
})

export const settle = (job: Job, outcome: Answer | SqlError): void => {
  if (job.status !== "settled") {
    if (job.status === "queued") {
      job.queue?.forget()
    }
    job.status = "settled"
    // Whoever still holds the job, such as what would interrupt it, need not hold its rows.
    job.answer = noAnswer
    job.settle(outcome)
    job.onSettled?.()
  }
}

/** What a thread tells those who use it. */
export interface Events {
  /** Some of its requests were answered. */
  readonly onAnswers: (thread: Thread) => void
  /** A reader found that a statement writes, or cannot be prepared there. */
  readonly onWrites: (job: Job, error: SqlError | undefined) => void
  /** It ended, and `again` are requests that may run on another thread. */
  readonly onEnd: (thread: Thread, why: string, again: ReadonlyArray<Job>) => void
}

interface Sent {
  job: Job | undefined
  readonly message: { unanswered: number }
}

export class Thread {
  /** How many messages were not answered to their end. */
  messages = 0
  /** Slots that were not answered yet; without a job where it was taken back. */
  readonly pending = new Map<number, Sent>()
  /** When it last answered, or was given work while it had none. */
  activeAt = performance.now()
  lease: Lease | undefined
  /** What file it has opened, once it is open. */
  identity: string | undefined
  state: "opening" | "open" | "ended" = "opening"
  /** Settles when the connection is open, or with why it is not. */
  readonly opened: Promise<SqlError | undefined>
  readonly ended: Promise<void>

  private readonly words = protocol.makeWords()
  private readonly port: MessagePort
  /** Or why there is none. */
  private readonly worker: Worker | Error
  private readonly known = new Set<number>()
  private readonly names = new Map<number, ReadonlyArray<string>>()
  private forgotten: Array<number> = []
  private nextSlot = 0
  private failure: Error | undefined
  private resolveOpened: (error: SqlError | undefined) => void = () => {}

  constructor(options: protocol.Options, name: string, private readonly events: Events) {
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

  get isLeased(): boolean {
    return this.lease !== undefined
  }

  get isIdle(): boolean {
    return this.pending.size === 0
  }

  send(jobs: ReadonlyArray<Job>): void {
    if (this.pending.size === 0) {
      this.activeAt = performance.now()
    }
    const message = { unanswered: jobs.length }
    const requests = jobs.map((job) => this.take(job, message))
    this.messages += 1
    this.port.postMessage({ requests, forget: this.forgotten } satisfies protocol.Message)
    this.forgotten = []
    this.wake()
  }

  private wake(): void {
    Atomics.add(this.words, Word.Posted, 1)
    Atomics.notify(this.words, Word.Posted)
    Atomics.notify(this.words, Word.Taken)
  }

  /** Takes a request back that has not begun; it is `queued` again. */
  withdraw(job: Job): boolean {
    if (job.status === "sent" && protocol.claim(this.words, job.slot, Claim.Withdrawn)) {
      job.status = "queued"
      job.thread = undefined
      this.pending.get(job.slot)!.job = undefined
      return true
    }
    return false
  }

  /** Has a running read, a wait for a lock or the sending of rows stop. */
  cancel(job: Job): void {
    protocol.cancel(this.words, job.slot)
  }

  /** The requests that were sent and have not begun. */
  waiting(): ReadonlyArray<Job> {
    return this.jobsIn(Claim.Sent)
  }

  /** The requests that were begun and not answered; of a reader the last is the one that runs. */
  running(): ReadonlyArray<Job> {
    return [Claim.Begun, Claim.Committing, Claim.Cancelled].flatMap((state) => this.jobsIn(state))
  }

  private jobsIn(state: number): ReadonlyArray<Job> {
    return Array.from(this.pending.entries()).flatMap(([slot, { job }]) =>
      job !== undefined && protocol.state(this.words, slot) === state ? [job] : []
    )
  }

  forget(id: number): void {
    if (this.known.delete(id)) {
      this.forgotten.push(id)
      this.names.delete(id)
    }
  }

  /** Closes the connection after all that was sent, and ends the thread. */
  finish(): void {
    Atomics.store(this.words, Word.Closing, protocol.Closing.Soon)
    this.send([makeJob({ op: "end" }, () => {})])
  }

  /**
   * Ends the thread after what runs now; what has not begun does not begin. Not by `Worker.terminate`: where a native call fails meanwhile,
   * the driver aborts the whole process.
   */
  stop(): void {
    Atomics.store(this.words, Word.Closing, protocol.Closing.Now)
    this.wake()
  }

  /** Lets go of a thread whose native call does not return: nobody waits for it any more. */
  abandon(): void {
    if (this.worker instanceof Worker) {
      this.worker.unref()
    }
    this.port.close()
    this.pending.forEach(({ job }) => job !== undefined && settle(job, threadDied("its statement does not end")))
  }

  private take(job: Job, message: Sent["message"]): readonly [number, protocol.Request] {
    while (this.pending.has(this.nextSlot)) {
      this.nextSlot = (this.nextSlot + 1) % protocol.slots
    }
    const slot = this.nextSlot
    this.nextSlot = (slot + 1) % protocol.slots
    job.thread = this
    job.slot = slot
    job.status = "sent"
    job.seenAt = 0
    this.pending.set(slot, { job, message })
    protocol.mark(this.words, slot, Claim.Sent)
    return [slot, this.withText(job)]
  }

  /** The text of a statement, where the thread does not know it yet. */
  private withText(job: Job): protocol.Request {
    const { request, text } = job
    if (!protocol.isStatement(request) || text === undefined || this.known.has(text.id)) {
      return request
    }
    this.known.add(text.id)
    const [id, , params, flags] = request
    return [id, text.sql, params, flags]
  }

  private receive(replies: protocol.Replies): void {
    this.activeAt = performance.now()
    for (const [slot, reply] of replies) {
      if (slot === protocol.nobody) {
        this.state = !protocol.isRows(reply) && reply.is === "opened" ? "open" : this.state
        this.identity = !protocol.isRows(reply) && reply.is === "opened" ? reply.identity : undefined
        this.resolveOpened(
          !protocol.isRows(reply) && reply.is === "failed"
            ? fromWire(reply.error, "Failed to open the database")
            : undefined
        )
      } else {
        this.reply(slot, reply)
      }
    }
    this.events.onAnswers(this)
  }

  private reply(slot: number, reply: protocol.Reply): void {
    const sent = this.pending.get(slot)
    if (sent === undefined) {
      return
    }
    const { job, message } = sent
    if (!protocol.isRows(reply) && reply.is === "more") {
      this.learn(job, reply.rows)
      if (job !== undefined && job.status !== "settled") {
        this.build(job, reply.rows)
      }
      if (job === undefined || protocol.isStatement(job.request) || job.request.op !== "pull") {
        Atomics.add(this.words, Word.Taken, 1)
        Atomics.notify(this.words, Word.Taken)
        return
      }
      job.answer.isOpen = true
    }
    this.pending.delete(slot)
    this.messages -= --message.unanswered === 0 ? 1 : 0
    protocol.mark(this.words, slot, Claim.Free)
    if (job === undefined) {
      return
    }
    job.thread = undefined
    if (protocol.isRows(reply)) {
      this.learn(job, reply)
      if (job.status !== "settled") {
        this.build(job, reply)
      }
      return settle(job, job.answer)
    }
    switch (reply.is) {
      case "done":
        job.answer.changes = reply.changes
        job.answer.lastInsertRowid = reply.lastInsertRowid
        break
      case "bytes":
        job.answer.bytes = reply.bytes
        break
      case "failed":
        return settle(job, fromWire(reply.error))
      case "cancelled":
        return settle(job, threadDied("it was interrupted"))
      case "writes": {
        if (this.isLeased) {
          return settle(job, reply.error === undefined ? readonly() : fromWire(reply.error))
        }
        job.status = "queued"
        if (reply.error === undefined && job.text !== undefined) {
          remember(job.text)
        }
        return this.events.onWrites(job, reply.error === undefined ? undefined : fromWire(reply.error))
      }
    }
    settle(job, job.answer)
  }

  /** Names are told once, also with an answer that nobody waits for any more. */
  private learn(job: Job | undefined, [, names]: protocol.Rows): void {
    if (job !== undefined && names !== undefined) {
      job.names = names
      if (job.text !== undefined) {
        this.names.set(job.text.id, names)
      }
    }
  }

  private build(job: Job, [rows, , hasBlobs]: protocol.Rows): void {
    if (hasBlobs) {
      rows.forEach(restoreBlobs)
    }
    job.answer.isRows = true
    if (job.isValues) {
      append(job.answer, rows)
    } else {
      const columns = job.names ?? (job.text === undefined ? [] : this.names.get(job.text.id) ?? [])
      append(job.answer, rows.map((row) => toObject(columns, row)))
    }
  }

  /** Settles all that was under way, by what the slots say. */
  private end(): void {
    for (let received = receiveMessageOnPort(this.port); received; received = receiveMessageOnPort(this.port)) {
      this.receive(received.message as protocol.Replies)
    }
    this.state = "ended"
    this.port.close()
    const why = this.failure?.message ?? "it was stopped"
    this.resolveOpened(threadDied(why))
    const again: Array<Job> = []
    for (const [slot, { job }] of this.pending) {
      if (job === undefined || job.status !== "sent") {
        continue
      }
      job.thread = undefined
      switch (protocol.state(this.words, slot)) {
        case Claim.Sent:
          // What belongs to a lease or to this connection runs nowhere else.
          if (this.isLeased || !protocol.isStatement(job.request)) {
            settle(job, threadDied(why))
          } else {
            job.status = "queued"
            again.push(job)
          }
          break
        case Claim.Committing:
          settle(job, outcomeUnknown(why))
          break
        default: {
          const isOutOfMemory = this.failure !== undefined && "code" in this.failure &&
            this.failure.code === "ERR_WORKER_OUT_OF_MEMORY"
          if (job.isRead && job.deaths === 0 && !isOutOfMemory && !this.isLeased) {
            job.deaths += 1
            job.status = "queued"
            job.answer = emptyAnswer()
            again.push(job)
          } else {
            settle(job, threadDied(why))
          }
        }
      }
    }
    this.pending.clear()
    this.events.onEnd(this, why, again)
  }
}

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

const restoreBlobs = (row: Array<protocol.Value>) => {
  for (let i = 0; i < row.length; i++) {
    const value = row[i]
    if (value instanceof Uint8Array) {
      row[i] = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    }
  }
}

const append = (answer: Answer, rows: Array<unknown>) => {
  if (answer.rows.length === 0) {
    answer.rows = rows
  } else {
    for (const row of rows) {
      answer.rows.push(row)
    }
  }
}

const toObject = (names: ReadonlyArray<string>, row: ReadonlyArray<protocol.Value>): Record<string, protocol.Value> => {
  const object: Record<string, protocol.Value> = {}
  for (let i = 0; i < names.length; i++) {
    object[names[i]!] = row[i]!
  }
  return object
}

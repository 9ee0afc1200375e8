/**
 * Requests that are asked for at the same time, by any fibers, leave together.
 *
 * There is no time window: a request that finds nothing under way leaves at the end of its turn, and those that come while as much is under
 * way as may be leave together when an answer has come. What has left takes no one in any more, so that every answer was
 * read after it was asked for, and nothing is remembered. Who waits for that is bound by the client's limits as who waits in the client is.
 *
 * A batch is no caller's child: whoever is interrupted harms nobody. It enters the client by its door where there is one and nobody looks; otherwise
 * it runs on a fiber of its own, with the context of its first caller.
 */
import { DatabaseError } from "../DatabaseError.js"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import type * as Tracer from "effect/Tracer"
import type { Limits } from "./door.js"
import { isTransformed } from "./fiber.js"
import { Fifo } from "./fifo.js"

/** Somebody's request. */
export class Asked<Value, Answer> {
  /** Others of the same key in its batch, in the order of asking. */
  others: Array<Asked<Value, Answer>> | undefined = undefined
  status: "waiting" | "left" | "withdrawn" = "waiting"
  /** How many had asked before. */
  number = 0
  /** The time of the turn in which it asked. */
  askedAt = 0
  /** That of the moment of asking: whoever was interrupted may be elsewhere by now, perhaps in a transaction. */
  readonly context: Context.Context<never>

  /** Whether its caller sees the statement. */
  readonly isWatched: boolean

  constructor(
    readonly key: string,
    readonly value: Value,
    readonly fiber: Fiber.RuntimeFiber<unknown, unknown>,
    /** Where its caller is traced. */
    readonly span: Tracer.Span | undefined,
    /** Called once it was answered; of those with one key in a batch `isFirst` is the one that was asked for first. */
    readonly settle: (exit: Exit.Exit<Answer, DatabaseError>, isFirst: boolean) => void
  ) {
    this.context = fiber.currentContext
    this.isWatched = span !== undefined || isTransformed(fiber)
  }

  /** Nobody waits for the answer. */
  get isAbandoned(): boolean {
    return this.status === "withdrawn" || this.fiber.unsafePoll() !== null
  }
}

export interface BatchesOptions<Value, Answer> {
  /** The name of a batch's span. */
  readonly name: string
  /** So many keys leave together. */
  readonly maxSize: number
  /** So many batches are under way. */
  readonly maxUnderWay: number
  /** What waits beyond them fails. */
  readonly limits: Limits | undefined
  /** Answers values of different keys, in their order. */
  readonly run: (values: ReadonlyArray<Value>) => Effect.Effect<ReadonlyArray<Answer>, DatabaseError>
  /**
   * The same without a fiber, where the client has a way. `settle` is called once: with nothing where `run` may do better. Answers what
   * interrupts it.
   */
  readonly send?:
    | ((values: ReadonlyArray<Value>, settle: (exit: Answers<Answer> | undefined) => void) => () => void)
    | undefined
}

type Answers<Answer> = Exit.Exit<ReadonlyArray<Answer>, DatabaseError>

/** Requests of different keys that are under way together. */
interface Batch<Value, Answer> {
  readonly asked: ReadonlyArray<Asked<Value, Answer>>
  /** How many had asked when it left. */
  readonly number: number
  /** Once it has left. */
  interrupt: (() => void) | undefined
}

/** How often those who wait for too many batches under way look whether any is still wanted (ms). */
const checkInterval = 50

/** Fewer leave alone only where fewer wait. */
const minSize = 32

export class Batches<Value, Answer> {
  private readonly waiting = new Fifo<Asked<Value, Answer>>()
  /** An array, since a Set's old tables keep what was in them until a full collection. */
  private readonly underWay: Array<Batch<Value, Answer>> = []
  private count = 0
  /** When the last turn began in which somebody asked. */
  private turnAt = 0
  private isDue = false
  private check: NodeJS.Timeout | undefined

  private readonly maxWaiting: number
  private readonly timeout: number
  /** The same for all, since refusing must be cheap. */
  private readonly full: Exit.Exit<never, DatabaseError>

  constructor(private readonly options: BatchesOptions<Value, Answer>) {
    this.maxWaiting = options.limits?.maxQueue ?? Number.POSITIVE_INFINITY
    this.timeout = options.limits?.acquireTimeout ?? Number.POSITIVE_INFINITY
    this.full = Exit.fail(queueFull(this.maxWaiting))
  }

  add(asked: Asked<Value, Answer>): void {
    if (this.waiting.length >= this.maxWaiting + this.room) {
      return asked.settle(this.full, true)
    }
    this.schedule()
    asked.number = this.count++
    asked.askedAt = this.turnAt
    this.waiting.push(asked)
  }

  /** So many leave at the end of the turn: they do not wait for anybody. */
  private get room(): number {
    return this.options.maxSize * (this.options.maxUnderWay - this.underWay.length)
  }

  /** At the end of the turn: fibers that were resumed meanwhile have asked again by then. */
  private schedule(): void {
    if (!this.isDue) {
      this.isDue = true
      this.turnAt = performance.now()
      queueMicrotask(this.leave)
    }
  }

  private readonly leave = (): void => {
    this.isDue = false
    this.expire()
    while (this.underWay.length < this.options.maxUnderWay && this.waiting.length > 0) {
      const asked = this.take()
      if (asked.length > 0) {
        this.start(asked)
      }
    }
    if (this.waiting.length > 0) {
      this.check ??= setTimeout(this.dropUnwanted, checkInterval).unref()
    }
  }

  /** Refuses those that have waited for too long. */
  private expire(): void {
    const oldest = performance.now() - this.timeout
    if ((this.waiting.peek()?.askedAt ?? oldest) < oldest) {
      this.refuseWhile(({ askedAt }) => askedAt < oldest, Cause.fail(waitedTooLong(this.timeout)))
    }
  }

  /** A batch whose callers were all interrupted keeps nobody waiting, and who was interrupted takes nobody's place. */
  private readonly dropUnwanted = (): void => {
    this.check = undefined
    if (this.waiting.length >= this.maxWaiting + this.room) {
      this.waiting.retain((asked) => !asked.isAbandoned)
    }
    this.underWay
      .filter(({ asked }) => asked.every((first) => allOf(first).every((one) => one.isAbandoned)))
      .forEach(({ interrupt }) => interrupt?.())
    this.leave()
  }

  /** Half of what waits, so that another batch is made while this one runs; in the order of asking, each key once. */
  private take(): ReadonlyArray<Asked<Value, Answer>> {
    const size = Math.min(this.options.maxSize, Math.max(minSize, Math.ceil(this.waiting.length / 2)))
    const batch = new Map<string, Asked<Value, Answer>>()
    for (let asked = this.waiting.peek(); asked !== undefined; asked = this.waiting.peek()) {
      const same = batch.get(asked.key)
      if (same === undefined && batch.size === size) {
        break
      }
      this.waiting.shift()
      if (asked.isAbandoned) {
        continue
      }
      asked.status = "left"
      if (same === undefined) {
        batch.set(asked.key, asked)
      } else {
        ;(same.others ??= []).push(asked)
      }
    }
    return Array.from(batch.values())
  }

  private start(asked: ReadonlyArray<Asked<Value, Answer>>): void {
    const batch: Batch<Value, Answer> = { asked, number: this.count, interrupt: undefined }
    const { send } = this.options
    this.underWay.push(batch)
    if (send === undefined || asked.some((first) => allOf(first).some(({ isWatched }) => isWatched))) {
      return this.fork(batch)
    }
    const interrupt = send(
      asked.map(({ value }) => value),
      (exit) => exit === undefined ? this.fork(batch) : this.settle(batch, exit)
    )
    batch.interrupt ??= interrupt
  }

  /** With the context of the first who asked. */
  private fork(batch: Batch<Value, Answer>): void {
    const { context, fiber } = batch.asked[0]!
    const runtime = Runtime.make({
      context,
      // Its caller may be interrupted, the batch is not.
      fiberRefs: FiberRefs.delete(fiber.getFiberRefs(), FiberRef.interruptedCause),
      runtimeFlags: Runtime.defaultRuntimeFlags
    })
    const running = Runtime.runFork(runtime)(this.traced(batch.asked))
    // Not assigned where it is written: V8 would allot it among the old, where it kept all that it reaches until a full collection.
    const interrupt = () => running.unsafeInterruptAsFork(FiberId.none)
    batch.interrupt = interrupt
    running.addObserver((exit) => this.settle(batch, exit))
  }

  private settle(batch: Batch<Value, Answer>, exit: Answers<Answer>): void {
    this.underWay.splice(this.underWay.indexOf(batch), 1)
    batch.asked.forEach((first, i) => {
      const answer = Exit.isSuccess(exit) ? Exit.succeed(exit.value[i] as Answer) : Exit.failCause(exit.cause)
      first.settle(answer, true)
      first.others?.forEach((one) => one.settle(answer, false))
    })
    if (Exit.isFailure(exit) && isRefusal(exit.cause)) {
      this.refuse(batch.number, exit.cause)
    }
    this.schedule()
  }

  /** Where a batch has waited for a connection in vain, so have those that waited already when it left. */
  private refuse(number: number, cause: Cause.Cause<DatabaseError>): void {
    this.refuseWhile((asked) => asked.number < number, cause)
  }

  private refuseWhile(
    isRefused: (asked: Asked<Value, Answer>) => boolean,
    cause: Cause.Cause<DatabaseError>
  ): void {
    for (let asked = this.waiting.peek(); asked !== undefined && isRefused(asked); asked = this.waiting.peek()) {
      this.waiting.shift()
      if (!asked.isAbandoned) {
        asked.status = "left"
        asked.settle(Exit.failCause(cause), true)
      }
    }
  }

  /** Linked with the spans of those that it serves. */
  private traced(asked: ReadonlyArray<Asked<Value, Answer>>) {
    const run = this.options.run(asked.map(({ value }) => value))
    const spans = asked.flatMap(allOf).flatMap(({ span }) => span ?? [])
    if (spans.length === 0) {
      return run
    }
    const links = spans.map((span) => linkTo(span))
    return Effect.withSpan(
      Effect.tap(Effect.orDie(Effect.currentSpan), (span) => spans.forEach((one) => one.addLinks([linkTo(span)]))).pipe(
        Effect.zipRight(run)
      ),
      this.options.name,
      { root: true, links, captureStackTrace: false }
    )
  }
}

/** All that asked for the same. */
const allOf = <Value, Answer>(first: Asked<Value, Answer>): ReadonlyArray<Asked<Value, Answer>> =>
  first.others === undefined ? [first] : [first, ...first.others]

const refusal = (message: string) =>
  new DatabaseError({ reason: "ConnectionError", operation: "acquireConnection", message })

const queueFull = (limit: number) => refusal(`The repository refuses more work: ${limit} calls are waiting already.`)

const waitedTooLong = (milliseconds: number) =>
  refusal(`The calls before this one took longer than ${milliseconds} ms. Is more asked than the database can answer?`)

const isRefusal = (cause: Cause.Cause<DatabaseError>): boolean =>
  Option.exists(Cause.failureOption(cause), ({ operation }) => operation === "acquireConnection")

const linkTo = (span: Tracer.Span): Tracer.SpanLink => ({ _tag: "SpanLink", span, attributes: {} })

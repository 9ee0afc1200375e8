/**
 * Requests that are asked for at the same time, by any fibers, leave together.
 *
 * There is no time window: a request that finds nothing under way leaves at the end of its turn, and those that come while as much is under
 * way as may be leave together when an answer has come. What has left takes no one in any more, so that every answer was
 * read after it was asked for, and nothing is remembered.
 *
 * A batch runs on a fiber of its own, with the context of its first caller: whoever is interrupted harms nobody.
 */
import type { DatabaseError } from "../DatabaseError.js"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Runtime from "effect/Runtime"
import * as Tracer from "effect/Tracer"

/** Somebody's request. */
export class Asked<Value, Answer> {
  /** The next of the same key in its batch. */
  next: Asked<Value, Answer> | undefined = undefined
  status: "waiting" | "left" | "withdrawn" = "waiting"
  /** That of the moment of asking: whoever was interrupted may be elsewhere by now, perhaps in a transaction. */
  readonly context: Context.Context<never>

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
  /** Answers a batch: values of different keys. A key without an answer of its own gets `otherwise`. */
  readonly run: (values: ReadonlyArray<Value>) => Effect.Effect<ReadonlyMap<string, Answer>, DatabaseError>
  readonly otherwise: (value: Value) => Answer
}

/** How often those who wait for too many batches under way look whether any is still wanted (ms). */
const checkInterval = 50

/** Fewer leave alone only where fewer wait. */
const minSize = 64

export class Batches<Value, Answer> {
  private waiting: Array<Asked<Value, Answer>> = []
  private first = 0
  private readonly underWay = new Map<Fiber.RuntimeFiber<unknown, unknown>, ReadonlyArray<Asked<Value, Answer>>>()
  private isDue = false
  private check: NodeJS.Timeout | undefined

  constructor(private readonly options: BatchesOptions<Value, Answer>) {}

  add(asked: Asked<Value, Answer>): void {
    this.waiting.push(asked)
    this.schedule()
  }

  /** At the end of the turn: fibers that were resumed meanwhile have asked again by then. */
  private schedule(): void {
    if (!this.isDue) {
      this.isDue = true
      queueMicrotask(this.leave)
    }
  }

  private readonly leave = (): void => {
    this.isDue = false
    while (this.underWay.size < this.options.maxUnderWay && this.first < this.waiting.length) {
      const batch = this.take()
      if (batch.size > 0) {
        this.start(batch)
      }
    }
    if (this.first < this.waiting.length) {
      this.check ??= setTimeout(this.dropUnwanted, checkInterval).unref()
    }
  }

  /** A batch whose callers were all interrupted keeps nobody waiting. */
  private readonly dropUnwanted = (): void => {
    this.check = undefined
    for (const [fiber, asked] of this.underWay) {
      if (asked.flatMap(chain).every((one) => one.isAbandoned)) {
        fiber.unsafeInterruptAsFork(FiberId.none)
      }
    }
    this.leave()
  }

  /** Half of what waits, so that another batch is made while this one runs; in the order of asking, each key once. */
  private take(): Map<string, Asked<Value, Answer>> {
    const half = Math.ceil((this.waiting.length - this.first) / 2)
    const size = Math.min(this.options.maxSize, Math.max(minSize, half))
    const batch = new Map<string, Asked<Value, Answer>>()
    const last = new Map<string, Asked<Value, Answer>>()
    for (; this.first < this.waiting.length; this.first++) {
      const asked = this.waiting[this.first]!
      if (asked.isAbandoned) {
        continue
      }
      const same = batch.has(asked.key)
      if (!same && batch.size === size) {
        break
      }
      asked.status = "left"
      if (same) {
        ;(last.get(asked.key) ?? batch.get(asked.key)!).next = asked
        last.set(asked.key, asked)
      } else {
        batch.set(asked.key, asked)
      }
    }
    if (this.first === this.waiting.length) {
      this.waiting = []
      this.first = 0
    } else if (this.first > 1_000 && this.first > this.waiting.length / 2) {
      this.waiting = this.waiting.slice(this.first)
      this.first = 0
    }
    return batch
  }

  private start(batch: ReadonlyMap<string, Asked<Value, Answer>>): void {
    const asked = Array.from(batch.values())
    const { context, fiber } = asked[0]!
    const runtime = Runtime.make({
      context,
      // Its caller may be interrupted, the batch is not.
      fiberRefs: FiberRefs.delete(fiber.getFiberRefs(), FiberRef.interruptedCause),
      runtimeFlags: Runtime.defaultRuntimeFlags
    })
    const running = Runtime.runFork(runtime)(this.traced(asked))
    this.underWay.set(running, asked)
    running.addObserver((exit) => {
      this.underWay.delete(running)
      for (const first of asked) {
        const answer = this.answerTo(first, exit)
        for (let one: Asked<Value, Answer> | undefined = first; one !== undefined; one = one.next) {
          one.settle(answer, one === first)
        }
      }
      this.schedule()
    })
  }

  private answerTo(
    { key, value }: Asked<Value, Answer>,
    exit: Exit.Exit<ReadonlyMap<string, Answer>, DatabaseError>
  ): Exit.Exit<Answer, DatabaseError> {
    return Exit.map(exit, (answers) => answers.get(key) ?? this.options.otherwise(value))
  }

  /** Linked with the spans of those that it serves. */
  private traced(asked: ReadonlyArray<Asked<Value, Answer>>) {
    const run = this.options.run(asked.map(({ value }) => value))
    if (asked.every((first) => chain(first).every(({ span }) => span === undefined))) {
      return run
    }
    const spans = asked.flatMap(chain).flatMap(({ span }) => span ?? [])
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
const chain = <Value, Answer>(first: Asked<Value, Answer>): ReadonlyArray<Asked<Value, Answer>> =>
  first.next === undefined ? [first] : [first, ...chain(first.next)]

const linkTo = (span: Tracer.Span): Tracer.SpanLink => ({ _tag: "SpanLink", span, attributes: {} })

const nativeTracer = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** Whether somebody looks at spans. Effect's own tracer makes them for nobody. */
export const isTraced = (fiber: Fiber.RuntimeFiber<unknown, unknown>): boolean =>
  Context.unsafeGet(fiber.currentDefaultServices, Tracer.Tracer) !== nativeTracer &&
  fiber.getFiberRef(FiberRef.currentTracerEnabled)

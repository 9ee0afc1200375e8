/** Calls that come at a rate whether or not earlier ones were answered, as users do, and what became of them. */
import { type Cause, Effect, Exit } from "effect"
import { createHistogram } from "node:perf_hooks"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

// That of a program: with Vitest's each refusal takes the time of several answers.
Error.stackTraceLimit = 10

/** The `i`th call. */
export type Call = (i: number) => Effect.Effect<unknown, unknown>

/** Begins a call at once; cheap, since who makes the load shares a processor with who bears it. `settled` may be called before it returns. */
const begin = (call: Effect.Effect<unknown, unknown>, settled: (exit: Exit.Exit<unknown, unknown>) => void) => {
  Effect.runFork(call).addObserver(settled)
}

/** How many calls are served a second where always `underWay` of them are under way (a closed loop). */
export const capacityOf = (call: Call, underWay: number, milliseconds: number): Effect.Effect<number> =>
  Effect.async<number>((resume) => {
    const start = performance.now()
    // What is under way at first has to be served before its rate can be told.
    const warm = start + milliseconds / 4
    const end = start + milliseconds
    let open = 0
    let asked = 0
    let served = 0
    const next = (): void => {
      open++
      begin(call(asked++), (exit) => {
        const now = performance.now()
        open--
        if (Exit.isFailure(exit)) {
          return resume(Effect.failCause(exit.cause).pipe(Effect.orDie))
        }
        served += now >= warm && now < end ? 1 : 0
        if (now < end) {
          next()
        } else if (open === 0) {
          resume(Effect.succeed(served / (end - warm) * 1000))
        }
      })
    }
    for (let i = 0; i < underWay; i++) {
      next()
    }
  })

/** Times in milliseconds. */
export interface Told {
  readonly asked: number
  readonly served: number
  /** What the refused ones failed with, each of them. */
  readonly failures: Map<string, number>
  /** While they came. */
  readonly askedPerSecond: number
  readonly servedPerSecond: number
  /** Of those that were served. */
  readonly mostUnderWay: number
  /** Of those that were served: how many older ones one of them has passed. */
  readonly mostPassed: number
  readonly refusal: { readonly median: number; readonly p999: number; readonly most: number }
  readonly serving: { readonly median: number; readonly most: number }
  /** From the last call until all were settled. */
  readonly drained: number
}

/** How often calls are begun (ms). */
const tick = 2

/** Begins so many calls a second (an open loop) for so long, and waits until all are settled. `describe` names a failure. */
export const offer = (
  call: Call,
  { milliseconds, perSecond }: { readonly perSecond: number; readonly milliseconds: number },
  describe: (cause: Cause.Cause<unknown>) => string
): Effect.Effect<Told> =>
  Effect.async<Told>((resume) => {
    const refusal = createHistogram()
    const serving = createHistogram()
    const failures = new Map<string, number>()
    const start = performance.now()
    /** Those that were served, by when they were asked for, in the order of their answers. */
    const order: Array<number> = []
    /** How many had asked when each of them was answered. */
    const answeredAt: Array<number> = []
    let [asked, servedInTime, settled] = [0, 0, 0]
    let over: number | undefined

    const ask = () => {
      const askedAt = performance.now()
      const i = asked++
      begin(call(i), (exit) => {
        const elapsed = Math.max(1, Math.round((performance.now() - askedAt) * 1e6))
        settled++
        if (Exit.isSuccess(exit)) {
          order.push(i)
          answeredAt.push(asked)
          servedInTime += over === undefined ? 1 : 0
          serving.record(elapsed)
        } else {
          const what = describe(exit.cause)
          failures.set(what, (failures.get(what) ?? 0) + 1)
          refusal.record(elapsed)
        }
        if (over !== undefined && settled === asked) {
          done(over)
        }
      })
    }

    const timer = setInterval(() => {
      const now = performance.now()
      const due = Math.floor(Math.min(now - start, milliseconds) / 1000 * perSecond)
      for (let missing = due - asked; missing > 0; missing--) {
        ask()
      }
      if (now - start >= milliseconds) {
        clearInterval(timer)
        over = performance.now()
        if (settled === asked) {
          done(over)
        }
      }
    }, tick)

    const done = (over: number) => {
      const seconds = (over - start) / 1000
      const ms = (nanoseconds: number) => nanoseconds / 1e6
      resume(Effect.succeed({
        asked,
        served: order.length,
        failures,
        askedPerSecond: asked / seconds,
        servedPerSecond: servedInTime / seconds,
        mostUnderWay: mostAtOnce(order, answeredAt, asked),
        mostPassed: mostPassed(order),
        refusal: { median: ms(refusal.percentile(50)), p999: ms(refusal.percentile(99.9)), most: ms(refusal.max) },
        serving: { median: ms(serving.percentile(50)), most: ms(serving.max) },
        drained: performance.now() - over
      }))
    }
  })

/** How many were under way at most, of those that began and ended at such places. */
const mostAtOnce = (begun: ReadonlyArray<number>, ended: ReadonlyArray<number>, places: number): number => {
  const changes = new Int32Array(places + 1)
  begun.forEach((place) => changes[place]!++)
  ended.forEach((place) => changes[place]!--)
  let [most, current] = [0, 0]
  for (const change of changes) {
    current += change
    most = Math.max(most, current)
  }
  return most
}

/** How many older ones one of them has passed, at most. One whose thread is at rest may be passed by any number. */
export const mostPassed = (order: ReadonlyArray<number>): number => {
  const turns = new Map(order.toSorted((a, b) => a - b).map((call, turn) => [call, turn]))
  return order.reduce((most, call, place) => Math.max(most, turns.get(call)! - place), 0)
}

/** The median of how long calls take that are made one after the other (ms). */
export const latencyOf = (call: Call, calls: number): Effect.Effect<number, unknown> =>
  Effect.gen(function*() {
    const elapsed: Array<number> = []
    for (let i = 0; i < calls; i++) {
      const start = performance.now()
      yield* call(i)
      elapsed.push(performance.now() - start)
    }
    return elapsed.toSorted((a, b) => a - b)[calls >> 1]!
  })

setFlagsFromString("--expose-gc")

const gc = runInNewContext("gc") as () => void

/** What is alive (bytes). */
export const heapUsed: Effect.Effect<number> = Effect.sleep(100).pipe(
  Effect.map(() => {
    gc()
    gc()
    return process.memoryUsage().heapUsed
  })
)

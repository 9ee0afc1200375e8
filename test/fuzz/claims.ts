/** Claims on inputs that are drawn: a fuzzer is inputs, and a claim that holds of each of them. */
import { Effect, FastCheck, Runtime } from "effect"
import { type Figures } from "../trials.js"

/** A claim is false of an input for which this throws, fails, dies, is interrupted or does not settle. */
export type Claim<A, R = never> = (input: A) => void | Effect.Effect<unknown, unknown, R>

/** So long an input may take that is answered in milliseconds. */
const deadline = "60 seconds"

/** So long a smaller input is looked for that fails too (ms). */
const shrinkTime = 10_000

const check = <A, R>(
  inputs: FastCheck.Arbitrary<A>,
  claim: Claim<A, R>,
  parameters: FastCheck.Parameters<[A]>
) =>
  Effect.flatMap(Effect.runtime<R>(), (runtime) => {
    const settled = (input: A) => {
      const outcome = claim(input)
      return outcome === undefined ? undefined : Runtime.runPromise(runtime)(
        Effect.timeoutFail(outcome, { duration: deadline, onTimeout: () => new Error("it does not settle") })
      )
    }
    const property = FastCheck.asyncProperty(inputs, async (input) => void await settled(input))
    // A pause for whoever else uses the event loop: a claim that waits for nothing leaves none.
    return Effect.zipRight(Effect.sleep(1), Effect.promise(() => FastCheck.check(property, parameters)))
  })

/** The claim holds of `count` inputs, which are those of the seed; it dies with the smallest one that was found of which it is false. */
export const holds = <A, R>(
  inputs: FastCheck.Arbitrary<A>,
  claim: Claim<A, R>,
  seed: number,
  count: number
): Effect.Effect<Figures, never, R> =>
  Effect.gen(function*() {
    const found = yield* check(inputs, claim, { seed, numRuns: count, endOnFailure: true })
    if (!found.failed) {
      return { inputs: count }
    }
    const path = found.counterexamplePath
    const shrunk = yield* check(inputs, claim, {
      seed,
      ...(path === null ? {} : { path }),
      endOnFailure: false,
      interruptAfterTimeLimit: shrinkTime
    })
    const details = shrunk.failed ? shrunk : found
    return yield* Effect.die(
      new Error(FastCheck.defaultReportMessage(details) ?? "an input fails", { cause: details.errorInstance })
    )
  })

/** The first of as many inputs as a run of `npm run test:faults` draws of which the claim is false. */
export const counterexample = <A, R>(
  inputs: FastCheck.Arbitrary<A>,
  claim: Claim<A, R>,
  count: number
): Effect.Effect<A | undefined, never, R> =>
  Effect.map(
    check(inputs, claim, { seed: 0, numRuns: count, endOnFailure: true }),
    (details) => details.counterexample?.[0]
  )

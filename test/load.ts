/** Writers and readers that go on while a fault happens, and what each of them was told. */
import { assert } from "@effect/vitest"
import { Avatar, type AvatarRepository, DatabaseError } from "effect-avatars"
import { Cause, Clock, Effect, Either, Exit, Fiber, Option } from "effect"

/** What was told to those who wrote and read. Times are in milliseconds since the load began. */
export interface Told {
  /** Of each write that was acknowledged, its login. */
  readonly acknowledged: ReadonlyArray<Avatar.Login>
  readonly writeFailures: ReadonlyArray<Failure>
  readonly lookups: number
  readonly lookupFailures: ReadonlyArray<Failure>
  /** Of users whose creation had been acknowledged before they were asked for. */
  readonly notFound: ReadonlyArray<Avatar.Login>
  /** What is no `DatabaseError`. */
  readonly defects: ReadonlyArray<string>
  readonly longestCall: number
  /** The longest time in which no write was acknowledged, and no lookup answered. */
  readonly longestPause: number
}

export interface Failure {
  readonly at: number
  readonly error: DatabaseError.DatabaseError
}

/**
 * Runs the fault under load, waits until everybody has been served after it, and answers what everybody was told. The fault can wait until
 * everybody has been told something, be it a failure: nobody's call hangs.
 */
export const underLoad = <E, R>(
  users: AvatarRepository.Service,
  options: { readonly writers: number; readonly readers: number; readonly prefix: string },
  fault: (everybodyIsTold: Effect.Effect<void>) => Effect.Effect<void, E, R>
): Effect.Effect<Told, E, R> =>
  Effect.gen(function*() {
    const begin = yield* Clock.currentTimeMillis
    const acknowledged: Array<Avatar.Login> = []
    const notFound: Array<Avatar.Login> = []
    const defects: Array<string> = []
    const writeFailures: Array<Failure> = []
    const lookupFailures: Array<Failure> = []
    let lookups = 0
    let longestCall = 0
    let longestPause = 0
    let last = begin
    const state = { isOver: false }
    const served = Array.from({ length: options.writers + options.readers }, () => 0)
    const told = served.slice()

    /** Makes a call, and rests a moment where it failed, as a program would. */
    const call = <A>(
      caller: number,
      effect: Effect.Effect<A, { readonly _tag: string }>,
      failures: Array<Failure>,
      onSuccess: (value: A) => void
    ) =>
      Effect.gen(function*() {
        const start = yield* Clock.currentTimeMillis
        const exit = yield* Effect.exit(effect)
        const end = yield* Clock.currentTimeMillis
        longestCall = Math.max(longestCall, end - start)
        told[caller]!++
        if (Exit.isSuccess(exit)) {
          longestPause = Math.max(longestPause, end - last)
          last = end
          served[caller]!++
          onSuccess(exit.value)
        } else {
          const error = Cause.failureOption(exit.cause)
          if (Option.isSome(error) && error.value instanceof DatabaseError.DatabaseError) {
            failures.push({ at: end - begin, error: error.value })
          } else {
            defects.push(Cause.pretty(exit.cause))
          }
          yield* Effect.sleep("20 millis")
        }
      })

    const writer = (name: number) =>
      Effect.gen(function*() {
        for (let i = 0; !state.isOver; i++) {
          const login = Avatar.Login.make(`${options.prefix}-${name}-${i}`)
          const avatar = new Avatar.Avatar({ login, name: `Name of ${login}`, forname: "" })
          yield* call(name, users.create(avatar), writeFailures, () => void acknowledged.push(login))
        }
      })

    const reader = (name: number) =>
      Effect.gen(function*() {
        for (let i = 0; !state.isOver; i++) {
          const login = acknowledged[(i * 7919 + name * 104_729) % Math.max(acknowledged.length, 1)]
          if (login === undefined) {
            yield* Effect.sleep("1 millis")
          } else {
            yield* call(name, users.findUserAvatar(login), lookupFailures, (found) => {
              lookups++
              if (Option.isNone(found)) {
                notFound.push(login)
              }
            })
          }
        }
      })

    const fibers = yield* Effect.forEach(
      served,
      (_, i) => Effect.fork(i < options.writers ? writer(i) : reader(i))
    )
    /** Waits until each of them has counted some more. */
    const until = (counts: ReadonlyArray<number>) =>
      Effect.suspend(() => {
        const before = counts.slice()
        const isEnough = () => counts.every((count, i) => count >= before[i]! + 3)
        return Effect.asVoid(Effect.repeat(Effect.sleep("10 millis"), { until: isEnough }))
      })
    yield* until(served)
    yield* fault(until(told))
    yield* until(served)
    state.isOver = true
    yield* Fiber.joinAll(fibers)
    return {
      acknowledged,
      writeFailures,
      lookups,
      lookupFailures,
      notFound,
      defects,
      longestCall,
      longestPause
    }
  })

/** What holds whatever the fault: nothing but typed failures, and everything that was acknowledged is there. */
export const assertKept = (users: AvatarRepository.Service, told: Told) =>
  Effect.gen(function*() {
    assert.deepStrictEqual(told.defects, [])
    assert.deepStrictEqual(told.notFound, [])
    const found = yield* users.getUserAvatars(told.acknowledged)
    const lost = told.acknowledged.filter((login) => {
      const avatar = found.get(login)
      return avatar === undefined || Either.isLeft(avatar) || avatar.right.name !== `Name of ${login}`
    })
    assert.deepStrictEqual(lost, [])
  })

/** For a person who looks at the tests' output. */
export const show = (what: string, told: Told): void =>
  console.log(`${what}: ${
    JSON.stringify({
      acknowledged: told.acknowledged.length,
      lookups: told.lookups,
      failedWrites: byReason(told.writeFailures),
      failedLookups: byReason(told.lookupFailures),
      longestCall: told.longestCall,
      longestPause: told.longestPause
    })
  }`)

const byReason = (failures: ReadonlyArray<Failure>) => {
  const counts: Record<string, number> = {}
  for (const { error: { code, operation, reason } } of failures) {
    const key = [reason, operation, code].filter((part) => part !== undefined).join(" ")
    counts[key] = (counts[key] ?? 0) + 1
  }
  return counts
}

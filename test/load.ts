/** Writers, readers and others who go on while a fault happens, and what they were told. */
import { assert } from "@effect/vitest"
import { Avatar, type AvatarRepository, DatabaseError } from "effect-avatars"
import { Cause, Chunk, Effect, Either, Exit, Fiber, Option } from "effect"

/** What callers of one kind were told; times in milliseconds. */
export interface Tally {
  succeeded: number
  readonly failures: Array<DatabaseError.DatabaseError>
  /** The longest time in which none of them succeeded. */
  pause: number
  /** The longest of their calls. */
  longest: number
}

export interface Told {
  readonly writes: Tally
  readonly lookups: Tally
  readonly others: Tally
  /** The logins of those whose creation was acknowledged. */
  readonly acknowledged: ReadonlyArray<Avatar.Login>
  /** Those of them that a lookup did not find, which was asked for afterwards. */
  readonly notFound: ReadonlyArray<Avatar.Login>
  /** What is no `DatabaseError`. */
  readonly defects: ReadonlyArray<string>
  /** From the beginning of the fault until everybody had been served again (ms). */
  readonly recovery: number
}

/** How often one of them was told something, was served, and failed. */
interface Caller {
  told: number
  served: number
  failed: number
}

export interface Load {
  readonly writers: number
  readonly readers: number
  /** What logins begin with. */
  readonly prefix: string
  /** What others do again and again. */
  readonly others?: ReadonlyArray<Effect.Effect<unknown, DatabaseError.DatabaseError>>
}

/**
 * Runs the fault under load, waits until everybody has been served after it, and answers what everybody was told. The fault can wait until
 * everybody has been told something, or has failed: nobody's call hangs.
 */
export const underLoad = <E, R>(
  users: AvatarRepository.Service,
  { others = [], prefix, readers, writers }: Load,
  fault: (everybody: (is: keyof Caller) => Effect.Effect<void>) => Effect.Effect<void, E, R>
): Effect.Effect<Told, E, R> =>
  Effect.gen(function*() {
    const acknowledged: Array<Avatar.Login> = []
    const notFound: Array<Avatar.Login> = []
    const defects: Array<string> = []
    const state = { isOver: false }
    const callers: Array<Caller> = []

    /** Makes its calls one after the other, and rests a moment where one has failed, as a program would. */
    const begin = (tally: ReturnType<typeof makeTally>, next: (i: number) => Effect.Effect<unknown, unknown>) => {
      const caller = { told: 0, served: 0, failed: 0 }
      callers.push(caller)
      return Effect.gen(function*() {
        for (let i = 0; !state.isOver; i++) {
          const start = performance.now()
          const exit = yield* Effect.exit(next(i))
          tally.settled(start, exit)
          caller.told++
          if (Exit.isSuccess(exit)) {
            caller.served++
          } else {
            caller.failed++
            const failures = Chunk.toReadonlyArray(Cause.failures(exit.cause))
            if (failures.length === 0 || !failures.every((error) => error instanceof DatabaseError.DatabaseError)) {
              defects.push(Cause.pretty(exit.cause))
            }
            yield* Effect.sleep("20 millis")
          }
        }
      }).pipe(Effect.fork)
    }

    const create = (writer: number) => (i: number) => {
      const login = Avatar.Login.make(`${prefix}-${writer}-${i}`)
      const avatar = new Avatar.Avatar({ login, name: nameOf(login), forname: "" })
      return Effect.map(users.create(avatar), () => void acknowledged.push(login))
    }

    const find = (reader: number) => (i: number) => {
      const login = acknowledged[(i * 7919 + reader * 104_729) % acknowledged.length]
      return login === undefined
        ? Effect.sleep("1 millis")
        : Effect.map(users.findUserAvatar(login), (found) => Option.isNone(found) && notFound.push(login))
    }

    /** Waits until each of them has been so once more; not by what was under way. */
    const everybody = (is: keyof Caller) =>
      Effect.suspend(() => {
        const before = callers.map((caller) => caller[is])
        const isEnough = () => callers.every((caller, i) => caller[is] > before[i]! + 1)
        return Effect.asVoid(Effect.repeat(Effect.sleep("10 millis"), { until: isEnough }))
      })

    const writes = makeTally()
    const lookups = makeTally()
    const rest = makeTally()
    const fibers = yield* Effect.all([
      ...Array.from({ length: writers }, (_, i) => begin(writes, create(i))),
      ...Array.from({ length: readers }, (_, i) => begin(lookups, find(i))),
      ...others.map((other) => begin(rest, () => other))
    ])
    yield* everybody("served")
    const start = performance.now()
    yield* fault(everybody)
    yield* everybody("served")
    const recovery = Math.round(performance.now() - start)
    state.isOver = true
    yield* Fiber.joinAll(fibers)
    return {
      writes: writes.tally,
      lookups: lookups.tally,
      others: rest.tally,
      acknowledged,
      notFound,
      defects,
      recovery
    }
  })

const nameOf = (login: string) => `Name of ${login}`

const makeTally = () => {
  const tally: Tally = { succeeded: 0, failures: [], pause: 0, longest: 0 }
  let last = performance.now()
  const settled = (start: number, exit: Exit.Exit<unknown, unknown>) => {
    const now = performance.now()
    tally.longest = Math.max(tally.longest, Math.round(now - start))
    if (Exit.isSuccess(exit)) {
      tally.succeeded++
      tally.pause = Math.max(tally.pause, Math.round(now - last))
      last = now
    } else {
      for (const error of Cause.failures(exit.cause)) {
        if (error instanceof DatabaseError.DatabaseError) {
          tally.failures.push(error)
        }
      }
    }
  }
  return { tally, settled }
}

/** What holds whatever the fault: nothing but typed failures, and everything that was acknowledged is there. */
export const assertKept = (users: AvatarRepository.Service, { acknowledged, defects, notFound }: Told) =>
  Effect.gen(function*() {
    assert.deepStrictEqual(defects, [])
    assert.deepStrictEqual(notFound, [])
    assert.isAbove(acknowledged.length, 0)
    const found = yield* users.getUserAvatars(acknowledged)
    const lost = acknowledged.filter((login) => {
      const avatar = found.get(login)
      return avatar === undefined || Either.isLeft(avatar) || avatar.right.name !== nameOf(login)
    })
    assert.deepStrictEqual(lost, [])
  })

/** For a person who looks at the tests' output. */
export const show = (what: string, { lookups, others, recovery, writes }: Told): void => {
  const summary = ({ failures, ...tally }: Tally) => ({ ...tally, failed: failures.length, ...byReason(failures) })
  const some = others.succeeded + others.failures.length > 0 ? { others: summary(others) } : {}
  console.log(`${what}: ${JSON.stringify({ recovery, writes: summary(writes), lookups: summary(lookups), ...some })}`)
}

const byReason = (failures: ReadonlyArray<DatabaseError.DatabaseError>) => {
  const counts: Record<string, number> = {}
  for (const { code, operation, reason } of failures) {
    const key = [reason, operation, code].filter((part) => part !== undefined).join(" ")
    counts[key] = (counts[key] ?? 0) + 1
  }
  return counts
}

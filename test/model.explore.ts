/** Random programs on an engine, and the smallest one that fails. */
import { Cause, Duration, Effect, Exit, FastCheck, Logger, Runtime, Scope } from "effect"
import type { SqlitePool } from "effect-avatars"
import { type Program, programs } from "./model.commands.js"
import { type Db, type Engine, openSession, type Session } from "./model.engines.js"
import { shrinking } from "./model.shrink.js"
import { check, type Counts, zero } from "./model.run.js"

export interface Exploration {
  readonly counts: Counts
  /** What the programs found: the smallest one that fails, if one does. */
  readonly found: FastCheck.RunDetails<[Program]>
}

/** Longer than any program takes; one that is not over by then hangs. */
const patience = Duration.seconds(60)

const hangs = "it hangs"

/**
 * Runs programs, all of one seed, on one database that stays open while none hangs. `wrap` stands before the repository.
 * MODEL_SEED and MODEL_PATH, of a failure's report, make the same programs again.
 */
export const explore = (
  engine: Engine,
  options: {
    readonly seed: number
    readonly runs: number
    readonly wrap?: (db: Db) => Effect.Effect<Db>
  }
): Effect.Effect<Exploration, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { runs, wrap = Effect.succeed } = options
    const runtime = yield* Effect.runtime<Scope.Scope>()
    const counts: { -readonly [name in keyof Counts]: number } = { ...zero }
    const scope = yield* Effect.scope
    let session: Session | undefined
    let id = 0
    const attempt = (program: Program) =>
      Effect.gen(function*() {
        session ??= yield* Scope.extend(openSession(engine, wrap), scope)
        yield* check(session, program, id++, counts)
      }).pipe(
        Effect.disconnect,
        Effect.timeoutFail({ duration: patience, onTimeout: () => hangs }),
        Effect.tapErrorCause((cause) => {
          if (session === undefined || (Cause.isFailure(cause) && !Cause.contains(cause, Cause.fail(hangs)))) {
            return Effect.void
          }
          const { close } = session
          session = undefined
          return Effect.ignore(Effect.timeout(Effect.disconnect(close), "10 seconds"))
        })
      )
    const { MODEL_PATH, MODEL_SEED } = process.env
    const found = yield* Effect.promise(() =>
      FastCheck.check(
        FastCheck.asyncProperty(shrinking(programs(engine.able)), async (program) => {
          const exit = await Runtime.runPromiseExit(runtime)(attempt(program))
          if (Exit.isFailure(exit)) {
            throw new Error(String(exit.cause))
          }
        }),
        {
          numRuns: runs,
          seed: MODEL_SEED === undefined ? options.seed : Number(MODEL_SEED),
          ...(MODEL_PATH === undefined ? {} : { path: MODEL_PATH }),
          // Shrinking what fails by chance only would not end.
          interruptAfterTimeLimit: 300_000
        }
      )
    )
    if (session !== undefined) {
      if (engine.able.snapshots) {
        yield* Effect.repeat((session.db.sql as SqlitePool.SqlitePool).stats, {
          until: ({ pending, readers, writer }) => pending + readers.leased + writer.leased === 0
        })
      }
      yield* session.close
    }
    return { counts, found }
  }).pipe(Effect.provide(silently))

/** Of each death there is a warning. */
const silently = Logger.remove(Logger.defaultLogger)

/** The same, which has to find nothing. */
export const holds = (engine: Engine, options: { readonly seed: number; readonly runs: number }) =>
  Effect.map(explore(engine, options), ({ counts, found }) => {
    if (found.failed || found.interrupted) {
      throw new Error(FastCheck.defaultReportMessage(found) ?? "it took too long")
    }
    return counts
  })

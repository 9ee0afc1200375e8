/**
 * `withTransaction` as it should be, whatever the engine.
 *
 * - Waiting for a connection and for BEGIN can be interrupted; what was acquired meanwhile is given back.
 * - A failing BEGIN, COMMIT or savepoint is a typed `SqlError`. Where the effect itself failed, its failure is what the caller sees,
 *   and a failing ROLLBACK is logged.
 * - A transaction inside a transaction is a savepoint. Savepoints are a stack, so that siblings run one after the other.
 * - A transaction belongs to one client: statements of another client inside it go to the other client.
 */
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { fromSqlError } from "../DatabaseError.js"

/** Makes an effect as interruptible as the caller is, inside a region that is not. */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** A transaction or a savepoint in it. */
export interface Level {
  readonly connection: Connection
  readonly depth: number
  /** Opens a savepoint in it, when its siblings have ended. */
  readonly child: (restore: Restore) => Effect.Effect<Level, SqlError>
  /** COMMIT or RELEASE; where it fails, everything of this level is undone. */
  readonly succeed: Effect.Effect<void, SqlError>
  /** ROLLBACK, or to the savepoint. */
  readonly fail: Effect.Effect<void, SqlError>
  /** Gives back what opening it took; runs last, once. */
  readonly close: Effect.Effect<void>
}

interface Entry {
  readonly owner: object
  readonly level: Level
  /** What was current when it was opened: perhaps a transaction of another client, which goes on. */
  readonly outer: Entry | undefined
}

/** Levels by their connection: how a client knows whose transaction it is in. */
const levels = new WeakMap<Connection, Entry>()

const entryIn = (context: Context.Context<never>): Entry | undefined => {
  const transaction = Context.getOption(context, SqlClient.TransactionConnection)
  return Option.isSome(transaction) ? levels.get(transaction.value[0]) : undefined
}

/** The level of this owner (a pool) that statements run in, if any. */
export const currentLevel = (owner: object, context: Context.Context<never>): Level | undefined => {
  let entry = entryIn(context)
  while (entry !== undefined && entry.owner !== owner) {
    entry = entry.outer
  }
  return entry?.level
}

/** Remembers whose a level is. */
export const register = (owner: object, level: Level): Effect.Effect<Level> =>
  Effect.withFiberRuntime((fiber) => {
    levels.set(level.connection, { owner, level, outer: entryIn(fiber.currentContext) })
    return Effect.succeed(level)
  })

export const makeWithTransaction = (options: {
  readonly spanAttributes: ReadonlyArray<readonly [string, unknown]>
  /** The level that this client's statements run in, if any. */
  readonly current: (context: Context.Context<never>) => Level | undefined
  /** Opens a transaction. Runs uninterruptibly but for what it restores. */
  readonly begin: (restore: Restore) => Effect.Effect<Level, SqlError>
}) =>
<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SqlError, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.useSpan(
      "sql.transaction",
      { kind: "client", captureStackTrace: false },
      (span) =>
        Effect.withFiberRuntime<A, E | SqlError, R>((fiber) => {
          options.spanAttributes.forEach(([key, value]) => span.attribute(key, value))
          const context = fiber.currentContext
          const clock = Context.get(fiber.currentDefaultServices, Clock.Clock)
          const event = (name: string) => span.event(`db.transaction.${name}`, clock.unsafeCurrentTimeNanos())
          const parent = options.current(context)
          return Effect.flatMap(parent === undefined ? options.begin(restore) : parent.child(restore), (level) =>
            Effect.locally(
              restore(effect),
              FiberRef.currentContext,
              Context.add(context, SqlClient.TransactionConnection, [level.connection, level.depth]).pipe(
                Context.add(Tracer.ParentSpan, span)
              )
            ).pipe(
              Effect.exit,
              Effect.flatMap((exit) => {
                if (Exit.isSuccess(exit)) {
                  event(level.depth === 0 ? "commit" : "savepoint")
                  return Effect.zipRight(level.succeed, exit)
                }
                event("rollback")
                return Effect.zipRight(Effect.catchAll(level.fail, logRollback), exit)
              }),
              Effect.ensuring(level.close)
            ))
        })
    )
  )

/** Without its cause, which may hold SQL or somebody's data. */
const logRollback = (error: SqlError) =>
  Effect.logWarning("A transaction could not be rolled back", fromSqlError(error, "rollbackTransaction"))

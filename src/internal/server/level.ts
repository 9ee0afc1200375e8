/** Transactions on a connection to a server, and the savepoints in them. */
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import type * as Scope from "effect/Scope"
import { fromSqlError } from "../../DatabaseError.js"
import { failure } from "../failure.js"
import type { Level, Restore } from "../transaction.js"
import { register } from "../transaction.js"
import { Turn } from "../turn.js"
import { makeConnection } from "./connection.js"
import type { ServerPool } from "./pool.js"
import type { Ask, Run, Session } from "./session.js"
import type { Kind } from "./statement.js"
import { runOn } from "./statement.js"

/** What the levels of a transaction share. */
interface Transaction {
  readonly session: Session
  /** Why the server has ended it by itself: whatever would follow would be committed alone. */
  failure: SqlError | undefined
  /** The failure after which PostgreSQL refuses every statement but ROLLBACK. */
  aborted: SqlError | undefined
}

interface LevelOptions {
  readonly pool: ServerPool
  readonly transaction: Transaction
  readonly depth: number
  readonly kind: Kind
  readonly succeed: (run: Run) => Effect.Effect<unknown, SqlError>
  readonly fail: (run: Run) => Effect.Effect<unknown, SqlError>
  readonly close: Effect.Effect<void>
}

const ended = () =>
  failure("ConnectionError", "execute", "The connection was given back: its transaction or scope has ended.")

const waited = (milliseconds: number) =>
  failure(
    "ConnectionError",
    "acquireConnection",
    `A statement of a transaction waited ${milliseconds} ms for its turn. Does a transaction inside it, or a stream, wait for it?`
  )

const control = (sql: string): Ask => ({ sql, params: [], form: "control" })

/** A level of a transaction: one statement, one stream or one child at a time; what comes later waits. */
const makeLevel = (options: LevelOptions): Effect.Effect<Level> => {
  const { depth, kind, pool, transaction } = options
  const { acquireTimeout } = pool.settings
  const turn = new Turn(acquireTimeout, () => waited(acquireTimeout))
  let isEnded = false

  const now = (ask: Ask): Effect.Effect<unknown, SqlError> =>
    Effect.suspend(() =>
      transaction.failure === undefined
        ? Effect.mapError(runOn(pool, transaction.session, ask, kind), (error) => {
          if (transaction.session.isBroken || pool.engine.endsTransaction(error)) {
            transaction.failure = error
          }
          // Whoever passed the first failure over learns of it now.
          return isAborted(error) ? transaction.aborted ?? error : (transaction.aborted = error)
        })
        : Effect.fail(transaction.failure)
    )

  const inTurn = <A>(use: (restore: Restore) => Effect.Effect<A, SqlError>, restore: Restore) =>
    Effect.flatMap(
      turn.take(restore),
      () => Effect.ensuring(Effect.suspend(() => isEnded ? Effect.fail(ended()) : use(restore)), turn.release)
    )

  const run: Run = (ask) => Effect.uninterruptibleMask((restore) => inTurn((restore) => restore(now(ask)), restore))

  const stream = Effect.fnUntraced(function*(ask: Ask) {
    const { cursor } = pool.engine
    if (cursor !== undefined) {
      return yield* cursor(ask, run)
    }
    yield* Effect.uninterruptibleMask((restore) =>
      Effect.zipRight(turn.take(restore), Effect.addFinalizer(() => turn.release))
    )
    return isEnded ? yield* Effect.fail(transaction.failure ?? ended()) : transaction.session.stream(ask)
  })

  /** The last word of this level, after all that has its turn before. */
  const end = (statements: (run: Run) => Effect.Effect<unknown, SqlError>): Effect.Effect<void, SqlError> =>
    Effect.flatMap(Effect.exit(turn.take(identity)), (exit) => {
      isEnded = true
      return Exit.isSuccess(exit)
        ? Effect.ensuring(Effect.asVoid(statements(now)), turn.release)
        : Exit.asVoid(exit)
    })

  const child = (restore: Restore): Effect.Effect<Level, SqlError> =>
    Effect.flatMap(turn.take(restore), () => {
      const name = `effect_sql_${depth + 1}`
      const release = control(`RELEASE SAVEPOINT ${name}`)
      // Where the server has ended the whole transaction, nothing is left to undo.
      const undo = (run: Run) =>
        Effect.suspend(() =>
          transaction.failure === undefined
            ? Effect.zipRight(Effect.map(run(control(`ROLLBACK TO SAVEPOINT ${name}`)), mended), run(release))
            : Effect.void
        )
      const mended = () => void (transaction.aborted = undefined)
      const open = Effect.suspend(() => isEnded ? Effect.fail(ended()) : now(control(`SAVEPOINT ${name}`)))
      return Effect.flatMap(
        Effect.onError(open, () => turn.release),
        () =>
          makeLevel({
            pool,
            transaction,
            depth: depth + 1,
            kind,
            succeed: (run) => Effect.tapError(run(release), () => Effect.ignore(undo(run))),
            fail: undo,
            close: turn.release
          })
      )
    })

  return register(pool, {
    connection: makeConnection(run, stream),
    depth,
    child,
    succeed: end(options.succeed),
    fail: end(options.fail),
    close: options.close
  })
}

/** A transaction on a connection of its own. */
export const begin = (pool: ServerPool) => (restore: Restore): Effect.Effect<Level, SqlError> =>
  Effect.flatMap(pool.take(restore), (session) => {
    const transaction: Transaction = { session, failure: undefined, aborted: undefined }
    const close = Effect.sync(() => pool.give(session))
    // A connection that could not be rolled back is given to nobody.
    const rollback = Effect.suspend(() =>
      session.isBroken
        ? Effect.void
        : Effect.zipRight(runOn(pool, session, control("ROLLBACK"), "inTransaction"), settled)
    )
    const settled = Effect.sync(() => session.isDirty = false)
    session.isDirty = true
    return restore(runOn(pool, session, control(pool.engine.begin), "inTransaction")).pipe(
      Effect.onError(() => Effect.zipRight(Effect.ignore(rollback), close)),
      Effect.flatMap(() =>
        makeLevel({
          pool,
          transaction,
          depth: 0,
          kind: "inTransaction",
          succeed: () =>
            Effect.zipRight(Effect.tapError(commit(pool, transaction), () => Effect.ignore(rollback)), settled),
          fail: () => rollback,
          close
        })
      )
    )
  })

/** The server says how it ended: PostgreSQL answers COMMIT by ROLLBACK where a statement of the transaction had failed. */
const commit = (pool: ServerPool, transaction: Transaction): Effect.Effect<void, SqlError> =>
  Effect.suspend(() =>
    transaction.failure === undefined
      ? Effect.flatMap(runOn(pool, transaction.session, { ...control("COMMIT"), form: "raw" }, "commit"), (answer) =>
        (answer as { readonly command?: string }).command === "ROLLBACK"
          ? Effect.fail(why(transaction.aborted))
          : Effect.void)
      : Effect.fail(transaction.failure)
  )

/** One that may not fail another time is told as it was, so that the transaction can be done again. */
const why = (aborted: SqlError | undefined): SqlError =>
  aborted !== undefined && fromSqlError(aborted).isRetryable ? aborted : rolledBack

const isAborted = (error: SqlError): boolean => fromSqlError(error).code === "25P02"

const rolledBack = failure(
  "UnknownError",
  "commitTransaction",
  "The transaction was rolled back: a statement in it had failed, and nothing is stored.",
  undefined,
  "25P02"
)

/** A transaction for the scope: committed where it succeeds. */
export const scopedTransaction = (pool: ServerPool): Effect.Effect<Run, SqlError, Scope.Scope> =>
  Effect.map(
    Effect.uninterruptibleMask((restore) =>
      Effect.tap(begin(pool)(restore), (level) =>
        Effect.addFinalizer((exit) =>
          Effect.ensuring(Effect.ignore(Exit.isFailure(exit) ? level.fail : level.succeed), level.close)
        ))
    ),
    (level) =>
      runOf(level.connection)
  )

const runOf = (connection: Connection): Run => (ask) => connection.executeRaw(ask.sql, ask.params)

/** A connection for the scope. */
export const scopedSession = (pool: ServerPool): Effect.Effect<Session, SqlError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.tap(pool.take(restore), (session) => Effect.addFinalizer(() => Effect.sync(() => pool.give(session))))
  )

/**
 * A connection for the scope, on which everything may run. Afterwards it is closed: nobody gets what was changed on
 * it.
 */
export const reserve = (pool: ServerPool): Effect.Effect<Connection, SqlError, Scope.Scope> =>
  Effect.flatMap(scopedSession(pool), (session) => {
    session.isSpent = true
    return Effect.map(
      makeLevel({
        pool,
        transaction: { session, failure: undefined, aborted: undefined },
        depth: 0,
        kind: "alone",
        succeed: () => Effect.void,
        fail: () => Effect.void,
        close: Effect.void
      }),
      ({ connection }) => connection
    )
  })

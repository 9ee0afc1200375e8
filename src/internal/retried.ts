/** A whole transaction, run again where it lost against another one. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import { DatabaseError, fromSqlError } from "../DatabaseError.js"

export const retried = <A, E, R>(
  sql: SqlClient.SqlClient,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | DatabaseError, R> => {
  const attempt: Effect.Effect<A, Failed<E>, R> = Effect.mapError(
    sql.withTransaction(Effect.mapError(effect, (error): Failed<E> => ({ error, says: saidBy(error) }))),
    (failed) => "says" in failed ? failed : ofTransaction(failed)
  )
  return Effect.mapError(
    Effect.flatMap(
      Effect.serviceOption(SqlClient.TransactionConnection),
      (outer) => Option.isSome(outer) ? attempt : Effect.retry(attempt, { schedule, while: mayHelp })
    ),
    ({ error }) => error
  )
}

/** The caller's own failure as it is, or one of the transaction; and what the database said. */
interface Failed<E> {
  readonly error: E | DatabaseError
  readonly says: DatabaseError | undefined
}

const saidBy = (error: unknown): DatabaseError | undefined =>
  error instanceof DatabaseError
    ? error
    : Predicate.isTagged(error, "SqlError")
    ? fromSqlError(error as SqlError)
    : undefined

const ofTransaction = (error: SqlError): Failed<never> => {
  const says = fromSqlError(error, "commitTransaction")
  return { error: says, says }
}

const mayHelp = ({ says }: Failed<unknown>): boolean =>
  says !== undefined && says.isRetryable && says.outcome !== "unknown" && says.operation !== "acquireConnection"

const schedule = Schedule.intersect(
  Schedule.jitteredWith(Schedule.union(Schedule.exponential("10 millis"), Schedule.spaced("1 second")), {
    min: 0.5,
    max: 1.5
  }),
  Schedule.recurs(10)
)

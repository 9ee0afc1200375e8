/** A row of the table `users`, and how statements on it are run: typed, and reads tried again. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { DatabaseError, fromSqlError } from "../DatabaseError.js"

/** As it stands in the table: perhaps no avatar. */
export interface Row {
  readonly login: unknown
  readonly name: unknown
  readonly forname: unknown
}

export const notStored = () =>
  new DatabaseError({
    reason: "UniqueViolation",
    operation: "execute",
    message: "The database did not store the user: its table takes the login for that of another user."
  })

export const typed = Effect.mapError((error: SqlError) => fromSqlError(error))

const retries = Schedule.intersect(
  Schedule.jittered(Schedule.union(Schedule.exponential("20 millis"), Schedule.spaced("500 millis"))),
  Schedule.recurs(4)
)

/** A read alone may be repeated; inside a transaction the whole transaction has to be. */
export const read = <A>(statement: Effect.Effect<A, SqlError>): Effect.Effect<A, DatabaseError> =>
  Effect.retry(typed(statement), {
    schedule: retries,
    while: (error) =>
      error.isRetryable && error.operation !== "acquireConnection"
        ? Effect.map(Effect.serviceOption(SqlClient.TransactionConnection), Option.isNone)
        : Effect.succeed(false)
  })

/** Those rows whose login is wanted, exactly: a column's collation may take others for equal. */
export const only = (wanted: Iterable<string>, rows: ReadonlyArray<Row>): ReadonlyArray<Row> => {
  const logins = new Set<unknown>(wanted)
  return rows.filter(({ login }) => logins.has(login))
}

/**
 * The door by which statements of this package enter a client of ours: a callback where `@effect/sql` has a statement, a span and a scope. They are
 * queued, sent, interrupted and timed out as all others are; what they lack is what a caller would see of them.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type * as Effect from "effect/Effect"

/** How many may wait for a connection, and for how long (ms). */
export interface Limits {
  readonly maxQueue: number
  readonly acquireTimeout: number
}

export interface Door {
  /** What also holds for those who wait until they enter. */
  readonly limits: Limits

  /**
   * Reads at most about a thousand rows outside any transaction. `settle` is called once, with the values of all rows, one after the
   * other. What is answered has the read stop, if it can, and settles it as failed; nobody need see that.
   *
   * A batch is not refused because too many wait: those whom it serves have waited for each other, within the same limit.
   */
  readonly read: (
    sql: string,
    params: ReadonlyArray<unknown>,
    settle: (error: SqlError | undefined, values: ReadonlyArray<unknown>) => void,
    isBatch?: boolean
  ) => () => void

  /** An INSERT, UPDATE or DELETE that shares its transaction with others that wait: how many rows it changed. Where writes are grouped. */
  readonly write?: (sql: string, params: ReadonlyArray<unknown>) => Effect.Effect<number, SqlError>
}

const doors = new WeakMap<SqlClient, Door>()

/** That of a client which is one of ours, itself. */
export const doorOf = (client: SqlClient): Door | undefined => doors.get(client)

export const openDoor = (client: SqlClient, door: Door): void => {
  doors.set(client, door)
}

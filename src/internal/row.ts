/** A row of the table `users`, and how statements on it are run: typed, and reads tried again. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import type { Avatar } from "../Avatar.js"
import { DatabaseError, fromSqlError } from "../DatabaseError.js"
import type { Door } from "./door.js"
import type { Users } from "./users.js"

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

/** Looks logins up through a door, once: what is worth repeating is left to others. */
export const sender = (
  door: Door,
  ask: (wanted: ReadonlyArray<string>) => readonly [sql: string, params: ReadonlyArray<unknown>],
  foundIn: (wanted: ReadonlyArray<string>, values: ReadonlyArray<unknown>) => ReadonlyArray<Row | undefined>
): NonNullable<Users["sendMany"]> =>
(wanted, settle) => {
  const [sql, params] = ask(wanted)
  return door.read(sql, params, (failure, values) => {
    if (failure === undefined) {
      return settle(Exit.succeed(foundIn(wanted, values)))
    }
    const error = fromSqlError(failure)
    settle(isWorthRepeating(error) ? undefined : Exit.fail(error))
  }, true)
}

/** Rows in the order of the logins, from triples of a login, a name and a forname. */
export const foundByLogin = (wanted: ReadonlyArray<string>, values: ReadonlyArray<unknown>) => {
  const rows: Array<Row> = []
  for (let i = 0; i < values.length; i += 3) {
    rows.push({ login: values[i], name: values[i + 1], forname: values[i + 2] })
  }
  return inOrder(wanted, rows)
}

const retries = Schedule.intersect(
  Schedule.jittered(Schedule.union(Schedule.exponential("20 millis"), Schedule.spaced("500 millis"))),
  Schedule.recurs(4)
)

/** What a pool itself refuses fails fast. */
export const isWorthRepeating = (error: DatabaseError) => error.isRetryable && error.operation !== "acquireConnection"

/** A read alone may be repeated; inside a transaction the whole transaction has to be. */
export const read = <A>(statement: Effect.Effect<A, SqlError>): Effect.Effect<A, DatabaseError> =>
  Effect.retry(typed(statement), {
    schedule: retries,
    while: (error) =>
      isWorthRepeating(error)
        ? Effect.map(Effect.serviceOption(SqlClient.TransactionConnection), Option.isNone)
        : Effect.succeed(false)
  })

/** Those rows whose login is wanted, exactly: a column's collation may take others for equal. */
export const only = (wanted: Iterable<string>, rows: ReadonlyArray<Row>): ReadonlyArray<Row> => {
  const logins = new Set<unknown>(wanted)
  return rows.filter(({ login }) => logins.has(login))
}

/** The same rows in the order of the logins. */
export const inOrder = (
  wanted: ReadonlyArray<string>,
  rows: ReadonlyArray<Row>
): ReadonlyArray<Row | undefined> => {
  const found = new Map(rows.map((row) => [row.login, row] as const))
  return wanted.map((login) => found.get(login))
}

/**
 * The logins that a statement inserted, in a transaction: a trigger may refuse one row and keep those before it. Nothing, and nothing is
 * stored, where one of them is not of the avatars.
 */
export const insertedOnly = (
  sql: SqlClient.SqlClient,
  avatars: ReadonlyArray<Avatar>,
  inserted: Effect.Effect<ReadonlyArray<Row>, SqlError>
): Effect.Effect<ReadonlyArray<string> | undefined, DatabaseError> => {
  const wanted = new Set<unknown>(avatars.map(({ login }) => login))
  return sql.withTransaction(Effect.flatMap(inserted, (rows) =>
    rows.every(({ login }) => wanted.has(login))
      ? Effect.succeed(rows.map(({ login }) => String(login)))
      : Effect.fail(unmatched))).pipe(
      // A stock client dies of a rollback for which SQLite has left nothing to undo.
      Effect.catchSomeDefect((defect) =>
        Predicate.isTagged(defect, "SqlError") ? Option.some(Effect.fail(unmatched)) : Option.none()
      ),
      Effect.catchIf((error) => error === unmatched, () => Effect.succeed(undefined)),
      Effect.mapError((error) => fromSqlError(error as SqlError))
    )
}

const unmatched = "unmatched"

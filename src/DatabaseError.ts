/**
 * What can go wrong in any database, as data: one flat error that says the same for SQLite, PostgreSQL, MySQL and MariaDB.
 *
 * It holds no `cause` on purpose: loggers print causes, and a driver's message can hold the SQL or a user's data. What it
 * holds can be shown, logged and sent to another process. What it leaves out is which statement failed: the span of the
 * statement tells.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as codes from "./internal/errorCodes.js"

/**
 * Why a database refused, in the vocabulary of Effect 4's `SqlError`.
 *
 * - `ConnectionError`: it could not be opened or reached, or no connection was to be had
 * - `AuthenticationError`: it does not accept who asks
 * - `AuthorizationError`: who asks may not do that; also a database that is read-only
 * - `SqlSyntaxError`: the SQL is not valid, or names a table or a column that is not there
 * - `UniqueViolation`: a value that must be unique is taken
 * - `ConstraintError`: another rule of the schema is broken, or a value does not fit its type
 * - `DeadlockError`, `SerializationError`: the transaction lost against another one
 * - `LockTimeoutError`: another connection held a lock for too long
 * - `StatementTimeoutError`: the statement was stopped
 * - `UnknownError`: everything else, for example a full disk or a damaged file
 *
 * @since 0.1.0
 * @category models
 */
export const Reason = Schema.Literal(...codes.reasons)

/**
 * @since 0.1.0
 * @category models
 */
export type Reason = typeof Reason.Type

/**
 * What was being done when it failed.
 *
 * @since 0.1.0
 * @category models
 */
export const Operation = Schema.Literal(
  "connect",
  "acquireConnection",
  "execute",
  "beginTransaction",
  "commitTransaction",
  "rollbackTransaction"
)

/**
 * @since 0.1.0
 * @category models
 */
export type Operation = typeof Operation.Type

const retryable: ReadonlySet<Reason> = new Set<Reason>([
  "ConnectionError",
  "DeadlockError",
  "SerializationError",
  "LockTimeoutError",
  "StatementTimeoutError"
])

/**
 * A database refused or failed.
 *
 * - `reason`: why, the same on every engine
 * - `operation`: what was being done
 * - `code`: the engine's own word for it: an SQLite result code (`SQLITE_BUSY`), an SQLSTATE (`40001`), a MySQL or MariaDB
 *   number (`1213`), a network error (`ECONNREFUSED`)
 * - `constraint`: the broken rule as the engine names it (`users.login`), where it does
 * - `outcome`: `"unknown"` where nobody can tell whether a write was made; absent where it is certain that it was not
 * - `message`: one sentence for a person, without SQL and without data
 *
 * @since 0.1.0
 * @category errors
 */
export class DatabaseError extends Schema.TaggedError<DatabaseError>("effect-avatars/DatabaseError")("DatabaseError", {
  reason: Reason,
  operation: Operation,
  code: Schema.optional(Schema.Union(Schema.String, Schema.Number)),
  constraint: Schema.optional(Schema.String),
  outcome: Schema.optional(Schema.Literal("unknown")),
  message: Schema.String
}) {
  /**
   * Whether the same may succeed when it is tried again: true for `ConnectionError`, `DeadlockError`, `SerializationError`,
   * `LockTimeoutError` and `StatementTimeoutError`. What was part of a transaction is tried again as a whole transaction. A
   * write whose `outcome` is `"unknown"` may be made twice by trying again.
   *
   * @since 0.1.0
   */
  get isRetryable(): boolean {
    return retryable.has(this.reason)
  }
}

/**
 * Classifies what a driver of `@effect/sql` failed with, by the code that the engine gave; the whole table, a line a code, is
 * `src/internal/errorCodes.ts`. Anything that carries no known code is an `UnknownError`. Never throws.
 *
 * `operation` is what the caller was doing; the default is `"execute"`. A `DatabaseError` inside the `SqlError` is answered as
 * it is.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromSqlError = (error: SqlError, operation: Operation = "execute"): DatabaseError =>
  fromUnknown(error.cause, { operation, subject: subjects[operation] })

/**
 * The same for anything that a driver may throw; `subject` begins the sentence and must name no data.
 *
 * @internal
 */
export const fromUnknown = (
  thrown: unknown,
  options: { readonly operation: Operation; readonly subject: string }
): DatabaseError => {
  for (const cause of causes(thrown)) {
    if (cause instanceof DatabaseError) {
      return cause
    }
    const found = classify(cause)
    if (found !== undefined) {
      const [code, [, reason, says = codes.says[reason]]] = found
      const constraint = constraintOf(cause)
      return new DatabaseError({
        reason,
        operation: options.operation,
        code,
        ...(constraint === undefined ? {} : { constraint }),
        ...(unknownOutcomes.has(code) ? { outcome: "unknown" as const } : {}),
        message: `${options.subject}: ${says} (${code}${constraint === undefined ? "" : `, ${constraint}`}).`
      })
    }
  }
  return new DatabaseError({
    reason: "UnknownError",
    operation: options.operation,
    message: `${options.subject}: ${codes.says.UnknownError}.`
  })
}

const subjects: Record<Operation, string> = {
  connect: "The database could not be opened",
  acquireConnection: "No connection to the database was to be had",
  execute: "The database did not run the statement",
  beginTransaction: "The transaction could not begin",
  commitTransaction: "The transaction could not be committed",
  rollbackTransaction: "The transaction could not be rolled back"
}

const unknownOutcomes: ReadonlySet<string | number> = new Set(["08007", "40003"])

const maxCauses = 8

/** The error and what it wraps, outermost first: some libraries wrap the driver's error in one of their own. */
function* causes(thrown: unknown): Iterable<object> {
  let cause = thrown
  for (let depth = 0; depth < maxCauses && typeof cause === "object" && cause !== null; depth++) {
    yield cause
    cause = "cause" in cause ? cause.cause : undefined
  }
}

const lookup = (rows: ReadonlyArray<codes.Row>): ReadonlyMap<string | number, codes.Row> =>
  new Map(rows.map((row) => [row[0], row]))

const sqlite = lookup(codes.sqlite)
const postgres = lookup(codes.postgres)
const mysql = lookup(codes.mysql)
const network = lookup(codes.network)

const classify = (cause: object): readonly [code: string | number, row: codes.Row] | undefined => {
  const code = "code" in cause ? cause.code : undefined
  const errno = "errno" in cause ? cause.errno : undefined
  const found = <Code extends string | number>(code: Code, ...rows: ReadonlyArray<codes.Row | undefined>) => {
    const row = rows.find((row) => row !== undefined)
    return row === undefined ? undefined : [code, row] as const
  }
  if (typeof code === "string" && code.startsWith("SQLITE_")) {
    const primary = code.split("_", 2).join("_")
    return found(code, sqlite.get(code), sqlite.get(primary))
  }
  if (typeof errno === "number" && mysql.has(errno)) {
    return found(errno, mysql.get(errno))
  }
  if (typeof code === "string") {
    // a network error first: EPIPE has the form of an SQLSTATE
    return found(
      code,
      network.get(code),
      ...(/^[0-9A-Z]{5}$/.test(code) ? [postgres.get(code), postgres.get(code.slice(0, 2))] : [])
    )
  }
  return undefined
}

/** The broken rule's name: PostgreSQL has a field for it, the others say it in their message. */
const constraintOf = (cause: object): string | undefined => {
  if ("constraint" in cause && typeof cause.constraint === "string") {
    return cause.constraint
  }
  const message = "message" in cause && Predicate.isString(cause.message) ? cause.message : ""
  // The value in MySQL's "Duplicate entry 'yoen' for key 'login'" is a user's data: only what stands at the end is the name.
  const match = /^(?:UNIQUE|CHECK|NOT NULL) constraint failed: (.+)$/.exec(message)
    ?? / for key '([^']+)'$/.exec(message)
    ?? / CONSTRAINT [`"]([^`"]+)[`"] FOREIGN KEY /.exec(message)
  return match?.[1]
}

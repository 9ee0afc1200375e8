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
import * as Either from "effect/Either"
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
 * - `outcome`: `"unknown"` where nobody can tell whether a write was made. By clients other than those of `Database.layer` also a
 *   `ConnectionError` in the middle of a write leaves that doubt
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
 * `src/internal/errorCodes.ts`. Anything that carries no known code is an `UnknownError`. Never throws, whatever the cause is.
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
  const { cause, code, row: [, reason, says] } = find(thrown)
  if (cause instanceof DatabaseError) {
    return cause
  }
  const constraint = Either.getOrUndefined(Either.try(() => constraintOf(cause, code)))
  const details = [code, constraint].filter((detail) => detail !== undefined).join(", ")
  return new DatabaseError({
    reason,
    operation: options.operation,
    message: `${options.subject}: ${says ?? codes.says[reason]}${details === "" ? "" : ` (${details})`}.`,
    ...(code === undefined ? {} : { code }),
    ...(constraint === undefined ? {} : { constraint }),
    ...(code !== undefined && unknownOutcomes.has(code) ? { outcome: "unknown" as const } : {})
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

interface Found {
  readonly cause: object
  readonly code: string | number | undefined
  readonly row: codes.Row
}

const unknown: codes.Row = ["", "UnknownError"]

/** The first cause that says what it is: some libraries wrap the driver's error in one of their own. */
const find = (thrown: unknown): Found => {
  let nameless: Found | undefined
  try {
    let cause = thrown
    for (let depth = 0; depth < maxCauses && typeof cause === "object" && cause !== null; depth++) {
      if (cause instanceof DatabaseError) {
        return { cause, code: undefined, row: unknown }
      }
      const code = codeOf(cause)
      const row = code === undefined ? undefined : rowOf(cause, code)
      if (row !== undefined) {
        return { cause, code, row }
      }
      nameless ??= code === undefined ? undefined : { cause, code, row: unknown }
      cause = "cause" in cause ? cause.cause : undefined
    }
  } catch {
    // A getter of a foreign object threw: what it is remains unknown.
  }
  return nameless ?? { cause: {}, code: undefined, row: unknown }
}

const lookup = (rows: ReadonlyArray<codes.Row>): ReadonlyMap<string | number, codes.Row> =>
  new Map(rows.map((row) => [row[0], row]))

const sqlite = lookup(codes.sqlite)
const postgres = lookup(codes.postgres)
const mysql = lookup(codes.mysql)
const network = lookup(codes.network)

/** MySQL's number where there is one (Node's are negative), any other engine's word. */
const codeOf = (cause: object): string | number | undefined => {
  if ("errno" in cause && isNumber(cause.errno) && cause.errno > 0) {
    return cause.errno
  }
  return "code" in cause && (isNumber(cause.code) || isCode(cause.code)) ? cause.code : undefined
}

const isNumber = (code: unknown): code is number => Number.isSafeInteger(code)

const isCode = (code: unknown): code is string => typeof code === "string" && /^[A-Z0-9_]{2,64}$/.test(code)

const rowOf = (cause: object, code: string | number): codes.Row | undefined => {
  if (typeof code === "number") {
    const state = "sqlState" in cause && typeof cause.sqlState === "string" ? cause.sqlState : ""
    return mysql.get(code) ?? postgres.get(state.slice(0, 2))
  }
  if (code.startsWith("SQLITE_")) {
    return sqlite.get(code) ?? sqlite.get(code.split("_", 2).join("_"))
  }
  // A network error first: EPIPE has the form of an SQLSTATE.
  return network.get(code) ?? (code.length === 5 ? postgres.get(code) ?? postgres.get(code.slice(0, 2)) : undefined)
}

/**
 * How the engines name a broken rule in their messages, by code: what looks like it in the message of another code may be a user's
 * data. In "Duplicate entry 'yoen' for key 'login'" only what stands at the end is the name. A CHECK without a name is called by its
 * expression, which is SQL.
 */
const constraintNames: ReadonlyMap<string | number, RegExp> = new Map<string | number, RegExp>([
  ["SQLITE_CONSTRAINT_UNIQUE", /^UNIQUE constraint failed: (.+)$/],
  ["SQLITE_CONSTRAINT_PRIMARYKEY", /^UNIQUE constraint failed: (.+)$/],
  ["SQLITE_CONSTRAINT_ROWID", /^UNIQUE constraint failed: (.+)$/],
  ["SQLITE_CONSTRAINT_NOTNULL", /^NOT NULL constraint failed: (.+)$/],
  ["SQLITE_CONSTRAINT_CHECK", /^CHECK constraint failed: (\w+)$/],
  [1062, / for key '([^']+)'$/],
  [1586, / for key '([^']+)'$/],
  [1451, / CONSTRAINT [`"]([^`"]+)[`"] FOREIGN KEY /],
  [1452, / CONSTRAINT [`"]([^`"]+)[`"] FOREIGN KEY /],
  [3819, /^Check constraint '([^']+)' is violated\.$/],
  [4025, /^CONSTRAINT [`"]([^`"]+)[`"] failed /]
])

/** PostgreSQL has a field for it. */
const constraintOf = (cause: object, code: string | number | undefined): string | undefined => {
  if ("constraint" in cause && typeof cause.constraint === "string" && cause.constraint !== "") {
    return cause.constraint
  }
  const message = "message" in cause && typeof cause.message === "string" ? cause.message : ""
  return code === undefined ? undefined : constraintNames.get(code)?.exec(message)?.[1]
}

/** The pool's own failures, and SQLite's, as the `SqlError` that a client of `@effect/sql` fails with. */
import { SqlError } from "@effect/sql/SqlError"
import Sqlite from "better-sqlite3"
import type { Operation } from "../../DatabaseError.js"
import { fromUnknown } from "../../DatabaseError.js"
import { failure as poolError } from "../failure.js"
import type { WireError } from "./protocol.js"

export { poolError }

/** What SQLite or its driver said on another thread: code, extended code and message are as they were there. */
export const fromWire = (
  { code, message, name, option, outcome }: WireError,
  summary = "Failed to execute statement"
): SqlError => {
  const cause = code === undefined ? Object.assign(new Error(message), { name }) : new Sqlite.SqliteError(message, code)
  if (outcome === "unknown") {
    return told(cause, "commitTransaction", "Nobody can tell whether the change is stored", outcome)
  }
  return new SqlError({ cause: option === undefined ? cause : Object.assign(cause, { option }), message: summary })
}

const told = (cause: unknown, operation: Operation, subject: string, outcome?: "unknown"): SqlError => {
  const { code, message, reason } = fromUnknown(cause, { operation, subject })
  return poolError(reason, operation, message, outcome, code)
}

/** Of a pool all of whose connections are in use or lost, and which can open no other. */
export const notOpened = ({ cause }: SqlError) => told(cause, "acquireConnection", "No connection could be opened")

export const closed = () =>
  poolError("ConnectionError", "acquireConnection", "The pool is closed: its scope has ended.")

export const leaseEnded = () =>
  poolError("ConnectionError", "execute", "The connection was given back: its transaction or scope has ended.")

export const queueFull = (limit: number) =>
  poolError(
    "ConnectionError",
    "acquireConnection",
    `The pool refuses more work: ${limit} statements are waiting already.`
  )

export const acquireTimedOut = (milliseconds: number) =>
  poolError(
    "ConnectionError",
    "acquireConnection",
    `No connection was free within ${milliseconds} ms. Is a transaction waiting for a second connection, or is the pool too small?`
  )

export const waitsForInner = (milliseconds: number) =>
  poolError(
    "ConnectionError",
    "acquireConnection",
    `A transaction waited ${milliseconds} ms for one inside it to end. Does the inner one wait for the outer one?`
  )

export const statementTimedOut = (milliseconds: number) =>
  poolError("StatementTimeoutError", "execute", `The statement took longer than ${milliseconds} ms and was given up.`)

export const threadDied = (why: string) =>
  poolError("ConnectionError", "execute", `The thread of the connection ended (${why}); the statement changed nothing.`)

export const outcomeUnknown = (why: string) =>
  poolError(
    "UnknownError",
    "commitTransaction",
    `The thread of the connection ended while it committed (${why}); nobody can tell whether the change is stored.`,
    "unknown"
  )

export const refused = (message: string) => poolError("SqlSyntaxError", "execute", message)

export const readonly = () =>
  fromWire({ name: "SqliteError", code: "SQLITE_READONLY", message: "attempt to write a readonly database" })

/** Whether SQLite has ended the transaction by itself, after an earlier failure in it. */
export const isRolledBack = ({ cause }: SqlError): boolean =>
  cause instanceof Sqlite.SqliteError && cause.code === "SQLITE_ABORT_ROLLBACK"

/** What a pool itself fails with, and what it has understood of a driver's failure, as the `SqlError` that a client of `@effect/sql` speaks. */
import { SqlError } from "@effect/sql/SqlError"
import type { Operation, Reason } from "../DatabaseError.js"
import { DatabaseError } from "../DatabaseError.js"

export const failure = (
  reason: Reason,
  operation: Operation,
  message: string,
  outcome?: "unknown",
  code?: string | number
): SqlError => new SqlError({ cause: new DatabaseError({ reason, operation, message, outcome, code }), message })

/** Only what is ours is shown of a URL: any part of it may be a password. */
export const unusableUrl = (why: string): DatabaseError =>
  new DatabaseError({
    reason: "ConnectionError",
    operation: "connect",
    message: `The database URL cannot be used: ${why}. ` +
      "Write for example sqlite:./users.sqlite, postgres://user:password@host/database or mysql://user:password@host/database."
  })

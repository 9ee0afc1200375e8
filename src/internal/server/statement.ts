/** One statement on one connection: awaited when its caller is interrupted, given up when the server does not answer. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { fromSqlError } from "../../DatabaseError.js"
import { failure } from "../failure.js"
import type { ServerPool } from "./pool.js"
import type { Ask, Session } from "./session.js"

/** What a statement that fails may leave behind. */
export type Kind = "alone" | "inTransaction" | "commit"

/** The server stops a statement after `statementTimeout`; one that is silent for longer does not answer any more (ms). */
export const grace = 5_000

/** An interrupted statement that ends by itself is not worth another connection (ms). */
const patience = 50

export const runOn = (pool: ServerPool, session: Session, ask: Ask, kind: Kind): Effect.Effect<unknown, SqlError> =>
  Effect.async((resume) => {
    const limit = pool.settings.statementTimeout + grace
    let isSettled = false
    let isLate = false
    let onSettled: (() => void) | undefined
    const deadline = setTimeout(() => {
      isLate = true
      session.destroy()
    }, limit)
    session.run(ask, (error, answer) => {
      clearTimeout(deadline)
      isSettled = true
      resume(error === undefined ? Effect.succeed(answer) : Effect.fail(explained(error, session, ask, kind, isLate)))
      onSettled?.()
    })
    return awaitEnd(session, (ended) => isSettled ? ended() : onSettled = ended)
  })

/** Waits for the end, of which `onEnd` tells, of what nobody wants any more; it is stopped where it does not end by itself. */
export const awaitEnd = (session: Session, onEnd: (ended: () => void) => void): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    let hasEnded = false
    let isCancelling = false
    const check = () => {
      if (hasEnded && !isCancelling) {
        clearTimeout(stop)
        resume(Effect.void)
      }
    }
    const stop = setTimeout(() => {
      // What comes late must hit no other statement: the connection is not used again.
      isCancelling = session.isSpent = true
      session.cancel(() => {
        isCancelling = false
        check()
      })
    }, patience)
    onEnd(() => {
      hasEnded = true
      check()
    })
  })

/** Where the connection is lost the driver does not know what became of the statement, and where it is known we say so. */
const explained = (error: SqlError, session: Session, ask: Ask, kind: Kind, isLate: boolean): SqlError => {
  const { code, operation, reason } = fromSqlError(error)
  const isLost = session.isBroken || (reason === "ConnectionError" && code !== notReady)
  if (!isLost) {
    return error
  }
  const what = isLate ? "The server did not answer in time and its connection was given up" : "The connection was lost"
  return kind === "commit"
    ? failure(
      "UnknownError",
      "commitTransaction",
      `${what} while the transaction was being committed; nobody can tell whether it is stored.`,
      "unknown",
      code
    )
    : kind === "inTransaction"
    ? failure("ConnectionError", operation, `${what}; its transaction was rolled back.`, undefined, code)
    : /^\s*select\b/i.test(ask.sql)
    ? failure(isLate ? "StatementTimeoutError" : "ConnectionError", operation, `${what}.`, undefined, code)
    : failure(
      isLate ? "StatementTimeoutError" : "ConnectionError",
      operation,
      `${what}; nobody can tell whether the statement was run.`,
      "unknown",
      code
    )
}

/** A node of a Galera cluster refuses a statement before it runs. */
export const notReady = 1047

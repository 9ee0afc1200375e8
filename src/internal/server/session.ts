/** One connection of a driver, and what an engine is to those who use it. */
import type { SqlError } from "@effect/sql/SqlError"
import type { Compiler } from "@effect/sql/Statement"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"

export interface Ask {
  readonly sql: string
  readonly params: ReadonlyArray<unknown>
  /** Rows as objects, rows as arrays of values, or what the driver answers; `control` has no parameters and is not prepared. */
  readonly form: "rows" | "values" | "raw" | "control"
}

export interface Session {
  /** Runs one statement at a time; calls back once, also when the connection is lost. */
  readonly run: (ask: Ask, done: (error: SqlError | undefined, answer: unknown) => void) => void
  /** Rows as they come. Nothing else runs on it until the stream has ended. */
  readonly stream: (ask: Ask) => Stream.Stream<unknown, SqlError>
  /** Asks the server, over another connection, to stop what runs on this one; `done` is called when that is over, in any case. */
  readonly cancel: (done: () => void) => void
  /** Ends it politely; `ended` is called in any case. */
  readonly end: (ended: () => void) => void
  /** Cuts it off: what runs on it fails. */
  readonly destroy: () => void
  /** It cannot be used any more. */
  isBroken: boolean
  /** A transaction may be open. */
  isDirty: boolean
  /** It is in a state of somebody's own: nobody else gets it. */
  isSpent: boolean
}

export interface Engine {
  /** Where it is, to begin a sentence with. */
  readonly place: string
  /** Opens a connection; `done` is called once. What is answered gives it up, and `done` is called then. */
  readonly connect: (done: (outcome: Session | SqlError) => void) => () => void
  readonly compiler: Compiler
  readonly spanAttributes: ReadonlyArray<readonly [string, unknown]>
  readonly begin: string
  /** Whether a failure has ended the transaction that it came in, so that what follows would be committed by itself. */
  readonly endsTransaction: (error: SqlError) => boolean
  /** Streams in a transaction, between whose chunks other statements run there; absent: a stream has the connection for itself. */
  readonly cursor?:
    | ((ask: Ask, run: Run) => Effect.Effect<Stream.Stream<unknown, SqlError>, SqlError, Scope.Scope>)
    | undefined
}

/** Runs a statement where it belongs. */
export type Run = (ask: Ask) => Effect.Effect<unknown, SqlError>

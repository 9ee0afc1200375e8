/** The rows of a statement of `mysql2` as its consumer asks for them. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type * as Mysql from "mysql2"
import type { Session } from "./session.js"
import { awaitEnd, grace } from "./statement.js"

/** So many rows are read ahead, and make a chunk. */
const ahead = 500

/** @internal The driver's types are those of nobody else's package. */
export const streamRows = (options: {
  readonly connection: Mysql.Connection
  readonly session: Session
  readonly sql: string
  readonly params: ReadonlyArray<unknown>
  readonly failed: (error: unknown) => SqlError
  /** The server ends a statement after that time (ms). */
  readonly statementTimeout: number
}): Stream.Stream<unknown, SqlError> =>
  Stream.unwrapScoped(
    Effect.map(
      Effect.acquireRelease(Effect.try({ try: () => open(options), catch: options.failed }), ({ discard }) => discard),
      ({ pull }) => Stream.repeatEffectChunkOption(pull)
    )
  )

const open = (
  { connection, failed, params, session, sql, statementTimeout }: Parameters<typeof streamRows>[0]
) => {
  let failure: SqlError | undefined
  let isOver = false
  let wake: (() => void) | undefined
  let hasEnded = false
  let onEnd: (() => void) | undefined
  const end = () => {
    hasEnded = true
    connection.off("error", lose)
    onEnd?.()
  }
  // Only the connection tells that it is lost, and not the statement.
  const lose = (error: unknown) => {
    failure = failed(error)
    rows.destroy()
    end()
  }
  connection.on("error", lose)
  const query = connection.query(sql, params as Array<never>)
  const rows = query.stream({ highWaterMark: ahead })
  query.on("end", end)
  query.on("error", end)
  rows.on("readable", () => wake?.())
  rows.on("error", (error) => failure = failed(error))
  rows.on("end", () => {
    isOver = true
    wake?.()
  })
  const pull = Effect.async<Chunk.Chunk<unknown>, Option.Option<SqlError>>((resume) => {
    const take = () => {
      const chunk: Array<unknown> = []
      for (let row; chunk.length < ahead && (row = rows.read()) !== null;) {
        chunk.push(row)
      }
      if (chunk.length > 0 || isOver) {
        wake = undefined
        resume(
          chunk.length > 0
            ? Effect.succeed(Chunk.unsafeFromArray(chunk))
            : Effect.fail(Option.fromNullable(failure))
        )
      }
    }
    wake = take
    take()
  })
  // What was left unread would be read by the next, and a lost connection is a lost transaction.
  const discard = Effect.suspend(() => {
    rows.destroy()
    if (hasEnded) {
      return Effect.void
    }
    const late = setTimeout(() => {
      session.destroy()
      end()
    }, statementTimeout + grace)
    return Effect.ensuring(
      awaitEnd(session, (ended) => hasEnded ? ended() : onEnd = ended),
      Effect.sync(() => clearTimeout(late))
    )
  })
  return { pull, discard }
}

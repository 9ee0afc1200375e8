/** A connection as `@effect/sql` knows it, from what runs a statement and what opens a stream. */
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Ask, Run } from "./session.js"

type Rows = ReadonlyArray<never>
type Transform = (<A extends object>(rows: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined

export const makeConnection = (
  run: Run,
  openStream: (ask: Ask) => Effect.Effect<Stream.Stream<unknown, SqlError>, SqlError, Scope.Scope>
): Connection => {
  const rows = (ask: Ask, transform?: Transform) =>
    Effect.map(run(ask), (answer) => transform === undefined ? answer as Rows : transform(answer as Rows))
  return {
    execute: (sql, params, transform) => rows({ sql, params, form: "rows" }, transform),
    executeRaw: (sql, params) => run({ sql, params, form: "raw" }),
    executeValues: (sql, params) => rows({ sql, params, form: "values" }),
    executeUnprepared: (sql, params, transform) =>
      rows({ sql, params, form: params.length === 0 ? "control" : "rows" }, transform),
    executeStream: (sql, params, transform) => {
      const stream = Stream.unwrapScoped(openStream({ sql, params, form: "rows" }))
      return transform === undefined
        ? stream
        : Stream.mapChunks(stream, (chunk) => Chunk.unsafeFromArray(transform(Chunk.toReadonlyArray(chunk) as never)))
    }
  }
}

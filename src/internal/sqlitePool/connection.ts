/** A connection as `@effect/sql` knows it: it has no thread of its own, and each statement goes where its route says. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { refused } from "./errors.js"
import { Job } from "./job.js"
import type { Shape } from "./job.js"
import type { Metrics } from "./metrics.js"
import { badParameter, copied } from "./parameters.js"
import { Flag } from "./protocol.js"
import type { Parameters } from "./protocol.js"
import { request, run } from "./request.js"
import type { Submit } from "./request.js"
import { routeOf } from "./routing.js"
import type { Route, Text } from "./routing.js"

export interface ConnectionOptions {
  readonly pool: { readonly text: (sql: string) => Text; readonly metrics: Metrics }
  /** Whether it is everybody's, so that a write may share its transaction with others. */
  readonly isShared: boolean
  /** Where a statement of this route goes, or why nowhere. */
  readonly where: (route: Route, sql: string) => Submit | SqlError
  readonly openStream: (
    sql: string,
    params: Parameters
  ) => Effect.Effect<Stream.Stream<unknown, SqlError>, SqlError, Scope.Scope>
}

export const makeConnection = (options: ConnectionOptions): Connection => {
  const { isShared, openStream, pool, where } = options
  const statement = <A>(
    sql: string,
    params: Parameters,
    take: (job: Job) => A,
    shape: Shape = "objects",
    isPrepared = true
  ) =>
    Effect.withFiberRuntime<A, SqlError>((fiber) => {
      const text = isPrepared ? pool.text(sql) : undefined
      const route = text?.route ?? routeOf(sql)
      const own = copied(params)
      const submit = problem(route, own) ?? where(route, sql)
      if (typeof submit !== "function") {
        return Effect.fail(submit)
      }
      const flags = flagsOf(fiber.currentContext) | (isShared && route === "grouped" ? Flag.Grouped : 0)
      const asked = [text?.id, text === undefined ? sql : undefined, own, flags] as const
      const isRead = route === "read"
      const make = (settled: (job: Job) => void) =>
        new Job(
          asked,
          (job) => {
            pool.metrics.operated(performance.now() - job.queuedAt)
            settled(job)
          },
          text,
          isRead,
          shape
        )
      return run(make, submit, take)
    })
  return {
    execute: (sql, params, transform) => transformed(statement(sql, params, rowsOf), transform),
    executeRaw: (sql, params) => statement(sql, params, rawOf),
    executeValues: (sql, params) => statement(sql, params, rowsOf, "arrays"),
    executeUnprepared: (sql, params, transform) =>
      transformed(statement(sql, params, rowsOf, "objects", false), transform),
    executeStream: (sql, params, transform) => {
      const stream = Stream.unwrapScoped(Effect.suspend(() => {
        const own = copied(params)
        const refusal = problem(routeOf(sql), own) ?? where(pool.text(sql).route, sql)
        return typeof refusal === "function" ? openStream(sql, own) : Effect.fail(refusal)
      }))
      return transform === undefined
        ? stream
        : Stream.mapChunks(stream, (chunk) => Chunk.unsafeFromArray(transform(Chunk.toReadonlyArray(chunk) as never)))
    }
  }
}

const problem = (route: Route, params: Parameters): SqlError | undefined => {
  const why = route === "none" ? "The SQL text contains the character U+0000." : badParameter(params)
  return why === undefined ? undefined : refused(why)
}

const flagsOf = (context: Context.Context<never>): number =>
  Context.get(context, SqlClient.SafeIntegers) ? Flag.SafeIntegers : 0

const rowsOf = ({ rows }: Job) => rows as Array<never>

const rawOf = (job: Job): unknown =>
  job.isRows ? job.rows : { changes: job.changes, lastInsertRowid: job.lastInsertRowid }

/** In the caller's fiber: it is the caller's function. */
const transformed = (
  rows: Effect.Effect<Array<never>, SqlError>,
  transform: ((rows: ReadonlyArray<never>) => ReadonlyArray<never>) | undefined
) => transform === undefined ? rows : Effect.map(rows, transform)

let cursors = 0

/** Rows of a cursor on a connection that was leased, a chunk whenever the consumer asks; closed when the scope ends. */
export const openCursor = (
  submit: Submit,
  sql: string,
  params: Parameters
): Effect.Effect<Stream.Stream<unknown, SqlError>, SqlError, Scope.Scope> =>
  Effect.withFiberRuntime((fiber) => {
    const cursor = cursors++
    const statement = [undefined, sql, params, flagsOf(fiber.currentContext)] as const
    const open = request({ op: "open", cursor, statement }, submit)
    let names: ReadonlyArray<string> | undefined
    let isOpen = true
    let pulling: Job | undefined
    const next = run(
      (settled) => {
        pulling = new Job({ op: "pull", cursor }, settled, undefined, true)
        pulling.names = names
        return pulling
      },
      submit,
      (job) => {
        names = job.names
        isOpen = job.isOpen
        return Chunk.unsafeFromArray(job.rows)
      }
    )
    const pull = Effect.suspend(() =>
      isOpen ? Effect.mapError(next, Option.some) : Effect.fail(Option.none<SqlError>())
    )
    // Where the statement still runs, nobody waits for its end: whatever its connection does next comes after it.
    const close = Effect.suspend(() =>
      pulling?.thread === undefined
        ? Effect.ignore(request({ op: "close", cursor }, submit))
        : Effect.sync(() => submit(new Job({ op: "close", cursor }, () => {})))
    )
    return Effect.as(Effect.acquireRelease(open, () => close), Stream.repeatEffectChunkOption(pull))
  })

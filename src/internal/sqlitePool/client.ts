/** The pool as `@effect/sql` sees it: the parts of a `SqlClient`. */
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import Sqlite from "better-sqlite3"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { currentLevel, register } from "../transaction.js"
import type { Restore } from "../transaction.js"
import { makeConnection, openCursor } from "./connection.js"
import { refused } from "./errors.js"
import type { Job } from "./job.js"
import { begin, reserve, scoped } from "./level.js"
import type { Kind } from "./level.js"
import type { Metrics } from "./metrics.js"
import type { Parameters, Request } from "./protocol.js"
import type { Waiter } from "./queue.js"
import { request } from "./request.js"
import type { Route, Text } from "./routing.js"

/** What the connections need of the pool. */
export interface Pool {
  readonly text: (sql: string) => Text
  readonly metrics: Metrics
  /** To whichever thread its route asks for. */
  readonly submit: (job: Job, route: Route) => void
  /** Whoever waits for a connection to write on (of a pool that only reads: to read on), or for one to read on. */
  readonly lease: (waiter: Waiter, kind: Kind) => void
  readonly busyTimeout: number
  readonly acquireTimeout: number
  readonly maxQueue: number
  readonly isReadonly: boolean
  /** Whether one connection does everything. */
  readonly isSingle: boolean
}

/** A reader cannot run it: it writes, or names what only the writer has. */
const isForWriter = ({ cause }: SqlError): boolean =>
  cause instanceof Sqlite.SqliteError && (cause.code === "SQLITE_READONLY" || cause.code === "SQLITE_ERROR")

const noTransaction = refused("A snapshot only reads: no transaction can begin inside it.")

/** Why a statement is not for a connection that is anybody's. */
const notShared = (route: Route, sql: string): SqlError | undefined =>
  route === "transaction"
    ? refused("BEGIN, COMMIT, ROLLBACK and savepoints are for sql.withTransaction, or for a connection of sql.reserve.")
    : route !== "connection"
    ? undefined
    : refused(
      /\bpragma\b/i.test(sql)
        ? "This PRAGMA sets one connection of the pool: name it in the option `pragmas`, or run it on a connection of sql.reserve."
        : "ATTACH and DETACH change one connection of the pool: run them on a connection of sql.reserve."
    )

/** Anybody's connection: each statement runs on the thread that its route asks for. */
const sharedConnection = (pool: Pool): Connection => {
  const toReaders = (job: Job) => pool.submit(job, "read")
  const toWriter = (job: Job) => pool.submit(job, "bare")
  const openStream = (sql: string, params: Parameters) =>
    Effect.suspend(() => {
      const on = (kind: Kind) =>
        Effect.flatMap(scoped(pool, kind), (lease) => openCursor((job) => lease.submit(job), sql, params))
      if (pool.text(sql).route !== "read") {
        return on("writer")
      }
      // Where there is no other connection, waiting for one beside this lease would last until `acquireTimeout`.
      const hasBoth = !pool.isSingle && !pool.isReadonly
      return hasBoth ? Effect.catchIf(on("reader"), isForWriter, () => on("writer")) : on("reader")
    })
  return makeConnection({
    pool,
    isShared: true,
    where: (route, sql) => route === "read" ? toReaders : notShared(route, sql) ?? toWriter,
    openStream
  })
}

export const makeParts = (pool: Pool) => {
  const shared = sharedConnection(pool)
  return {
    current: (context: Context.Context<never>) => currentLevel(pool, context),
    begin: begin(pool, "writer"),
    acquirer: Effect.withFiberRuntime<Connection, SqlError>((fiber) =>
      Exit.succeed(currentLevel(pool, fiber.currentContext)?.connection ?? shared)
    ),
    reserve: reserve(pool),
    /** A transaction that only reads; it has begun to read when it begins. */
    beginSnapshot: (restore: Restore) =>
      Effect.flatMap(begin(pool, "reader", () => Effect.fail(noTransaction))(restore), (level) => {
        const run = (sql: string) => level.connection.executeUnprepared(sql, [], undefined)
        const read = run("select count(*) from sqlite_schema")
        // A connection that also writes is kept from it meanwhile.
        const opened = pool.isSingle ? Effect.zipRight(run("PRAGMA query_only = ON"), read) : read
        const reset = pool.isSingle ? Effect.ignore(run("PRAGMA query_only = OFF")) : Effect.void
        const succeed = Effect.zipRight(reset, level.succeed)
        const fail = Effect.zipRight(reset, level.fail)
        return Effect.flatMap(
          Effect.onError(restore(opened), () => Effect.zipRight(reset, level.close)),
          () => register(pool, { ...level, succeed, fail })
        )
      }),
    /** Something that the writer does by itself. */
    onWriter: <A>(asked: Request, take: (job: Job) => A) => request(asked, (job) => pool.submit(job, "bare"), take)
  }
}

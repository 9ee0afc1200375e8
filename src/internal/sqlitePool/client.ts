/** The pool as `@effect/sql` sees it: connections that route each statement, leases, transactions, streams. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import Sqlite from "better-sqlite3"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Level, Restore } from "../transaction.js"
import { poolError, refused } from "./errors.js"
import { Lease } from "./lease.js"
import { Flag } from "./protocol.js"
import type { Parameters, Request } from "./protocol.js"
import { leave, makeWaiter } from "./queue.js"
import type { Waiter } from "./queue.js"
import { changesConnection, routeOf } from "./routing.js"
import type { Route, Text } from "./routing.js"
import { isFailure, makeJob, settle } from "./thread.js"
import type { Answer, Job } from "./thread.js"

/** What the connections need of the pool. */
export interface Pool {
  readonly text: (sql: string) => Text
  /** To whichever thread its route asks for. */
  readonly submit: (job: Job, route: Route) => void
  /** Whoever waits for a connection to write on (of a pool that only reads: to read on), or for one to read on. */
  readonly lease: (waiter: Waiter, kind: "writer" | "reader") => void
  readonly busyTimeout: number
  readonly isReadonly: boolean
  /** Whether one connection does everything. */
  readonly isSingle: boolean
}

// ---------------------------------------------------------------------------------------------------------------------
// Jobs as effects
// ---------------------------------------------------------------------------------------------------------------------

type Submit = (job: Job) => void

/** Nobody sees this: whoever was interrupted does not wait for it. */
const takenBack = poolError("UnknownError", "execute", "The statement was interrupted.")

/** Takes a job back that has not begun. A read that runs is told to stop, and nobody waits for it. */
const interrupt = (job: Job): boolean => {
  if (job.status === "queued" || (job.status === "sent" && job.thread?.withdraw(job) === true)) {
    settle(job, takenBack)
    return true
  }
  if (job.status === "sent" && job.isRead) {
    job.thread?.cancel(job)
    settle(job, takenBack)
    return true
  }
  return job.status === "settled"
}

const result = (outcome: Answer | SqlError): Effect.Effect<Answer, SqlError> =>
  isFailure(outcome) ? Effect.fail(outcome) : Exit.succeed(outcome)

/** A read lets its caller go at once; what has begun to write is awaited. */
const runRead = (make: (settle: Job["settle"]) => Job, submit: Submit): Effect.Effect<Answer, SqlError> =>
  Effect.async((resume) => {
    const job = make((outcome) => resume(result(outcome)))
    submit(job)
    return Effect.async<void>((resume) => {
      if (interrupt(job)) {
        resume(Effect.void)
      } else {
        job.onSettled = () => resume(Effect.void)
      }
    })
  })

/** The outcome of a write that has begun is what the caller gets, also one that was interrupted meanwhile. */
const runWrite = (make: (settle: Job["settle"]) => Job, submit: Submit): Effect.Effect<Answer, SqlError> =>
  Effect.uninterruptibleMask((restore) => {
    let outcome: Answer | SqlError | undefined
    const run = runRead((settle) =>
      make((settled) => {
        outcome = settled === takenBack ? undefined : settled
        settle(settled)
      }), submit)
    return Effect.catchAllCause(
      restore(run),
      (cause) => outcome === undefined ? Effect.failCause(cause) : result(outcome)
    )
  })

const request = (request: Request, submit: Submit, isRead = false) =>
  (isRead ? runRead : runWrite)((settle) => makeJob(request, settle, { isRead, isValues: false }), submit)

// ---------------------------------------------------------------------------------------------------------------------
// Statements
// ---------------------------------------------------------------------------------------------------------------------

const hasNul = "The SQL text contains the character U+0000."

/** Why a value cannot be a parameter, found before it spoils the message that others share. */
const badParameter = (params: Parameters): string | undefined => {
  for (let i = 0; i < params.length; i++) {
    const value = params[i]
    const type = typeof value
    if (type === "function" || type === "symbol" || type === "boolean" || (type === "object" && !isBindable(value))) {
      return `Parameter ${i + 1} is a ${type}; SQLite knows numbers, bigints, strings, blobs and null.`
    }
  }
  return undefined
}

/** A blob, null, or values by name, as the driver takes them. */
const isBindable = (value: unknown): boolean =>
  value === null || ArrayBuffer.isView(value) ||
  (Predicate.isRecord(value) && Object.getPrototypeOf(value) === Object.prototype &&
    badParameter(Object.values(value)) === undefined)

/** A small Buffer is a view of a pool that would cross with it. */
const ownBytes = (value: unknown): unknown =>
  ArrayBuffer.isView(value) ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice() : value

const copied = (params: Parameters): Parameters => params.some(ArrayBuffer.isView) ? params.map(ownBytes) : params

const flagsOf = (context: Context.Context<never>): number =>
  Context.get(context, SqlClient.SafeIntegers) ? Flag.SafeIntegers : 0

interface StatementOptions {
  readonly isValues: boolean
  readonly isPrepared: boolean
  /** Whether the connection is everybody's, so that a write may share its transaction with others. */
  readonly isShared: boolean
}

/** One place where statements are run: `where` says which thread gets them, and why not. */
type Where = (route: Route, sql: string) => Submit | SqlError

const statement = (pool: Pool, where: Where, sql: string, params: Parameters, options: StatementOptions) =>
  Effect.withFiberRuntime<Answer, SqlError>((fiber) => {
    const text = options.isPrepared ? pool.text(sql) : undefined
    const route = text?.route ?? routeOf(sql)
    const problem = route === "none" ? hasNul : badParameter(params)
    const submit = problem === undefined ? where(route, sql) : refused(problem)
    if (typeof submit !== "function") {
      return Effect.fail(submit)
    }
    const make = (settle: Job["settle"]) =>
      makeJob(
        [
          text?.id,
          text === undefined ? sql : undefined,
          copied(params),
          flagsOf(fiber.currentContext) | (options.isShared && route === "grouped" ? Flag.Grouped : 0)
        ],
        settle,
        { ...(text === undefined ? {} : { text }), isValues: options.isValues, isRead: route === "read" }
      )
    return route === "read" ? runRead(make, submit) : runWrite(make, submit)
  })

/** The rows, which whatever still holds the answer need not hold. */
const taken = (answer: Answer): Array<unknown> => {
  const { rows } = answer
  answer.rows = []
  return rows
}

const makeConnection = (
  pool: Pool,
  isShared: boolean,
  where: Where,
  openStream: (
    sql: string,
    params: Parameters
  ) => Effect.Effect<Stream.Stream<unknown, SqlError>, SqlError, Scope.Scope>
): Connection => {
  const run = (sql: string, params: Parameters, isValues = false, isPrepared = true) =>
    statement(pool, where, sql, params, { isValues, isPrepared, isShared })
  const rows = (answer: Answer) => taken(answer) as Array<never>
  return {
    execute: (sql, params, transform) =>
      Effect.map(run(sql, params), transform === undefined ? rows : (answer) => transform(rows(answer))),
    executeRaw: (sql, params) =>
      Effect.map(
        run(sql, params),
        (answer) => answer.isRows ? rows(answer) : { changes: answer.changes, lastInsertRowid: answer.lastInsertRowid }
      ),
    executeValues: (sql, params) => Effect.map(run(sql, params, true), rows),
    executeUnprepared: (sql, params, transform) =>
      Effect.map(run(sql, params, false, false), transform === undefined ? rows : (answer) => transform(rows(answer))),
    executeStream: (sql, params, transform) => {
      const stream = Stream.unwrapScoped(Effect.suspend(() => {
        const allowed = where(pool.text(sql).route, sql)
        return typeof allowed === "function" ? openStream(sql, params) : Effect.fail(allowed)
      }))
      return transform === undefined
        ? stream
        : Stream.mapChunks(stream, (chunk) => Chunk.unsafeFromArray(transform(Chunk.toReadonlyArray(chunk) as never)))
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Leases
// ---------------------------------------------------------------------------------------------------------------------

const leaseEnded = poolError(
  "ConnectionError",
  "execute",
  "The connection was given back: its transaction or scope has ended."
)

const release = (lease: Lease): Effect.Effect<void> =>
  Effect.async((resume) => lease.release(leaseEnded, () => resume(Effect.void)))

/** Waits interruptibly; a lease that is granted to somebody who was interrupted meanwhile is given back. */
const acquire = (pool: Pool, kind: "writer" | "reader", restore: Restore): Effect.Effect<Lease, SqlError> =>
  Effect.suspend(() => {
    let waiter: Waiter | undefined
    return restore(Effect.async<Lease, SqlError>((resume) => {
      waiter = makeWaiter((outcome) =>
        resume(outcome instanceof Lease ? Effect.succeed(outcome) : Effect.fail(outcome))
      )
      pool.lease(waiter, kind)
    })).pipe(Effect.onInterrupt(() =>
      Effect.suspend(() => {
        if (waiter?.lease !== undefined) {
          return release(waiter.lease)
        }
        return waiter === undefined ? Effect.void : Effect.sync(() => leave(waiter!))
      })
    ))
  })

const scoped = (pool: Pool, kind: "writer" | "reader"): Effect.Effect<Lease, SqlError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.tap(acquire(pool, kind, restore), (lease) =>
      Effect.addFinalizer(() =>
        // A reader has nothing to be rolled back: nobody waits for a statement of it that still runs.
        Effect.suspend(() =>
          kind === "reader" && !lease.thread.isIdle
            ? Effect.sync(() => lease.release(leaseEnded, () => {}))
            : release(lease)
        )
      ))
  )

let cursors = 0

/** Rows of a cursor on a lease, a chunk whenever the consumer asks; closed when the scope ends. */
const cursor = (submit: Submit, sql: string, params: Parameters) =>
  Effect.withFiberRuntime<Stream.Stream<unknown, SqlError>, SqlError, Scope.Scope>((fiber) => {
    const problem = sql.includes("\0") ? hasNul : badParameter(params)
    if (problem !== undefined) {
      return Effect.fail(refused(problem))
    }
    const cursor = cursors++
    const open = request({
      op: "open",
      cursor,
      statement: [undefined, sql, copied(params), flagsOf(fiber.currentContext)]
    }, submit)
    let names: ReadonlyArray<string> | undefined
    let isOpen = true
    let pulling: Job | undefined
    const next = Effect.suspend(() => {
      return Effect.map(
        runRead((settle) => {
          pulling = makeJob({ op: "pull", cursor }, settle, { isRead: true })
          pulling.names = names
          return pulling
        }, submit),
        (answer) => {
          names = pulling?.names
          isOpen = answer.isOpen
          return Chunk.unsafeFromArray(taken(answer))
        }
      )
    })
    const pull = Effect.suspend(() =>
      isOpen ? Effect.mapError(next, Option.some) : Effect.fail(Option.none<SqlError>())
    )
    // Where the statement still runs, nobody waits for its end: whatever its connection does next comes after it.
    const close = Effect.suspend(() =>
      pulling?.thread === undefined
        ? Effect.ignore(request({ op: "close", cursor }, submit))
        : Effect.sync(() => submit(makeJob({ op: "close", cursor }, () => {})))
    )
    return Effect.as(Effect.acquireRelease(open, () => close), Stream.repeatEffectChunkOption(pull))
  })

interface Entry {
  readonly pool: Pool
  readonly level: Level
  /** What was current when it was opened: perhaps a transaction of another pool, which goes on. */
  readonly outer: Entry | undefined
}

/** Levels by their connection: how a client knows whose transaction it is in. */
const levels = new WeakMap<Connection, Entry>()

const entryIn = (context: Context.Context<never>): Entry | undefined => {
  const transaction = Context.getOption(context, SqlClient.TransactionConnection)
  return Option.isSome(transaction) ? levels.get(transaction.value[0]) : undefined
}

/** Remembers whose a level is. */
const register = (pool: Pool, level: Level): Effect.Effect<Level> =>
  Effect.withFiberRuntime((fiber) => {
    levels.set(level.connection, { pool, level, outer: entryIn(fiber.currentContext) })
    return Effect.succeed(level)
  })

/** A lease as a level of a transaction: its own statements wait while a child is open. */
const makeLevel = (pool: Pool, lease: Lease, depth: number, submitBelow: Submit, end: {
  readonly succeed: Effect.Effect<void, SqlError>
  readonly fail: Effect.Effect<void, SqlError>
  readonly close: Effect.Effect<void>
  readonly child?: Level["child"]
}): Effect.Effect<Level> => {
  const siblings = Effect.unsafeMakeSemaphore(1)
  let held: Array<Job> | undefined
  const submit: Submit = (job) => held === undefined ? submitBelow(job) : void held.push(job)
  const connection = makeConnection(
    pool,
    false,
    (route, sql) => {
      if (route === "transaction") {
        return refused(
          "BEGIN, COMMIT, ROLLBACK and savepoints are for withTransaction, or for a connection of sql.reserve."
        )
      }
      lease.isChanged ||= changesConnection(route, sql)
      return submit
    },
    (sql, params) => cursor(submit, sql, params)
  )
  const child: Level["child"] = end.child ??
    ((restore) =>
      Effect.flatMap(restore(siblings.take(1)), () =>
        Effect.suspend(() => {
          const name = `effect_sql_${depth + 1}`
          const below = submit
          const savepoint = (text: string) => Effect.asVoid(request({ op: "savepoint", text }, submitBelow))
          // Sent before anything else can be: what comes from now on waits until the child has ended.
          const opened = savepoint(`SAVEPOINT ${name}`)
          const close = Effect.zipRight(
            Effect.sync(() => {
              const waiting = held ?? []
              held = undefined
              waiting.filter((job) => job.status === "queued").forEach(below)
            }),
            siblings.release(1)
          )
          held = []
          return Effect.flatMap(Effect.onError(opened, () => close), () =>
            makeLevel(pool, lease, depth + 1, submitBelow, {
              succeed: savepoint(`RELEASE ${name}`),
              fail: Effect.zipRight(savepoint(`ROLLBACK TO ${name}`), savepoint(`RELEASE ${name}`)),
              close
            }))
        })))
  return register(pool, { connection, depth, child, succeed: end.succeed, fail: end.fail, close: end.close })
}

const asVoid = Effect.asVoid

/** A transaction on a connection of its own. */
const begin = (pool: Pool, kind: "writer" | "reader", child?: Level["child"]) =>
(
  restore: Restore
): Effect.Effect<Level, SqlError> =>
  Effect.flatMap(acquire(pool, kind, restore), (lease) => {
    const submit = (job: Job) => lease.submit(job)
    const close = release(lease)
    return restore(request(
      { op: "begin", immediate: kind === "writer" && !pool.isReadonly, busyTimeout: pool.busyTimeout },
      submit,
      true
    )).pipe(
      Effect.onError(() => close),
      Effect.flatMap(() =>
        makeLevel(pool, lease, 0, submit, {
          succeed: asVoid(request({ op: "commit" }, submit)),
          // Giving the connection back rolls it back.
          fail: Effect.void,
          close,
          ...(child === undefined ? {} : { child })
        })
      )
    )
  })

// ---------------------------------------------------------------------------------------------------------------------
// The client's parts
// ---------------------------------------------------------------------------------------------------------------------

/** A reader cannot run it: it writes, or names what only the writer has. */
const isForWriter = ({ cause }: SqlError): boolean =>
  cause instanceof Sqlite.SqliteError && (cause.code.startsWith("SQLITE_READONLY") || cause.code === "SQLITE_ERROR")

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

export const makeParts = (pool: Pool) => {
  const routed = makeConnection(
    pool,
    true,
    (route, sql) => notShared(route, sql) ?? ((job) => pool.submit(job, route)),
    (sql, params) =>
      Effect.suspend(() => {
        const { route } = pool.text(sql)
        const on = (kind: "reader" | "writer") =>
          Effect.flatMap(scoped(pool, kind), (lease) => cursor((job) => lease.submit(job), sql, params))
        return route === "read" ? Effect.catchIf(on("reader"), isForWriter, () => on("writer")) : on("writer")
      })
  )
  const current = (context: Context.Context<never>): Level | undefined => {
    let entry = entryIn(context)
    while (entry !== undefined && entry.pool !== pool) {
      entry = entry.outer
    }
    return entry?.level
  }
  return {
    current,
    begin: begin(pool, "writer"),
    acquirer: Effect.withFiberRuntime<Connection, SqlError>((fiber) =>
      Exit.succeed(current(fiber.currentContext)?.connection ?? routed)
    ),
    /** A connection for the scope, for anything that a connection can do. */
    reserve: Effect.map(scoped(pool, "writer"), (lease) =>
      makeConnection(
        pool,
        false,
        (route, sql) => {
          lease.isChanged ||= changesConnection(route, sql)
          return (job) => lease.submit(job)
        },
        (sql, params) => cursor((job) => lease.submit(job), sql, params)
      )),
    /** A transaction that only reads; it has begun to read when it begins. */
    beginSnapshot: (restore: Restore) =>
      Effect.flatMap(begin(pool, "reader", () => Effect.fail(noTransaction))(restore), (level) => {
        const run = (sql: string) => level.connection.executeUnprepared(sql, [], undefined)
        const opened = pool.isSingle
          ? Effect.zipRight(run("PRAGMA query_only = ON"), run("select count(*) from sqlite_schema"))
          : run("select count(*) from sqlite_schema")
        const close = pool.isSingle
          ? Effect.ensuring(Effect.ignore(run("PRAGMA query_only = OFF")), level.close)
          : level.close
        return Effect.flatMap(Effect.onError(restore(opened), () => close), () => register(pool, { ...level, close }))
      }),
    /** Something that the writer does by itself. */
    onWriter: (asked: Request) => request(asked, (job) => pool.submit(job, "bare"))
  }
}

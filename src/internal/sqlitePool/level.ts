/** Leases as effects, and as the levels of a transaction: who waits for a connection, what runs in which savepoint. */
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { register } from "../transaction.js"
import type { Level, Restore } from "../transaction.js"
import { Turn } from "../turn.js"
import type { Pool } from "./client.js"
import { makeConnection, openCursor } from "./connection.js"
import { isRolledBack, leaseEnded, refused, waitsForInner } from "./errors.js"
import type { Job } from "./job.js"
import { Lease } from "./lease.js"
import { Waiter } from "./queue.js"
import { request, requestRead } from "./request.js"
import type { Submit } from "./request.js"
import { changesConnection } from "./routing.js"

export type Kind = "writer" | "reader"

const release = (lease: Lease): Effect.Effect<void> =>
  Effect.async((resume) => lease.release(leaseEnded(), () => resume(Effect.void)))

/** Waits interruptibly; a lease that is granted to somebody who was interrupted meanwhile is given back. */
const acquire = (pool: Pool, kind: Kind, restore: Restore): Effect.Effect<Lease, SqlError> =>
  Effect.suspend(() => {
    let waiter: Waiter | undefined
    return restore(Effect.async<Lease, SqlError>((resume) => {
      waiter = new Waiter((outcome) =>
        resume(outcome instanceof Lease ? Effect.succeed(outcome) : Effect.fail(outcome))
      )
      pool.lease(waiter, kind)
    })).pipe(Effect.onInterrupt(() =>
      Effect.suspend(() => {
        waiter?.leave()
        return waiter?.lease === undefined ? Effect.void : release(waiter.lease)
      })
    ))
  })

/** A lease for the scope. */
export const scoped = (pool: Pool, kind: Kind): Effect.Effect<Lease, SqlError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.tap(acquire(pool, kind, restore), (lease) =>
      Effect.addFinalizer(() =>
        // A reader has nothing to be rolled back: nobody waits for a statement of it that still runs.
        Effect.suspend(() =>
          kind === "reader" && !lease.thread.isIdle
            ? Effect.sync(() => lease.release(leaseEnded(), () => {}))
            : release(lease)
        )
      ))
  )

interface LevelOptions {
  readonly pool: Pool
  readonly lease: Lease
  readonly depth: number
  readonly submit: Submit
  readonly succeed: Level["succeed"]
  readonly fail: Level["fail"]
  readonly close: Level["close"]
  readonly child?: Level["child"] | undefined
  /** Whether transaction control is its holder's own affair. */
  readonly isReserved?: boolean
}

/** A level of a transaction: its own statements wait while a child is open, and are refused when it has ended. */
const makeLevel = (options: LevelOptions): Effect.Effect<Level> => {
  const { depth, lease, pool } = options
  const siblings = new Turn(pool.acquireTimeout, () => waitsForInner(pool.acquireTimeout))
  let isEnded = false
  let held: Array<Job> | undefined
  const submit: Submit = (job) => {
    if (isEnded) {
      job.settle(leaseEnded())
    } else if (held === undefined) {
      options.submit(job)
    } else {
      held.push(job)
      setTimeout(() => {
        if (job.status === "queued") {
          job.settle(waitsForInner(pool.acquireTimeout))
        }
      }, pool.acquireTimeout).unref()
    }
  }
  const connection = makeConnection({
    pool,
    isShared: false,
    where: (route, sql) => {
      if (route === "transaction" && options.isReserved !== true) {
        return refused(
          "BEGIN, COMMIT, ROLLBACK and savepoints are for withTransaction, or for a connection of sql.reserve."
        )
      }
      lease.isChanged ||= changesConnection(route, sql)
      return submit
    },
    openStream: (sql, params) => openCursor(submit, sql, params)
  })
  const openChild = Effect.suspend(() => {
    if (isEnded) {
      return Effect.zipRight(siblings.release, Effect.fail(leaseEnded()))
    }
    const name = `effect_sql_${depth + 1}`
    const savepoint = (text: string) => request({ op: "savepoint", text }, options.submit)
    // Sent before anything else can be: what comes from now on waits until the child has ended.
    const opened = savepoint(`SAVEPOINT ${name}`)
    const close = Effect.zipRight(
      Effect.sync(() => {
        const waiting = held ?? []
        held = undefined
        waiting.filter((job) => job.status === "queued").forEach(submit)
      }),
      siblings.release
    )
    held = []
    return Effect.flatMap(Effect.onError(opened, () => close), () =>
      makeLevel({
        pool,
        lease,
        depth: depth + 1,
        submit: options.submit,
        succeed: savepoint(`RELEASE ${name}`),
        // Where SQLite has ended the whole transaction, nothing is left to undo.
        fail: Effect.catchIf(
          Effect.zipRight(savepoint(`ROLLBACK TO ${name}`), savepoint(`RELEASE ${name}`)),
          isRolledBack,
          () => Effect.void
        ),
        close
      }))
  })
  return register(pool, {
    connection,
    depth,
    child: options.child ?? ((restore) => Effect.flatMap(siblings.take(restore), () => openChild)),
    succeed: Effect.zipRight(Effect.sync(() => isEnded = true), options.succeed),
    fail: Effect.zipRight(Effect.sync(() => isEnded = true), options.fail),
    close: options.close
  })
}

/**
 * A connection for the scope, on which everything may run, also what changes it. The client's own statements run on it, and its
 * transactions are savepoints there, where it is provided as their `TransactionConnection`.
 */
export const reserve = (pool: Pool): Effect.Effect<Connection, SqlError, Scope.Scope> =>
  Effect.flatMap(scoped(pool, "writer"), (lease) =>
    Effect.map(
      makeLevel({
        pool,
        lease,
        depth: 0,
        submit: (job) => lease.submit(job),
        succeed: Effect.void,
        fail: Effect.void,
        close: Effect.void,
        isReserved: true
      }),
      ({ connection }) => connection
    ))

/** A transaction on a connection of its own. */
export const begin = (pool: Pool, kind: Kind, child?: Level["child"]) =>
(
  restore: Restore
): Effect.Effect<Level, SqlError> =>
  Effect.flatMap(acquire(pool, kind, restore), (lease) => {
    const submit = (job: Job) => lease.submit(job)
    const close = release(lease)
    const immediate = kind === "writer" && !pool.isReadonly
    return restore(requestRead({ op: "begin", immediate, busyTimeout: pool.busyTimeout }, submit)).pipe(
      Effect.onError(() => close),
      Effect.flatMap(() =>
        makeLevel({
          pool,
          lease,
          depth: 0,
          submit,
          succeed: request({ op: "commit" }, submit),
          // Giving the connection back rolls it back.
          fail: Effect.void,
          close,
          child
        })
      )
    )
  })

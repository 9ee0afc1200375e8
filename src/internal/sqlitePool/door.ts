/**
 * The door by which statements of this package enter a pool: a callback where `@effect/sql` has a statement, a span and a fiber. They are
 * queued, sent, routed, interrupted and timed out as all others are; what they lack is what a caller would see of them.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { Pool } from "./client.js"
import { refused } from "./errors.js"
import { Job } from "./job.js"
import { badParameter } from "./parameters.js"
import { Flag } from "./protocol.js"
import type { Parameters, Value } from "./protocol.js"
import { interrupt, run } from "./request.js"
import type { Route } from "./routing.js"

export interface Door {
  /**
   * Reads at most about a thousand rows outside any transaction. `settle` is called once, with the values of all rows, one after the
   * other. What is answered has the read stop, if it can, and settles it as failed; nobody need see that.
   */
  readonly read: (
    sql: string,
    params: Parameters,
    settle: (error: SqlError | undefined, values: ReadonlyArray<Value>) => void
  ) => () => void

  /** An INSERT, UPDATE or DELETE that shares its transaction with others that wait: how many rows it changed. */
  readonly write: (sql: string, params: Parameters) => Effect.Effect<number, SqlError>
}

const doors = new WeakMap<SqlClient, Door>()

/** That of a client which is a pool of ours, itself. */
export const doorOf = (client: SqlClient): Door | undefined => doors.get(client)

export const openDoor = (client: SqlClient, pool: Pool): void => {
  const enter = (job: Job, route: Route, params: Parameters) => {
    const why = badParameter(params)
    return why === undefined ? pool.submit(job, route) : job.settle(refused(why))
  }
  doors.set(client, {
    read: (sql, params, settle) => {
      const text = pool.text(sql)
      const job = new Job(
        [text.id, undefined, params, Flag.Values],
        (job) => {
          pool.metrics.operated(performance.now() - job.queuedAt)
          settle(job.error, job.rows as Array<Value>)
        },
        text,
        true,
        "values"
      )
      enter(job, "read", params)
      return () => void interrupt(job)
    },
    write: (sql, params) =>
      Effect.suspend(() => {
        const text = pool.text(sql)
        const make = (settled: (job: Job) => void) =>
          new Job(
            [text.id, undefined, params, Flag.Grouped],
            (job) => {
              pool.metrics.operated(performance.now() - job.queuedAt)
              settled(job)
            },
            text
          )
        return run(make, (job) => enter(job, "grouped", params), (job) => job.changes)
      })
  })
}

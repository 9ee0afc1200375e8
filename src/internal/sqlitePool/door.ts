/** The door of a pool: jobs without a statement of `@effect/sql` around them. */
import * as Effect from "effect/Effect"
import type { Door } from "../door.js"
import type { Pool } from "./client.js"
import { refused } from "./errors.js"
import { Job } from "./job.js"
import { badParameter, copied } from "./parameters.js"
import { Flag } from "./protocol.js"
import type { Parameters, Statement } from "./protocol.js"
import { interrupt, run } from "./request.js"
import type { Route } from "./routing.js"

export const doorTo = (pool: Pool): Door => {
  const request = (sql: string, params: Parameters, flags: number) => {
    const text = pool.text(sql)
    return { text, asked: [text.id, undefined, copied(params), flags] as const }
  }
  const measured = (settled: (job: Job) => void) => (job: Job) => {
    pool.metrics.operated(performance.now() - job.queuedAt)
    settled(job)
  }
  const enter = (job: Job, route: Route, [, , params]: Statement) => {
    const why = badParameter(params)
    return why === undefined ? pool.submit(job, route) : job.settle(refused(why))
  }
  return {
    limits: pool,
    read: (sql, params, settle, isBatch) => {
      const { asked, text } = request(sql, params, Flag.Values)
      const job = new Job(asked, measured((job) => settle(job.error, job.rows)), text, true, "values", isBatch)
      enter(job, "read", asked)
      return () => void interrupt(job)
    },
    write: (sql, params) =>
      Effect.suspend(() => {
        const { asked, text } = request(sql, params, Flag.Grouped)
        const make = (settled: (job: Job) => void) => new Job(asked, measured(settled), text)
        return run(make, (job) => enter(job, "grouped", asked), (job) => job.changes)
      })
  }
}

/** Requests as effects. */
import type { SqlError } from "@effect/sql/SqlError"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { awaited } from "../awaited.js"
import { poolError } from "./errors.js"
import { Job } from "./job.js"
import type { Request } from "./protocol.js"

/** Takes a job to where it is queued. */
export type Submit = (job: Job) => void

/** Makes a job that calls this when it is settled. */
export type MakeJob = (settled: (job: Job) => void) => Job

/** Nobody sees this: whoever was interrupted does not wait for it. */
const takenBack = poolError("UnknownError", "execute", "The statement was interrupted.")

/** Takes a job back that has not begun. A read that runs is told to stop, and nobody waits for it. Answers whether that is the end of it. */
export const interrupt = (job: Job): boolean => {
  const { thread } = job
  if (job.status === "queued" || thread?.withdraw(job) === true) {
    job.settle(takenBack)
  } else if (job.status === "sent" && job.isRead) {
    thread?.cancel(job)
    job.settle(takenBack)
  }
  return job.status === "settled"
}

/** A read lets its caller go at once; what has begun to write is awaited. */
export const run = <A>(make: MakeJob, submit: Submit, take: (job: Job) => A): Effect.Effect<A, SqlError> =>
  awaited((settle) => {
    const job = make((job) => settle(job.error === takenBack ? undefined : exitOf(job, take)))
    submit(job)
    return job
  }, interrupt)

const exitOf = <A>(job: Job, take: (job: Job) => A): Exit.Exit<A, SqlError> =>
  job.error === undefined ? Exit.succeed(take(job)) : Exit.fail(job.error)

/** What is no statement of the caller. */
export const request = <A = void>(
  asked: Request,
  submit: Submit,
  take: (job: Job) => A = () => undefined as A
): Effect.Effect<A, SqlError> => run((settled) => new Job(asked, settled), submit, take)

/** BEGIN: it has changed nothing, and so its caller need not wait for it. */
export const requestRead = (asked: Request, submit: Submit): Effect.Effect<void, SqlError> =>
  run((settled) => new Job(asked, settled, undefined, true), submit, () => undefined)

/** Requests as effects: how a caller waits for one, and what interrupting it does. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { poolError } from "./errors.js"
import { Job } from "./job.js"
import type { Request } from "./protocol.js"

/** Takes a job to where it is queued. */
export type Submit = (job: Job) => void

/** Makes a job that calls this when it is settled. */
export type MakeJob = (settled: (job: Job) => void) => Job

/** Nobody sees this: whoever was interrupted does not wait for it. */
const takenBack = poolError("UnknownError", "execute", "The statement was interrupted.")

/** Takes a job back that has not begun. A read that runs is told to stop, and nobody waits for it. */
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
const letGo = (job: Job): Effect.Effect<void> =>
  Effect.suspend(() =>
    interrupt(job) ? Effect.void : Effect.async((resume) => {
      job.onSettled = () => resume(Effect.void)
    })
  )

/**
 * Waits for what becomes of a job, which is what the caller gets, also one that was interrupted when it was too late. An interruption is
 * seen to afterwards, not by a canceller of `Effect.async`: that would take longer than all the rest, and keep the job alive.
 */
export const run = <A>(make: MakeJob, submit: Submit, take: (job: Job) => A): Effect.Effect<A, SqlError> =>
  Effect.uninterruptibleMask((restore) => {
    let job: Job | undefined
    let outcome: Exit.Exit<A, SqlError> | undefined
    const asked = Effect.async<A, SqlError>((resume) => {
      job = make((job) => {
        const exit = exitOf(job, take)
        outcome = job.error === takenBack ? undefined : exit
        resume(exit)
      })
      submit(job)
    })
    return Effect.catchAllCause(restore(asked), (cause) => {
      const end = () => outcome ?? Effect.failCause(cause)
      return job === undefined || job.status === "settled" ? end() : Effect.flatMap(letGo(job), end)
    })
  })

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

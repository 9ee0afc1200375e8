/**
 * The connections to a server: opened when somebody waits for one, given to whoever has waited longest, closed when they were idle for a
 * while. A broken or a dirty one is given to nobody.
 *
 * The drivers' own pools are not used: that of mysql2 lets a nested acquire wait for ever.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { failure } from "../failure.js"
import type { Restore } from "../transaction.js"
import type { Engine, Session } from "./session.js"
import type { Settings } from "./settings.js"

interface Waiter {
  readonly resume: (outcome: Session | SqlError) => void
  /** Ends the waiting of somebody who does not want a connection any more. */
  readonly leave: () => void
}

const closed = () => failure("ConnectionError", "acquireConnection", "The pool is closed: its scope has ended.")

const isSession = (outcome: Session | SqlError): outcome is Session => "run" in outcome

export class ServerPool {
  /** The one used last comes last, and is the next to be given. */
  private readonly idle: Array<{ readonly session: Session; readonly since: number }> = []
  private readonly waiters = new Set<Waiter>()
  /** Open, opening or ending; and of these the ending ones, and what gives up the opening ones. */
  private size = 0
  private ending = 0
  private readonly opening = new Set<{ abort: () => void }>()
  private readonly used = new Set<Session>()
  private isClosed = false
  private onEmpty: (() => void) | undefined
  private reaper: NodeJS.Timeout | undefined

  constructor(readonly engine: Engine, readonly settings: Settings) {}

  /** A connection of one's own, until it is given back; `undefined` where one has to be waited for. */
  private takeNow(): Session | undefined {
    // Nobody is passed by: while somebody waits none is idle.
    for (let entry = this.idle.pop(); entry !== undefined; entry = this.idle.pop()) {
      if (!entry.session.isBroken) {
        this.used.add(entry.session)
        return entry.session
      }
      this.dropped()
    }
    return undefined
  }

  /** The same, waiting for at most `acquireTimeout`, as interruptibly as `restore` makes it; a batch also where too many wait. */
  take(restore: Restore, isBatch = false): Effect.Effect<Session, SqlError> {
    return Effect.suspend(() => {
      const refusal = this.refusal(isBatch)
      if (refusal !== undefined) {
        return Effect.fail(refusal)
      }
      const session = this.takeNow()
      if (session !== undefined) {
        return Effect.succeed(session)
      }
      let waiter: Waiter | undefined
      const granted = Effect.async<Session, SqlError>((resume) => {
        waiter = this.wait((outcome) => resume(isSession(outcome) ? Effect.succeed(outcome) : Effect.fail(outcome)))
      })
      return Effect.onInterrupt(restore(granted), () => Effect.sync(() => waiter?.leave()))
    })
  }

  private wait(resume: (outcome: Session | SqlError) => void): Waiter {
    let given: Session | undefined
    const { acquireTimeout } = this.settings
    const end = () => {
      this.waiters.delete(waiter)
      clearTimeout(timer)
    }
    const waiter: Waiter = {
      resume: (outcome) => {
        end()
        if (isSession(outcome)) {
          given = outcome
          this.used.add(outcome)
        }
        resume(outcome)
      },
      leave: () => {
        end()
        // It was granted at the moment of the interruption.
        if (given !== undefined) {
          this.give(given)
        }
      }
    }
    const timer = setTimeout(() => waiter.resume(timedOut(acquireTimeout)), acquireTimeout)
    this.waiters.add(waiter)
    this.grow()
    return waiter
  }

  private refusal(isBatch: boolean): SqlError | undefined {
    const { maxQueue } = this.settings
    return this.isClosed
      ? closed()
      : !isBatch && this.waiters.size >= maxQueue
      ? failure(
        "ConnectionError",
        "acquireConnection",
        `The pool refuses more work: ${maxQueue} wait for a connection already.`
      )
      : undefined
  }

  give(session: Session): void {
    this.used.delete(session)
    if (session.isBroken) {
      this.dropped()
    } else if (session.isDirty || session.isSpent || this.isClosed) {
      this.retire(session)
    } else {
      this.grant(session)
    }
  }

  /** Gives up what is being opened, lets those who use a connection finish for a while, and then cuts them off. */
  readonly close: Effect.Effect<void> = Effect.async<void>((resume) => {
    this.isClosed = true
    clearTimeout(this.reaper)
    this.waiters.forEach((waiter) => waiter.resume(closed()))
    const timer = setTimeout(() => {
      this.used.forEach((session) => session.destroy())
      resume(Effect.void)
    }, this.settings.closeTimeout)
    this.onEmpty = () => {
      clearTimeout(timer)
      resume(Effect.void)
    }
    this.idle.splice(0).forEach(({ session }) => this.retire(session))
    this.opening.forEach(({ abort }) => abort())
    this.checkEmpty()
  })

  private grant(session: Session): void {
    const [waiter] = this.waiters
    if (waiter !== undefined) {
      waiter.resume(session)
    } else {
      this.idle.push({ session, since: performance.now() })
      this.reaper ??= setTimeout(this.reap, this.settings.idleTimeout).unref()
    }
  }

  private grow(): void {
    while (!this.isClosed && this.size < this.settings.maxConnections && this.opening.size < this.waiters.size) {
      this.size++
      const attempt = { abort: () => {} }
      this.opening.add(attempt)
      attempt.abort = this.engine.connect((outcome) => {
        this.opening.delete(attempt)
        if (isSession(outcome)) {
          this.give(outcome)
        } else {
          // Whoever has waited longest learns why; for the others it is tried again.
          const [waiter] = this.waiters
          waiter?.resume(outcome)
          this.dropped()
        }
      })
    }
  }

  private retire(session: Session): void {
    this.ending++
    session.end(() => {
      this.ending--
      this.dropped()
    })
  }

  /** A connection is no more: there is room for another. */
  private dropped(): void {
    this.size--
    this.grow()
    this.checkEmpty()
  }

  private checkEmpty(): void {
    if (this.isClosed && this.size === 0) {
      this.onEmpty?.()
    }
  }

  private readonly reap = (): void => {
    const { idleTimeout, minConnections } = this.settings
    const then = performance.now() - idleTimeout
    while (this.idle.length > 0) {
      const { session, since } = this.idle[0]!
      if (!session.isBroken && (since > then || this.size - this.ending <= minConnections)) {
        break
      }
      this.idle.shift()
      this.retire(session)
    }
    this.reaper = this.idle.length === 0 ? undefined : setTimeout(this.reap, idleTimeout).unref()
  }
}

const timedOut = (milliseconds: number) =>
  failure(
    "ConnectionError",
    "acquireConnection",
    `No connection was free within ${milliseconds} ms. Is a transaction waiting for a second connection, or is the pool too small?`
  )

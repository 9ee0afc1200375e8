/**
 * What one has at a time, first come first served. A semaphore whose waiting is cut off by a timeout can lose a permit that is granted at the
 * moment of the timeout or of an interruption: here it is given back.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { Restore } from "./transaction.js"

export class Turn {
  private isTaken = false
  private readonly waiters = new Set<() => void>()

  constructor(private readonly timeout: number, private readonly timedOut: () => SqlError) {}

  /** Waits as interruptibly as `restore` makes it. */
  take(restore: Restore): Effect.Effect<void, SqlError> {
    return Effect.suspend(() => {
      if (!this.isTaken) {
        this.isTaken = true
        return Effect.void
      }
      let isGranted = false
      let leave = () => {}
      const granted = Effect.async<void, SqlError>((resume) => {
        const grant = () => {
          isGranted = true
          clearTimeout(timer)
          resume(Effect.void)
        }
        leave = () => {
          this.waiters.delete(grant)
          clearTimeout(timer)
        }
        const timer = setTimeout(() => {
          this.waiters.delete(grant)
          resume(Effect.fail(this.timedOut()))
        }, this.timeout)
        this.waiters.add(grant)
      })
      return Effect.onInterrupt(restore(granted), () => Effect.sync(() => isGranted ? this.pass() : leave()))
    })
  }

  readonly release: Effect.Effect<void> = Effect.sync(() => this.pass())

  private pass(): void {
    const [next] = this.waiters
    if (next === undefined) {
      this.isTaken = false
    } else {
      this.waiters.delete(next)
      next()
    }
  }
}

/** What readers and writer have in common: how often they look after their queue, and how a thread that died is replaced. */

/** What runs once at the end of the current turn, however often it is asked for. */
export interface OncePerTurn {
  (): void
  /** Runs it at once, where it was asked for. */
  readonly now: () => void
}

export const oncePerTurn = (run: () => void): OncePerTurn => {
  let isDue = false
  const now = () => {
    if (isDue) {
      isDue = false
      run()
    }
  }
  const ask = () => {
    if (!isDue) {
      isDue = true
      queueMicrotask(now)
    }
  }
  return Object.assign(ask, { now })
}

/** After a death a thread is started again: after 10 ms, then later and later while it keeps dying; after a second at most. */
export class Restart {
  private failures = 0
  private timer: NodeJS.Timeout | undefined

  get isDue(): boolean {
    return this.timer !== undefined
  }

  schedule(run: () => void): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined
      run()
    }, Math.min(10 * 2 ** this.failures++, 1_000))
  }

  /** A thread has opened its connection. */
  succeeded(): void {
    this.failures = 0
  }

  cancel(): void {
    clearTimeout(this.timer)
    this.timer = undefined
  }
}

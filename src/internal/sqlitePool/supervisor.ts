/** What readers and writer have in common: how often they look after their queue, and how a thread that died is replaced. */

/** Runs it once at the end of the current turn, however often it is asked for. */
export const oncePerTurn = (run: () => void): () => void => {
  let isDue = false
  const turn = () => {
    isDue = false
    run()
  }
  return () => {
    if (!isDue) {
      isDue = true
      queueMicrotask(turn)
    }
  }
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

/** How a caller waits for what others do for it, and what interrupting it does. */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"

/**
 * Asks for something, and waits for what becomes of it. Whoever is interrupted meanwhile has it taken back and goes; where it is too late for
 * that (`takeBack` answers no) it is awaited, and its caller learns what became of it. `settle` is called once: with nothing where it was taken back.
 *
 * Not by a canceller of `Effect.async`: that takes longer than all the rest, and keeps what was asked for alive until a full collection.
 */
export const awaited = <Asked extends object, A, E>(
  ask: (settle: (exit: Exit.Exit<A, E> | undefined) => void) => Asked,
  takeBack: (asked: Asked) => boolean
): Effect.Effect<A, E> =>
  Effect.uninterruptibleMask((restore) => {
    let asked: Asked | undefined
    let isSettled = false
    let outcome: Exit.Exit<A, E> | undefined
    let onSettled: (() => void) | undefined
    const run = Effect.async<A, E>((resume) => {
      asked = ask((exit) => {
        isSettled = true
        outcome = exit
        if (exit !== undefined) {
          resume(exit)
        }
        onSettled?.()
      })
    })
    const settled = Effect.async<void>((resume) => {
      onSettled = () => resume(Effect.void)
    })
    return Effect.catchAllCause(restore(run), (cause) => {
      const end = () => outcome ?? Effect.failCause(cause)
      return asked === undefined || isSettled || takeBack(asked) ? end() : Effect.flatMap(settled, end)
    })
  })

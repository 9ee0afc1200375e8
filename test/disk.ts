/** A pool in a process of its own, which `fixtures/disk.mjs` is: its disk may fail, and nobody else's with it. */
import { assert } from "@effect/vitest"
import type { DatabaseError } from "effect-avatars"
import { Effect } from "effect"
import type { Scope } from "effect"
import { startUnder } from "./programs.js"

/** What became of a command. */
export type Answer =
  | { readonly is: "done"; readonly value?: unknown }
  | ({ readonly is: "failed" } & Pick<DatabaseError.DatabaseError, "code" | "message" | "outcome" | "reason">)

export interface Disk {
  readonly pid: number
  /** Asks for a command of the fixture; it settles within 20 seconds, with a value or a failure of the type. */
  readonly ask: (command: string, ...args: ReadonlyArray<unknown>) => Effect.Effect<Answer>
  /** What it is done with. */
  readonly done: <A = unknown>(command: string, ...args: ReadonlyArray<unknown>) => Effect.Effect<A>
  /** What it fails with. */
  readonly failed: (
    command: string,
    ...args: ReadonlyArray<unknown>
  ) => Effect.Effect<Extract<Answer, { readonly is: "failed" }>>
}

/** The pool's process, started by another command, which becomes it. The pool is opened by the command `open`. */
export const startDisk = (
  filename: string,
  options: { readonly under?: ReadonlyArray<string>; readonly config?: object } = {}
): Effect.Effect<Disk, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { line, say } = yield* startUnder(
      options.under ?? [],
      "disk.mjs",
      filename,
      JSON.stringify(options.config ?? {})
    )
    const pid = Number(yield* line)
    const ask: Disk["ask"] = (...command) =>
      Effect.zipRight(say(JSON.stringify(command)), line).pipe(
        Effect.timeoutFail({ duration: "20 seconds", onTimeout: () => new Error(`it hangs: ${command.join(" ")}`) }),
        Effect.orDie,
        Effect.map((answer) => {
          assert.notStrictEqual(answer, "undefined", `its process ended: ${command.join(" ")}`)
          const { is, ...rest } = JSON.parse(answer) as Answer | { readonly is: "defect" }
          assert(is !== "defect", `${command.join(" ")}: ${answer}`)
          return { is, ...rest } as Answer
        })
      )
    return {
      pid,
      ask,
      done: <A>(...command: Parameters<Disk["ask"]>) =>
        Effect.map(ask(...command), (answer) => {
          assert(answer.is === "done", `${command.join(" ")}: ${JSON.stringify(answer)}`)
          return answer.value as A
        }),
      failed: (...command) =>
        Effect.map(ask(...command), (answer) => {
          assert(answer.is === "failed", `${command.join(" ")} is done`)
          assert.match(answer.message, /^[A-Z][^\n]*\.$/)
          return answer
        })
    }
  })

/** Programs of the fixtures that the tests talk to. */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

/** A script of the fixtures, which runs until the scope ends. */
export const start = (script: string, ...args: ReadonlyArray<string>) => startUnder([], script, ...args)

/** The same, started by another command, which becomes it. */
export const startUnder = (command: ReadonlyArray<string>, script: string, ...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const fixture = fileURLToPath(new URL(`./fixtures/${script}`, import.meta.url))
      const [file, ...rest] = [...command, process.execPath, fixture, ...args]
      return spawn(file!, rest, { stdio: ["pipe", "pipe", "inherit"] })
    }),
    (child) =>
      Effect.async<void>((resume) => {
        if (!child.kill()) {
          return resume(Effect.void)
        }
        child.once("close", () => resume(Effect.void))
      })
  ).pipe(Effect.map((child) => {
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    return {
      say: (line: string) => Effect.sync(() => void child.stdin.write(`${line}\n`)),
      line: Effect.map(Effect.promise(() => lines.next()), ({ value }) => String(value))
    }
  }))

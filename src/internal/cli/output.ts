/** Standard output, as what may be full, closed, or read by nobody any more. */
import type * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { Failed, tell } from "./terminal.js"

/** In place of a file: standard input or output. No file has such a name. */
export const standard = "\0"

/** A text on standard output, when it is written. Fails with `gone` where nobody reads it any more. */
export const print = (text: string): Effect.Effect<void, Failed | typeof gone> =>
  Effect.async((resume) => {
    const fail = (error: unknown) => resume(Effect.fail(isGone(error) ? gone : failedTo("written", standard)(error)))
    try {
      process.stdout.write(text, (error) => error == null ? resume(Effect.void) : fail(error))
    } catch (error) {
      fail(error)
    }
  })

/** A line on standard output; nobody need read it. */
export const printLine = (text: string): Effect.Effect<void, Failed> =>
  Effect.catchIf(print(`${text}\n`), (error): error is typeof gone => error === gone, () => Effect.void)

/** The terminal as it is: what cannot be printed is told. */
export const terminal: Console.Console = {
  ...Effect.runSync(Effect.console),
  log: (text: unknown) =>
    Effect.catchAll(
      printLine(String(text)),
      (failure) => Effect.withConsole(tell(failure), Effect.runSync(Effect.console))
    )
}

/** Whoever reads standard output has gone, and wants no more. */
export const gone = "gone" as const

const isGone = (error: unknown) => error instanceof Error && "code" in error && error.code === "EPIPE"

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or directory",
  EACCES: "this user may not do that",
  EPERM: "this user may not do that",
  EISDIR: "it is a directory",
  ENOTDIR: "a part of its path is no directory",
  EEXIST: "it is there already",
  ENOSPC: "the disk is full",
  EROFS: "the file system is read-only",
  EMFILE: "too many files are open",
  ENAMETOOLONG: "its name is too long",
  EIO: "the disk failed"
}

export const nameOf = (done: "read" | "written", file: string) =>
  file !== standard ? `The file '${file}'` : done === "read" ? "Standard input" : "Standard output"

export const failedTo = (done: "read" | "written", file: string) => (error: unknown): Failed => {
  const code = error instanceof Error && "code" in error ? String(error.code) : "no code"
  const reason = reasons[code] ?? "the reason has no name here"
  return new Failed("file", `${nameOf(done, file)} could not be ${done}: ${reason} (${code}).`)
}

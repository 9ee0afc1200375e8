/** Faults that `strace` puts into the system calls of a process which is running, and takes away again. */
import { Effect } from "effect"
import type { Scope } from "effect"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import { createInterface } from "node:readline"

/** Why it cannot be used here. */
export const missing = (): string | undefined =>
  spawnSync("strace", ["-f", "-o", "/dev/null", "true"]).status === 0
    ? undefined
    : "strace is not installed, or may not trace"

export interface Faults {
  /** The calls; what they fail with, if they do; and which of them: "3" the third, "3+" all from the third. Counted in each thread by itself. */
  readonly calls: ReadonlyArray<string>
  readonly error?: string
  readonly when?: string
  /** Only calls that concern these files. */
  readonly files: ReadonlyArray<string>
}

/** What was called: by which thread, what, and whether it was made to fail. */
export interface Call {
  readonly thread: string
  readonly name: string
  readonly isFailed: boolean
}

/** Puts faults in; answers what takes them away, and tells what was called. */
export const inject = (
  pid: number,
  { calls, error, files, when = "1+" }: Faults
): Effect.Effect<Effect.Effect<ReadonlyArray<Call>>, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<{ readonly lift: Effect.Effect<void> }>((resume) => {
        const injected = error === undefined ? [] : ["-e", `inject=${calls.join()}:error=${error}:when=${when}`]
        const paths = files.flatMap((file) => ["-P", file])
        const args = ["-f", "-p", String(pid), "-o", logOf(pid), "-e", `trace=${calls.join()}`, ...injected, ...paths]
        const strace = spawn("strace", args, { stdio: ["ignore", "ignore", "pipe"] })
        const closed = new Promise((resolve) => strace.once("close", resolve))
        createInterface({ input: strace.stderr }).on("line", (line) => {
          if (line.includes(`Process ${pid} attached`)) {
            resume(Effect.succeed({ lift: Effect.promise(() => end(strace, closed)) }))
          }
        })
        strace.once("close", (code) => resume(Effect.dieMessage(`strace ended with ${code}`)))
      }),
      ({ lift }) => Effect.zipRight(lift, Effect.sync(() => fs.rmSync(logOf(pid), { force: true })))
    ),
    ({ lift }) =>
      Effect.map(lift, () =>
        fs.readFileSync(logOf(pid), "utf8").split("\n").flatMap((line) => {
          const [, thread, name] = /^(\d+) +(\w+)\(/.exec(line) ?? []
          return thread === undefined ? [] : [{ thread, name: name!, isFailed: line.includes("(INJECTED)") }]
        }))
  )

/** Where its tracee was killed under it, strace may wait for that for ever: what it has seen is in its log already. */
const end = (strace: ChildProcess, closed: Promise<unknown>): Promise<unknown> => {
  strace.kill("SIGINT")
  const timeout = setTimeout(() => strace.kill("SIGKILL"), 1_000)
  return closed.finally(() => clearTimeout(timeout))
}

const logOf = (pid: number) => `/tmp/effect-avatars-strace-${pid}`

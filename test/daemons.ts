/** Programs that serve: each in a temporary directory, started, killed and frozen at will, and ended with the scope of a test. */
import { Effect, Schedule, type Scope } from "effect"
import { spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import { createServer } from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { createInterface } from "node:readline"

/** Whom a program runs as; without an id as whoever runs the tests. */
export interface User {
  readonly uid?: number
  readonly gid?: number
}

/** For programs that refuse to run as root. */
export const nobody: User = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}

/** Where servers are that stand in no user's PATH. */
const directories = (process.env["PATH"] ?? "").split(path.delimiter).concat("/usr/sbin", "/usr/local/sbin")

/** The program of this name that runs here as the user, if there is one. */
export const find = (name: string, user: User, more: ReadonlyArray<string> = []): string | undefined =>
  [...more, ...directories].map((directory) => path.join(directory, name)).find((file) =>
    fs.existsSync(file) && canRun(file, user)
  )

/** It starts, and finds its libraries; one does not know `--version`. */
const canRun = (file: string, user: User) => {
  const { error, status } = spawnSync(file, ["--version"], { ...user, cwd: "/" })
  return error === undefined && status !== 127
}

/**
 * Waits until its stdin ends, as it does however the process of the tests ends; then stops what has left `<signal> <pid>` in a file of the
 * directory, and removes the directory.
 */
const guard = `
  trap '' INT TERM HUP
  cat > /dev/null
  for file in "$1"/*.pid; do
    if read -r signal pid < "$file"; then
      all="$pid $(pgrep -P "$pid" | tr '\\n' ' ')"
      kill -CONT $all
      kill -"$signal" "$pid"
      for _ in $(seq 100); do kill -0 "$pid" || break; sleep 0.05; done
      kill -KILL -- $all -"$pid"
    fi
  done
  rm -rf "$1"
`

/** A directory of the user's, which goes with the scope or with this process, and before it the programs that run in it. */
export const programDirectory = (user: User): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const directory = fs.mkdtempSync(path.join(os.tmpdir(), "effect-avatars-server-"))
        if (user.uid !== undefined && user.gid !== undefined) {
          fs.chownSync(directory, user.uid, user.gid)
        }
        const stdio: ["pipe", "ignore", "ignore"] = ["pipe", "ignore", "ignore"]
        return { directory, guardian: spawn("sh", ["-c", guard, "guard", directory], { detached: true, stdio }) }
      }),
      ({ guardian }) =>
        Effect.async<void>((resume) => {
          guardian.once("exit", () => resume(Effect.void))
          guardian.stdin.end()
        })
    ),
    ({ directory }) => directory
  )

/** Starts a program in a directory from `programDirectory`, with which it ends. */
const begin = (options: {
  readonly file: string
  readonly args: ReadonlyArray<string>
  readonly user: User
  readonly directory: string
  readonly stopSignal: "QUIT" | "KILL"
}) => {
  const { args, directory, file, stopSignal, user } = options
  const child = spawn(file, args, { ...user, cwd: directory, detached: true, stdio: ["ignore", "pipe", "pipe"] })
  if (child.pid !== undefined) {
    const pidFile = path.join(directory, `${child.pid}.pid`)
    fs.writeFileSync(pidFile, `${stopSignal} ${child.pid}\n`)
    child.once("exit", () => fs.rmSync(pidFile, { force: true }))
  }
  return child
}

/** Runs a program to its end, which must be good: what it said. */
export const run = (file: string, args: ReadonlyArray<string>, user: User, directory: string): Effect.Effect<string> =>
  Effect.async((resume) => {
    const child = begin({ file, args, user, directory, stopSignal: "KILL" })
    const said: Array<string> = []
    for (const output of [child.stdout, child.stderr]) {
      output.on("data", (data) => said.push(String(data)))
    }
    child.once("error", (error) => resume(Effect.die(error)))
    child.once("close", (code) => {
      const output = said.join("")
      resume(code === 0 ? Effect.succeed(output) : Effect.dieMessage(`${file} ended with ${code}: ${output}`))
    })
  })

export interface Program {
  /** Starts it, again as it was, and waits until it serves. */
  readonly start: Effect.Effect<void>
  /** Ends all its processes at once, by SIGKILL, and waits until they are gone. */
  readonly kill: Effect.Effect<void>
  /** Stops all its processes where they are, by SIGSTOP. */
  readonly freeze: Effect.Effect<void>
  /** Lets them go on. */
  readonly thaw: Effect.Effect<void>
}

export const makeProgram = (options: {
  readonly file: string
  /** Asked for at each start. */
  readonly args: Effect.Effect<ReadonlyArray<string>>
  readonly user: User
  /** One from `programDirectory`. */
  readonly directory: string
  /** The line on its stderr that says that it serves; where it says none, `start` does not wait. */
  readonly ready?: RegExp
  readonly stopSignal: "QUIT" | "KILL"
}): Program => {
  const { directory, file, ready, stopSignal, user } = options
  let running: number | undefined
  let frozen: NodeJS.Timeout | undefined

  const startOnce = (args: ReadonlyArray<string>) =>
    Effect.async<void, string>((resume) => {
      const child = begin({ file, args, user, directory, stopSignal })
      const said: Array<string> = []
      running = child.pid
      child.once("error", (error) => resume(Effect.die(error)))
      child.once("exit", (code, signal) => {
        running = undefined
        resume(Effect.fail(`${file} ended with ${code ?? signal}:\n${said.join("\n")}`))
      })
      child.stdout.resume()
      createInterface({ input: child.stderr }).on("line", (line) => {
        said.push(line)
        if (ready?.test(line)) {
          resume(Effect.void)
        }
      })
      if (ready === undefined) {
        resume(Effect.void)
      }
    })

  /** The program, which then makes no more processes, and those that it has made, of which some are in groups of their own. */
  const signal = (signal: NodeJS.Signals): ReadonlyArray<number> => {
    if (running === undefined) {
      return []
    }
    const pid = running
    const before = childrenOf(pid)
    send(-pid, signal)
    const all = new Set([pid, ...before, ...childrenOf(pid)])
    all.forEach((one) => send(one, signal))
    return [...all]
  }

  return {
    // What a killed one held, its port and its shared memory, may be free only a moment later.
    start: Effect.flatMap(options.args, startOnce).pipe(
      Effect.retry(Schedule.intersect(Schedule.spaced("250 millis"), Schedule.recurs(20))),
      Effect.orDieWith((why) => new Error(why))
    ),
    kill: Effect.suspend(() => {
      const pids = signal("SIGKILL")
      const isGone = Effect.sync(() => running === undefined && !pids.some((pid) => send(pid, 0)))
      return Effect.asVoid(Effect.repeat(isGone, { until: (gone) => gone, schedule: Schedule.spaced("5 millis") }))
    }),
    freeze: Effect.sync(() => {
      const pids = signal("SIGSTOP")
      // A virtual machine that is paused and resumed lets them go on.
      frozen = setInterval(() => pids.forEach((pid) => send(pid, "SIGSTOP")), 100)
    }),
    thaw: Effect.sync(() => {
      clearInterval(frozen)
      signal("SIGCONT")
    })
  }
}

const childrenOf = (pid: number): ReadonlyArray<number> =>
  spawnSync("pgrep", ["-P", String(pid)]).stdout.toString().split("\n").filter(Boolean).map(Number)

/** Whether there is such a process. */
const send = (pid: number, signal: NodeJS.Signals | 0): boolean => {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}

/**
 * The first of some successive ports of loopback that are free. Below those that a system gives to clients: one of these could
 * take the port of a server that is down.
 */
export const freePorts = (count: number): Effect.Effect<number> =>
  Effect.suspend(() => {
    const first = 20_000 + Math.floor(Math.random() * 12_000)
    const ports = Array.from({ length: count }, (_, i) => first + i)
    return Effect.as(Effect.forEach(ports, isFree, { discard: true }), first)
  }).pipe(Effect.eventually)

const isFree = (port: number) =>
  Effect.async<void, Error>((resume) => {
    const server = createServer()
    server.once("error", (error) => resume(Effect.fail(error)))
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.void)))
  })

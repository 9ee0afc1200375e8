/**
 * The processes of the systems, one each, every one with a copy of the database of its own. The parent asks one at a
 * time.
 */
import { execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { serverSystems, systems } from "./systems.mjs"
import { rightDigest } from "./users.mjs"

const path = (name) => fileURLToPath(new URL(name, import.meta.url))

const canImportTwisted = (python) => {
  try {
    execFileSync(python, ["-c", "import twisted.enterprise.adbapi"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}

const python = ["python3", "/usr/bin/python3"].find(canImportTwisted)

/** Why a system cannot be measured on this machine, if so. */
export const whyAbsent = (name) =>
  systems[name].python !== undefined && python === undefined
    ? "Twisted is not installed (Debian: apt-get install python3-twisted)"
    : undefined

const commandOf = (name, file, { nodeOptions = [], poolOptions = {} }) => {
  const system = systems[name] ?? serverSystems[name]
  return system.python === undefined
    ? [
      process.execPath,
      ...nodeOptions,
      path("child.mjs"),
      system.module,
      system.opener,
      file,
      JSON.stringify(poolOptions)
    ]
    : [python, path(`peers/${system.python}`), file]
}

/**
 * Starts a system on a file. Options: `poolOptions` of our pool, `nodeOptions`, and `under`, a command that runs the
 * process (strace). Answers the `versions` that it tells, `ask(task, request)`, and `end()`, which closes it and waits
 * for its process.
 */
export const start = async (name, file, { under = [], ...options } = {}) => {
  const [command, ...args] = [...under, ...commandOf(name, file, options)]
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] })
  const exit = new Promise((resolve) => child.once("close", resolve))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const answer = async () => {
    const { done, value } = await lines.next()
    if (done) {
      throw new Error(`${name}: its process ended.`)
    }
    const { error, ...told } = JSON.parse(value)
    if (error !== undefined) {
      throw new Error(`${name}: ${error}`)
    }
    return told
  }
  const { versions } = await answer()
  return {
    versions,
    ask: (task, request = {}) => {
      child.stdin.write(`${JSON.stringify({ task, ...request })}\n`)
      return answer()
    },
    end: () => {
      child.stdin.end()
      return exit
    }
  }
}

/** Starts a system on a copy of a file. */
export const startOnCopy = (name, file, options) => {
  const copy = `${file}-${name.replace(/\W+/g, "-")}-${process.hrtime.bigint()}`
  fs.copyFileSync(file, copy)
  return start(name, copy, options)
}

/** Starts systems by name, uses them, and ends them. */
export const using = async (starting, use) => {
  const children = {}
  try {
    for (const [key, child] of Object.entries(starting)) {
      children[key] = await child()
    }
    return await use(children)
  } finally {
    await Promise.all(Object.values(children).map((child) => child.end()))
  }
}

/** Answers a second, of answers that are checked: all `count` users, each lookup with the right one. */
export const rateOf = ({ answered, digests, took }, { count, users }) => {
  if (digests.length !== 1 || digests[0] !== rightDigest(count, users)) {
    throw new Error("Lookups were answered wrongly.")
  }
  return answered / took * 1_000
}

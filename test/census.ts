/** What a process has that must not become more. */
import { Effect } from "effect"
import * as fs from "node:fs"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

/** Why it cannot be told. */
export const noCensus = fs.existsSync("/proc/self/fd")
  ? undefined
  : "this system does not tell which files and threads a process has"

export interface Census {
  readonly files: number
  readonly threads: number
  readonly listeners: ReadonlyArray<readonly [name: string | symbol, count: number]>
}

const census = (): Census => ({
  files: fs.readdirSync("/proc/self/fd").length,
  threads: fs.readdirSync("/proc/self/task").length,
  listeners: process.eventNames().map((name) => [name, process.listenerCount(name)])
})

/** The census, once it is as expected, or no longer changes for a second. */
export const settledCensus = (expected?: Census) =>
  Effect.gen(function*() {
    let last = census()
    const isExpected = () => JSON.stringify(last) === JSON.stringify(expected)
    for (let since = performance.now(); !isExpected() && performance.now() - since < 1_000;) {
      yield* Effect.sleep(50)
      const now = census()
      since = JSON.stringify(now) === JSON.stringify(last) ? since : performance.now()
      last = now
    }
    return last
  })

export interface Memory {
  readonly heap: number
  readonly resident: number
}

let gc: (() => void) | undefined

/** What is used after all garbage was collected (bytes): the least of what was seen within a second. */
export const collectedMemory: Effect.Effect<Memory> = Effect.gen(function*() {
  if (gc === undefined) {
    setFlagsFromString("--expose-gc")
    gc = runInNewContext("gc") as () => void
  }
  let [heap, resident] = [Infinity, Infinity]
  for (let i = 0; i < 10; i++) {
    gc()
    yield* Effect.sleep(100)
    const { heapUsed, rss } = process.memoryUsage()
    heap = Math.min(heap, heapUsed)
    resident = Math.min(resident, rss)
  }
  return { heap, resident }
})

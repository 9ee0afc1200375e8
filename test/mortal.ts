/** Threads of a pool that die as a test wants them to: real threads, that die by what kills threads. */
import { Effect } from "effect"
import { syncBuiltinESMExports } from "node:module"
import workerThreads, { type Worker, type WorkerOptions } from "node:worker_threads"

/** What kills a thread. */
export const kinds = {
  /** As the pool stops its own threads. */
  stop: -2,
  /** `Worker.terminate`, at any machine instruction. */
  terminate: -1,
  /** `process.exit` in it. */
  exit: 1,
  /** An exception that nothing in it catches for good. */
  exception: 2,
  /** More memory than `resourceLimits` let it have. */
  heap: 3
} as const

/** Where a thread dies by `exit`, `exception` or `heap`; an exception only `anywhere`. */
export const points = { anywhere: 0, beforeWrite: 2, afterWrite: 3, beforeCommit: 4, afterCommit: 5 } as const

export type Kind = keyof typeof kinds
export type Point = keyof typeof points

export class Mortal {
  readonly ended: Promise<unknown>
  isAlive = true

  constructor(
    readonly role: "writer" | "reader" | "both",
    private readonly worker: Worker,
    private readonly words: Int32Array,
    private readonly death: Int32Array
  ) {
    this.ended = new Promise((resolve) => {
      worker.once("exit", (code) => {
        this.isAlive = false
        resolve(code)
      })
    })
  }

  /** Has it die, and tells whether it is dead: it has 20 seconds to come to the point. */
  kill(kind: Kind, point: Point = "anywhere"): Effect.Effect<boolean> {
    return Effect.suspend(() => {
      if (kind === "terminate") {
        void this.worker.terminate()
      } else if (kind === "stop") {
        Atomics.store(this.words, 2, 2)
      } else {
        Atomics.store(this.death, 1, points[point])
        Atomics.store(this.death, 0, kinds[kind])
      }
      // Whatever it sleeps on.
      Atomics.notify(this.words, 0)
      Atomics.notify(this.words, 1)
      return Effect.timeoutTo(Effect.promise(() => this.ended), {
        duration: "20 seconds",
        onSuccess: () => true,
        onTimeout: () => false
      })
    })
  }
}

/** Has all threads that are started until the scope ends be such; those that live, the oldest first. */
export const mortals = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const alive = new Set<Mortal>()
      const { Worker } = workerThreads
      class MortalWorker extends Worker {
        constructor(entry: string | URL, options: WorkerOptions) {
          const death = new Int32Array(new SharedArrayBuffer(8))
          super(new URL("fixtures/mortal-worker.mjs", import.meta.url), {
            ...options,
            workerData: { ...options.workerData, death, entry: String(entry) },
            resourceLimits: { ...options.resourceLimits, maxOldGenerationSizeMb: 16 }
          })
          const { options: { role }, words } = options.workerData
          const mortal = new Mortal(role, this, words, death)
          alive.add(mortal)
          this.once("exit", () => alive.delete(mortal))
        }
      }
      replace(MortalWorker)
      return { alive, restore: () => replace(Worker) }
    }),
    ({ restore }) => Effect.sync(restore)
  ),
  ({ alive }) => alive
)

const replace = (by: unknown) => {
  Object.assign(workerThreads, { Worker: by })
  syncBuiltinESMExports()
}

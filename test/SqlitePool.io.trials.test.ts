/**
 * I/O errors at every system call that a pool makes on its files, while it writes and while it reads: `strace` makes the k-th call fail, or all
 * from the k-th, of each of the pool's threads.
 */
import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Cause, Effect } from "effect"
import * as fs from "node:fs"
import { type Answer, type Disk, startDisk } from "./disk.js"
import { temporaryFile } from "./layers.js"
import { inject, missing } from "./strace.js"
import { type Figures, isEndurance, trials } from "./trials.js"

type Command = readonly [name: string, ...args: ReadonlyArray<string | number>]

/** A file to begin with, what is asked for, and what a read of it answers, if that is known. */
interface Work {
  readonly make: (file: string) => void
  readonly commands: ReadonlyArray<Command>
  readonly rows?: ReadonlyArray<number>
}

interface Fault {
  readonly call: string
  readonly error: string
  readonly k: number
  /** All calls from the k-th, not it alone. */
  readonly stays: boolean
  /** While it is there the process dies, or the pool is closed; otherwise the pool goes on when it is gone. */
  readonly end: "killed" | "closed" | "lifted"
}

const create = ["run", "create table if not exists t (n integer primary key, bytes)"] as const

const numbers = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i)

const works: Record<string, Work> = {
  writes: {
    make: () => {},
    commands: [
      create,
      ["write", 1, 100],
      ["group", 10, 4, 2_000],
      ["transaction", 20, 2, 6_000],
      ["run", "pragma wal_checkpoint(truncate)"],
      ["write", 2, 100],
      ["read"]
    ]
  },
  reads: {
    make: (file) => {
      // As a crash leaves it: a part of it is in the WAL.
      const db = new Sqlite(`${file}.made`)
      db.exec("pragma journal_mode = wal; create table t (n integer primary key, bytes)")
      const insert = db.prepare("insert into t values (?, zeroblob(2000))")
      numbers(1, 20).forEach((n) => insert.run(n))
      db.pragma("wal_checkpoint(truncate)")
      numbers(21, 10).forEach((n) => insert.run(n))
      ;["", "-wal"].forEach((end) => fs.copyFileSync(`${file}.made${end}`, file + end))
      db.close()
    },
    commands: [["read"], ["reads"], ["snapshot"], ["stream"], ["run", "select sum(length(bytes)) from t"]],
    rows: numbers(1, 30)
  }
}

const filesOf = (file: string) => ["", "-wal", "-shm", "-journal"].map((end) => file + end)

/** What is known of rows after a work: `certain` ones are not there, `possible` ones may be. */
interface Known {
  readonly acknowledged: Set<number>
  readonly certain: Set<number>
  readonly possible: Set<number>
  unknown: number
  failures: number
}

const note = (known: Known, rows: ReadonlyArray<number>, answer: Answer) => {
  const isUnknown = answer.is === "failed" && answer.outcome === "unknown"
  known.unknown += isUnknown ? 1 : 0
  known.failures += answer.is === "failed" ? 1 : 0
  const which = isUnknown ? known.possible : answer.is === "done" ? known.acknowledged : known.certain
  rows.forEach((n) => which.add(n))
}

const run = ({ ask }: Disk, known: Known, [name, ...args]: Command, rows?: ReadonlyArray<number>) =>
  Effect.map(ask(name, ...args), (answer) => {
    const [from = 0, count = 0] = args.map(Number)
    if (name === "group" && answer.is === "done") {
      const members = answer.value as ReadonlyArray<Answer>
      members.forEach((member, i) => note(known, [from + i], member))
    } else if (["write", "transaction", "group"].includes(name)) {
      note(known, numbers(from, name === "write" ? 1 : count), answer)
    } else {
      known.failures += answer.is === "failed" ? 1 : 0
      if (answer.is === "done" && ["read", "snapshot", "stream"].includes(name)) {
        const read = answer.value as ReadonlyArray<number>
        const expected = rows ?? Array.from(known.acknowledged).toSorted((a, b) => a - b)
        assert.deepStrictEqual(read.filter((n) => known.acknowledged.has(n) || !known.possible.has(n)), expected)
      }
    }
    return answer
  })

const start = startDisk("", { config: { minReaders: 1, maxReaders: 3, pragmas: ["cache_size = 4"] } })

/** One work with one fault; what became of it. */
const trial = (disk: Disk, work: Work, { call, end, error, k, stays }: Fault) =>
  Effect.scoped(Effect.gen(function*() {
    const file = yield* temporaryFile("io.sqlite")
    work.make(file)
    const known: Known = {
      acknowledged: new Set(),
      certain: new Set(),
      possible: new Set(),
      unknown: 0,
      failures: 0
    }
    const { ask, pid } = disk
    const files = filesOf(file)
    const lift = yield* inject(pid, { calls: [call], error, when: `${k}${stays ? "+" : ""}`, files })
    const opened = yield* ask("open", file)
    for (const command of opened.is === "done" ? work.commands : []) {
      yield* run(disk, known, command, work.rows)
    }
    if (end === "closed") {
      yield* ask("close")
    } else if (end === "killed") {
      process.kill(pid, "SIGKILL")
    }
    const injected = (yield* lift).filter(({ isFailed }) => isFailed).length
    let attempts = 0
    if (end !== "killed") {
      if (end === "closed" || opened.is === "failed") {
        assert.strictEqual((yield* ask("open", file)).is, "done")
      }
      for (const command of [create, ["write", 900, 9_000], ["transaction", 910, 3, 9_000]] as const) {
        let answer: Answer | undefined
        for (let attempt = 1; answer?.is !== "done"; attempt++) {
          assert.isAtMost(attempt, 3, `${command.join(" ")}: ${JSON.stringify(answer)}`)
          attempts = Math.max(attempts, attempt)
          answer = yield* run(disk, known, command)
        }
      }
      for (const read of ["read", "reads", "snapshot", "stream"]) {
        assert.strictEqual((yield* ask(read)).is, "done")
      }
      assert.strictEqual((yield* ask("close")).is, "done")
    }
    const db = new Sqlite(file)
    try {
      assert.strictEqual(db.pragma("integrity_check", { simple: true }), "ok")
      const hasTable = db.prepare("select 1 from sqlite_schema where name = 't'").get() !== undefined
      const rows = new Set(hasTable ? db.prepare<[], number>("select n from t").pluck().all() : [])
      const expected = [...(work.rows ?? []), ...known.acknowledged]
      assert.deepStrictEqual(expected.filter((n) => !rows.has(n)), [], "acknowledged, and not there")
      const refused = Array.from(known.certain).filter((n) => !known.acknowledged.has(n))
      assert.deepStrictEqual(refused.filter((n) => rows.has(n)), [], "failed, and there")
    } finally {
      db.close()
    }
    return {
      "trials in which a call was made to fail": injected > 0 ? 1 : 0,
      "calls that failed typed": known.failures,
      "writes whose outcome is unknown": known.unknown,
      "most attempts until work succeeds": attempts
    }
  }))

/** How often each call is made by the thread that makes it most, until the pool is closed and after that. */
const census = (work: Work) =>
  Effect.scoped(Effect.gen(function*() {
    const disk = yield* start
    const counts: Array<Map<string, number>> = []
    for (const end of ["lifted", "closed"]) {
      const file = yield* temporaryFile("io.sqlite")
      work.make(file)
      const lift = yield* inject(disk.pid, { calls, files: filesOf(file) })
      yield* disk.done("open", file)
      yield* Effect.forEach(work.commands, ([name, ...args]) => disk.done(name, ...args))
      if (end === "closed") {
        yield* disk.done("close")
      }
      const byThread = new Map<string, number>()
      for (const { name, thread } of yield* lift) {
        byThread.set(`${name} ${thread}`, (byThread.get(`${name} ${thread}`) ?? 0) + 1)
      }
      yield* disk.done("close")
      const most = new Map<string, number>()
      for (const [key, count] of byThread) {
        const [name] = key.split(" ") as [string]
        most.set(name, Math.max(most.get(name) ?? 0, count))
      }
      counts.push(most)
    }
    return (call: string) => ({ open: counts[0]!.get(call) ?? 0, closed: counts[1]!.get(call) ?? 0 })
  }))

/**
 * What SQLite calls on Linux; those that a processor does not have are left out. Not fcntl: on a local disk no lock fails by EIO, and where the
 * release of one does, SQLite takes it to be held until its connection closes.
 */
const calls = [
  "openat",
  "pread64",
  "pwrite64",
  "fsync",
  "fdatasync",
  "ftruncate",
  "unlink",
  "mmap",
  "newfstatat",
  "statx"
]

/** Each call with each k: in `few` once by EIO, and in strides all else, and what is called most. */
const faultsOf = (
  count: (call: string) => { readonly open: number; readonly closed: number }
): ReadonlyArray<Fault> => {
  const faults: Array<Fault> = []
  const add = (fault: Omit<Fault, "k">, ks: ReadonlyArray<number>, stride: number) =>
    faults.push(...ks.filter((_, i) => isEndurance || i % stride === 0).map((k) => Object.assign({ k }, fault)))
  for (const call of calls) {
    const { closed, open } = count(call)
    for (const error of ["EIO", "ENOSPC"]) {
      for (const stays of [false, true]) {
        const isFirst = error === "EIO" && !stays
        const stride = !isFirst ? 30 : ["newfstatat", "statx"].includes(call) ? 12 : 1
        add({ call, error, stays, end: "lifted" }, numbers(1, open), stride)
        add({ call, error, stays, end: "closed" }, numbers(open + 1, closed - open), stride)
        add({ call, error, stays, end: "killed" }, numbers(1, open), isFirst && call === "fsync" ? 1 : 30)
      }
    }
  }
  return faults
}

/** Two at a time, each in a process that goes on, but where it is killed. */
const runAll = (work: Work, faults: ReadonlyArray<Fault>): Effect.Effect<ReadonlyArray<Figures>> =>
  Effect.map(
    Effect.forEach([0, 1], (remainder) =>
      Effect.scoped(Effect.gen(function*() {
        const disk = yield* start
        return yield* Effect.forEach(faults.filter((_, i) => i % 2 === remainder), (fault) =>
          (fault.end === "killed"
            ? Effect.scoped(Effect.flatMap(start, (own) => trial(own, work, fault)))
            : trial(disk, work, fault)).pipe(
              Effect.catchAllCause((cause) => Effect.dieMessage(`${JSON.stringify(fault)}: ${Cause.pretty(cause)}`))
            ))
      })), { concurrency: 2 }),
    (figures) => figures.flat()
  )

const sum = (all: ReadonlyArray<Figures>): Figures => {
  const total: Record<string, number> = {}
  for (const [name, value] of all.flatMap((figures) => Object.entries(figures))) {
    const before = total[name] ?? 0
    total[name] = name.startsWith("most") ? Math.max(before, value) : before + value
  }
  return total
}

describe("I/O errors at every call", () => {
  for (const [name, work] of Object.entries(works)) {
    it.live(`of a pool that ${name} are typed, lose nothing acknowledged, store nothing that failed, and end with the fault`, (ctx) =>
      Effect.gen(function*() {
        ctx.skip(missing() !== undefined, missing())
        const faults = faultsOf(yield* census(work))
        const sizes = { few: faults.length, many: faults.length, batch: isEndurance ? 60 : faults.length }
        const figures = yield* trials(
          `I/O errors at every call of a pool that ${name}`,
          sizes,
          (first, count) => Effect.map(runAll(work, faults.slice(first, first + count)), sum)
        )
        assert.isAbove(figures["trials in which a call was made to fail"]!, faults.length * 0.9)
      }))
  }
})

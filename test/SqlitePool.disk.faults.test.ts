import { assert, describe, it, type TestContext } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as path from "node:path"
import { type Answer, type Disk, startDisk } from "./disk.js"
import { temporaryFile } from "./layers.js"

describe("a disk that is full", () => {
  it.scopedLive("fails writes typed, in a sentence that says so; reads go on, and writes when there is room again", (ctx) =>
    Effect.gen(function*() {
      const { ask, disk, done, failed, resize, verify } = yield* open(ctx)
      const answers = yield* done<ReadonlyArray<Answer>>("group", 1, 300, 5_000)
      const stored = numbers(1, 300).filter((_, i) => answers[i]!.is === "done")
      answers.forEach((answer) => assert(answer.is === "done" || isFull(answer), JSON.stringify(answer)))
      assert(stored.length > 50 && stored.length < 200, `${stored.length} are stored`)
      for (let i = 0; i < 5; i++) {
        // Alone, in a transaction, as a statement that is no INSERT, and in one that is in no group.
        isFull(yield* failed("write", 1_000, 50_000))
        isFull(yield* failed("transaction", 1_000, 20, 5_000))
        isFull(yield* failed("run", "create table other as select zeroblob(50000) from t limit 20"))
        yield* disk.isReadBy(stored)
      }
      assert.strictEqual(
        (yield* failed("write", 1_000, 50_000)).message,
        "The database did not run the statement: the disk is full; make room on it, and try again (SQLITE_FULL)."
      )
      yield* resize("4m")
      const again = numbers(1, 300).filter((n) => !stored.includes(n))
      yield* Effect.forEach(again, (n) => done("write", n, 5_000))
      yield* done("transaction", 1_000, 20, 5_000)
      const all = [...numbers(1, 300), ...numbers(1_000, 20)]
      yield* disk.isReadBy(all)
      assert.deepInclude(yield* done("stats"), { deaths: 0, pending: 0 })
      assert.deepStrictEqual(yield* ask("close"), { is: "done" })
      yield* verify(all)
    }))

  it.scopedLive("by another file keeps a transaction out as a whole, a stream in, and both go on when that file is gone", (ctx) =>
    Effect.gen(function*() {
      const { disk, done, failed, fill, free, verify } = yield* open(ctx)
      yield* done("group", 1, 3_000, 10)
      const stored = numbers(1, 3_000)
      for (let round = 0; round < 3; round++) {
        const first = 10_000 + 100 * round
        isFull(yield* failed("transaction", first, 40, 3_000, fill))
        assert.deepStrictEqual(yield* done("stream"), stored)
        yield* disk.isReadBy(stored)
        yield* done("sh", free)
        assert.deepStrictEqual(yield* done("stream", fill), stored)
        yield* disk.isReadBy(stored)
        isFull(yield* failed("write", first, 50_000))
        yield* done("sh", free)
        yield* done("transaction", first, 4, 3_000)
        stored.push(...numbers(first, 4))
        yield* disk.isReadBy(stored)
      }
      yield* done("close")
      yield* verify(stored)
    }))

  it.scopedLive("fails a checkpoint and a backup typed, each of which succeeds when there is room", (ctx) =>
    Effect.gen(function*() {
      const { directory, disk, done, failed, fill, free, verify } = yield* open(ctx)
      const copy = path.join(directory, "copy")
      yield* done("group", 1, 30, 5_000)
      yield* done("sh", fill)
      isFull(yield* failed("run", "pragma wal_checkpoint(truncate)"))
      isFull(yield* failed("backup", copy))
      yield* disk.isReadBy(numbers(1, 30))
      yield* done("sh", free)
      yield* done("backup", copy)
      yield* verify(numbers(1, 30), copy)
      yield* done("sh", `rm ${copy}`)
      assert.deepStrictEqual(yield* done("run", "pragma wal_checkpoint(truncate)"), [
        { busy: 0, log: 0, checkpointed: 0 }
      ])
      yield* done("write", 31, 5_000)
      yield* done("close")
      yield* verify(numbers(1, 31))
    }))

  it.scopedLive("loses nothing of a pool that is closed meanwhile", (ctx) =>
    Effect.gen(function*() {
      const { disk, done, fill, free, verify } = yield* open(ctx)
      yield* done("group", 1, 30, 5_000)
      yield* done("sh", fill)
      yield* done("close")
      yield* verify(numbers(1, 30))
      yield* done("sh", free)
      yield* done("open")
      yield* done("write", 31, 5_000)
      yield* disk.isReadBy(numbers(1, 31))
    }))

  for (const journal of ["no", "a WAL mode", "a rollback mode"]) {
    it.scopedLive(`opens ${journal} file or says typed that it is full, with room for 0, 1, 2 ... pages`, (ctx) =>
      Effect.gen(function*() {
        const { ask, disk, done, failed, free, leave, verify } = yield* open(ctx)
        yield* done("group", 1, 10, 5_000)
        yield* done("close")
        if (journal === "no") {
          yield* done("sh", `rm ${disk.filename}`)
        } else if (journal === "a rollback mode") {
          yield* done("journal", "delete")
        }
        const opened: Array<boolean> = []
        for (const pages of [...numbers(0, 12), 16, 24]) {
          yield* done("sh", leave(pages))
          const answer = yield* ask("open")
          opened.push(answer.is === "done")
          if (answer.is === "failed") {
            assert.include(answer.message, disk.filename)
            isFull(answer)
          } else if (journal === "no") {
            yield* ask("run", "create table t (n integer primary key, bytes)")
          } else {
            yield* disk.isReadBy(numbers(1, 10))
            isFull(yield* failed("write", 11, 200_000))
          }
          yield* done("close")
          yield* done("sh", free)
          if (journal === "no") {
            yield* done("sh", `rm -f ${disk.filename}*`)
          }
        }
        assert.deepStrictEqual([opened[0], opened.at(-1)], [false, true])
        yield* done("open")
        yield* ask("run", "create table t (n integer primary key, bytes)")
        yield* done("write", 11, 200_000)
        yield* done("close")
        yield* verify(journal === "no" ? [11] : numbers(1, 11))
      }))
  }
})

describe("a file system that is read-only", () => {
  it.scopedLive("refuses a pool typed, and is used when it is writable", (ctx) =>
    Effect.gen(function*() {
      const { disk, done, failed, remount, verify } = yield* open(ctx)
      yield* done("group", 1, 10, 5_000)
      yield* done("close")
      for (let i = 0; i < 3; i++) {
        yield* remount("ro")
        const error = yield* failed("open")
        assert.include(["AuthorizationError", "ConnectionError"], error.reason, error.message)
        assert.include(error.message, disk.filename)
        yield* remount("rw")
        yield* done("open")
        yield* done("write", 11 + i, 5_000)
        yield* disk.isReadBy(numbers(1, 11 + i))
        yield* done("close")
      }
      yield* verify(numbers(1, 13))
    }))

  it.scopedLive("is read where it needs no file beside it, refuses writes typed, and takes them when it is writable", (ctx) =>
    Effect.gen(function*() {
      const { disk, done, failed, remount, verify } = yield* open(ctx)
      yield* done("group", 1, 10, 5_000)
      yield* done("close")
      yield* done("journal", "delete")
      yield* remount("ro")
      yield* done("open")
      yield* disk.isReadBy(numbers(1, 10))
      const refused = [
        failed("write", 11, 5_000),
        failed("transaction", 11, 2, 5_000),
        failed("run", "create table u (n)")
      ]
      for (const { message, reason } of yield* Effect.all(refused)) {
        assert.strictEqual(reason, "AuthorizationError", message)
      }
      yield* remount("rw")
      yield* done("transaction", 11, 2, 5_000)
      yield* done("write", 13, 5_000)
      yield* done("run", "create table u (n)")
      yield* disk.isReadBy(numbers(1, 13))
      yield* done("close")
      yield* verify(numbers(1, 13))
    }))
})

const numbers = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i)

const isFull = (answer: Answer): boolean => {
  assert(answer.is === "failed", JSON.stringify(answer))
  assert.strictEqual(answer.reason, "UnknownError", answer.message)
  assert.include(answer.message, "the disk is full; make room on it, and try again")
  assert.isUndefined(answer.outcome)
  return true
}

/** A pool on a small file system of its own, with a table. */
const open = (ctx: TestContext) =>
  Effect.gen(function*() {
    const isPossible = spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status === 0
    ctx.skip(!isPossible, "only root on Linux can mount a file system of its own")
    const directory = path.dirname(yield* temporaryFile())
    const filename = path.join(directory, "pool.sqlite")
    const mount = "mount -t tmpfs -o size=600k tmpfs \"$0\" && exec \"$@\""
    const under = ["unshare", "-m", "--propagation", "private", "sh", "-c", mount, directory]
    const disk = yield* startDisk(filename, { under })
    const { done } = disk
    const remount = (options: string) => done("sh", `mount -o remount,${options} ${directory}`)
    yield* done("open")
    yield* done("run", "create table t (n integer primary key, bytes)")
    return {
      ...disk,
      directory,
      disk: { filename, isReadBy: isReadBy(disk) },
      remount,
      resize: (size: string) => remount(`size=${size}`),
      /** Fills what is left. */
      fill: `cat /dev/zero > ${directory}/other 2> /dev/null || true`,
      /** Fills all but so many pages of 4096 bytes. */
      leave: (pages: number) =>
        `dd if=/dev/zero of=${directory}/other bs=4k count=$(($(stat -f -c %a ${directory}) - ${pages})) 2> /dev/null`,
      free: `rm ${directory}/other`,
      verify: (rows: ReadonlyArray<number>, file?: string) =>
        Effect.map(done("verify", ...(file === undefined ? [] : [file])), (found) =>
          assert.deepStrictEqual(found, { integrity: "ok", rows }))
    }
  })

/** Every way to read finds these rows: alone, three at once, in a snapshot and as a stream. */
const isReadBy = ({ done }: Disk) => (rows: ReadonlyArray<number>) =>
  Effect.gen(function*() {
    assert.deepStrictEqual(yield* done("read"), rows)
    assert.deepStrictEqual(yield* done("reads"), Array.from({ length: 3 }, () => ({ is: "done", value: rows })))
    assert.deepStrictEqual(yield* done("snapshot"), rows)
    assert.deepStrictEqual(yield* done("stream"), rows)
  })

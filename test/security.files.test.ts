/** Whose files are that the package makes. */
import { assert, describe, it } from "@effect/vitest"
import type { SqlitePool } from "effect-avatars"
import { Effect, Fiber } from "effect"
import { spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { temporaryFile } from "./layers.js"
import { failure, makePool } from "./pool.js"

const umasks = [0, 0o022, 0o077]

/** For the scope. Threads take it over from the process. */
const withUmask = (umask: number) =>
  Effect.acquireRelease(Effect.sync(() => process.umask(umask)), (before) => Effect.sync(() => process.umask(before)))

const modeOf = (file: string) => (fs.statSync(file).mode & 0o777).toString(8)

/** Of all files in the directory of one. */
const modes = (file: string) =>
  Object.fromEntries(
    fs.readdirSync(path.dirname(file)).map((name) => [name, modeOf(path.join(path.dirname(file), name))])
  )

const all = (mode: string, ...names: ReadonlyArray<string>) => Object.fromEntries(names.map((name) => [name, mode]))

const write = (sql: SqlitePool.SqlitePool) => Effect.zipRight(sql`create table t (a)`, sql`insert into t values (1)`)

describe("a file that is made", () => {
  it.scopedLive("is for this user alone, whatever the umask, and so are -wal, -shm and -journal", () =>
    Effect.gen(function*() {
      for (const umask of umasks) {
        yield* withUmask(umask)
        const filename = yield* temporaryFile("pool.sqlite")
        const sql = yield* makePool({ filename })
        yield* write(sql)
        yield* sql`select * from t`
        assert.deepStrictEqual(modes(filename), all("600", "pool.sqlite", "pool.sqlite-shm", "pool.sqlite-wal"))
        const journaled = yield* temporaryFile("pool.sqlite")
        const plain = yield* makePool({ filename: journaled, disableWAL: true })
        yield* plain.withTransaction(Effect.gen(function*() {
          yield* write(plain)
          assert.deepStrictEqual(modes(journaled), all("600", "pool.sqlite", "pool.sqlite-journal"))
        }))
      }
    }))

  it.scopedLive("cannot be read by another user, where one of mode 644 can", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(process.getuid?.() !== 0, "only root can become another user")
      yield* withUmask(0)
      const filename = yield* temporaryFile("pool.sqlite")
      fs.chmodSync(path.dirname(filename), 0o755)
      yield* Effect.flatMap(makePool({ filename }), write)
      const readers = ["pool.sqlite", "pool.sqlite-wal", "pool.sqlite-shm"].map((name) => () =>
        spawnSync("cat", [path.join(path.dirname(filename), name)], { uid: 65534, gid: 65534 }).status
      )
      assert.deepStrictEqual(readers.map((read) => read()), [1, 1, 1])
      fs.chmodSync(filename, 0o644)
      assert.deepStrictEqual(readers.map((read) => read()), [0, 1, 1])
    }))

  it.scopedLive("keeps its mode where it was there before, and gives that to -wal and -shm", () =>
    Effect.gen(function*() {
      for (const [mode, text] of [[0o640, "640"], [0o664, "664"]] as const) {
        const filename = yield* temporaryFile("pool.sqlite")
        fs.writeFileSync(filename, "")
        fs.chmodSync(filename, mode)
        yield* Effect.flatMap(makePool({ filename }), write)
        assert.deepStrictEqual(modes(filename), all(text, "pool.sqlite", "pool.sqlite-shm", "pool.sqlite-wal"))
      }
    }))

  it.scopedLive("stands where a link leads that led to nothing, and is for this user alone there", () =>
    Effect.gen(function*() {
      yield* withUmask(0)
      const link = yield* temporaryFile("link.sqlite")
      const target = yield* temporaryFile("target.sqlite")
      const middle = path.join(path.dirname(target), "middle")
      fs.symlinkSync(middle, link)
      fs.symlinkSync("target.sqlite", middle)
      yield* Effect.scoped(Effect.flatMap(makePool({ filename: link }), write))
      assert.deepStrictEqual(fs.readdirSync(path.dirname(link)), ["link.sqlite"])
      assert.deepStrictEqual(modes(target), all("600", "middle", "target.sqlite"))
    }))

  it.scopedLive("is none where the pool is readonly, or its directory is missing", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile("pool.sqlite")
      const missing = path.join(path.dirname(filename), "none", "pool.sqlite")
      for (const config of [{ filename, readonly: true }, { filename: missing }]) {
        assert.strictEqual((yield* failure(Effect.scoped(makePool(config)))).code, "ENOENT")
      }
      assert.deepStrictEqual(fs.readdirSync(path.dirname(filename)), [])
    }))

  it.scopedLive("is touched by no other pool or copy in a way that drops the locks which this process has on it", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile("pool.sqlite")
      const sql = yield* makePool({ filename })
      const memory = yield* makePool({ filename: ":memory:" })
      yield* Effect.forEach([sql, memory], write)
      /** What another process says that wants to write. */
      const other = () =>
        spawnSync(process.execPath, ["--eval", lock, filename], { cwd: path.dirname(program), encoding: "utf8" }).stdout
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql`insert into t values (2)`
        yield* makePool({ filename })
        const copying = yield* Effect.fork(memory.backup(filename))
        yield* Effect.sleep(200)
        assert.strictEqual(other(), "SQLITE_BUSY")
        yield* Fiber.interrupt(copying)
        assert.strictEqual(other(), "SQLITE_BUSY")
      }))
      assert.deepStrictEqual(yield* sql`select a from t`, [{ a: 1 }, { a: 2 }])
      assert.strictEqual(other(), "free")
    }))

  it.scopedLive("by `backup`, of a file or of memory, is for this user alone, and one that was there keeps its mode", () =>
    Effect.gen(function*() {
      for (const umask of umasks) {
        yield* withUmask(umask)
        for (const config of [{}, { filename: ":memory:" }]) {
          const sql = yield* makePool(config)
          yield* write(sql)
          const copy = yield* temporaryFile("copy.sqlite")
          yield* sql.backup(copy)
          assert.deepStrictEqual(modes(copy), all("600", "copy.sqlite"))
          fs.chmodSync(copy, 0o644)
          yield* sql.backup(copy)
          assert.deepStrictEqual(modes(copy), all("644", "copy.sqlite"))
          const error = yield* failure(sql.backup("/nowhere/copy.sqlite"))
          assert.deepInclude(error, { reason: "ConnectionError", code: "ENOENT" })
        }
      }
    }))

  it.scopedLive("by `backup` is gone again where the copy is interrupted", () =>
    Effect.gen(function*() {
      const sql = yield* makePool()
      yield* sql`create table t as
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 50000) select randomblob(1000) from n`
      const copy = yield* temporaryFile("copy.sqlite")
      const begun = yield* Effect.makeLatch()
      const seen: Array<string> = []
      const onProgress = () => {
        seen.push(...fs.readdirSync(path.dirname(copy)))
        begun.unsafeOpen()
      }
      yield* Effect.raceFirst(sql.backup(copy, { onProgress }), begun.await)
      assert.include(seen, "copy.sqlite")
      assert.deepStrictEqual(fs.readdirSync(path.dirname(copy)), [])
    }))

  it.scopedLive("by the program is in a directory of mode 700, and of mode 600 itself", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(process.platform === "win32", "Windows has no modes")
      const temporary = path.dirname(yield* temporaryFile())
      const seen = new Set<string>()
      const look = () => {
        for (const name of fs.readdirSync(temporary, { recursive: true, encoding: "utf8" })) {
          const found = fs.statSync(path.join(temporary, name), { throwIfNoEntry: false })
          if (found !== undefined) {
            seen.add(
              `${path.basename(name).replace(/^effect-avatars-.*/, "directory")} ${(found.mode & 0o777).toString(8)}`
            )
          }
        }
      }
      // A run is short: what one did not show the next may.
      for (let run = 0; run < 10 && !seen.has("users.sqlite 600"); run++) {
        const child = spawn("sh", ["-c", `umask 0; exec "$0" "$1"`, process.execPath, program], {
          env: { ...process.env, TMPDIR: temporary },
          stdio: "ignore"
        })
        while (child.exitCode === null) {
          look()
          yield* Effect.yieldNow()
          yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        }
      }
      assert.includeMembers([...seen], ["directory 700", "users.sqlite 600"])
      assert.isTrue([...seen].every((entry) => entry.endsWith("00")), [...seen].join())
    }))
})

const lock = `
  const db = new (require("better-sqlite3"))(process.argv[1], { timeout: 0 })
  try {
    db.exec("BEGIN IMMEDIATE; ROLLBACK")
    process.stdout.write("free")
  } catch (error) {
    process.stdout.write(error.code)
  }
`

const program = fileURLToPath(new URL("../dist/bin/main.js", import.meta.url))

import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { main, tempDirectory } from "./programs.js"

/** Users in a random order, with what CSV has to quote. */
const write = (file: string, count: number) => {
  const prime = 7_919
  const output = fs.openSync(file, "w")
  fs.writeSync(output, "login,name,forname\n")
  for (let first = 0; first < count; first += 10_000) {
    const lines = Array.from({ length: Math.min(10_000, count - first) }, (_, i) => {
      const k = String((first + i) * prime % count).padStart(7, "0")
      return `user${k},"Name of ""${k}"", é","Forname\n${k}"\n`
    })
    fs.writeSync(output, lines.join(""))
  }
  fs.closeSync(output)
}

const digest = (file: string) => createHash("sha256").update(fs.readFileSync(file)).digest("hex")

/** How many users a sound database holds, if it was made. */
const count = (file: string): number => {
  if (!fs.existsSync(file)) {
    return 0
  }
  const db = new Sqlite(file)
  const isMade = db.prepare("select 1 from sqlite_schema where name = 'users'").get() !== undefined
  const count = isMade ? db.prepare("select count(*) from users").pluck().get() as number : 0
  const sound = db.pragma("integrity_check", { simple: true })
  db.close()
  assert.strictEqual(sound, "ok")
  return count
}

describe("a million users", () => {
  it.scopedLive("go from a file to a database and back, byte for byte, in at most 250 MB of memory", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(process.platform !== "linux", "the most memory that a process had is read from /proc")
      const directory = yield* tempDirectory
      const [source, file] = [path.join(directory, "users.csv"), path.join(directory, "users.sqlite")]
      write(source, 1_000_000)
      let most = 0
      const { code, stdout } = yield* main(["import", source, "-d", file], {}, (child) => {
        const timer = setInterval(() => {
          try {
            const status = fs.readFileSync(`/proc/${child.pid}/status`, "utf8")
            most = Math.max(most, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024)
          } catch {
            // It has ended.
          }
        }, 20)
        child.once("close", () => clearInterval(timer))
      })
      assert.deepStrictEqual([code, stdout], [0, "1000000 stored, 0 updated, 0 skipped, 0 rejected\n"])
      assert(most > 40 && most <= 250, `${most} MB`)
      for (const format of ["csv", "ndjson"]) {
        const [first, copy, second] = ["first", "copy", "second"].map((name) =>
          path.join(directory, `${name}.${format}`)
        )
        assert.strictEqual((yield* main(["export", first!, "-d", file])).code, 0)
        assert.strictEqual((yield* main(["import", first!, "-d", copy!])).code, 0)
        assert.strictEqual((yield* main(["export", second!, "-d", copy!, "--format", format])).code, 0)
        assert.strictEqual(digest(first!), digest(second!))
        fs.rmSync(copy!)
      }
      const sorted = path.join(directory, "sorted.csv")
      const records = fs.readFileSync(source, "utf8").split(/(?<="\n)/)
      fs.writeFileSync(
        sorted,
        [records[0]!.slice(0, 19), ...records.join("").slice(19).split(/(?<="\n)/).toSorted()].join("")
      )
      assert.strictEqual(digest(path.join(directory, "first.csv")), digest(sorted))
    }))
})

/** The bytes of a database and its log. */
const sizeOf = (file: string): number =>
  ["", "-wal"].reduce((sum, end) => sum + (fs.statSync(file + end, { throwIfNoEntry: false })?.size ?? 0), 0)

describe("Ctrl-C during an import", () => {
  const users = 300_000

  it.scopedLive("at any moment leaves what it says is stored, and the same command with skip goes on to the end", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const source = path.join(directory, "users.csv")
      write(source, users)
      let stoppedMidway = 0
      for (let run = 0; run < 6; run++) {
        const file = path.join(directory, `${run}.sqlite`)
        let stops = 0
        for (;;) {
          const { code, signal, stderr } = yield* main(
            ["import", source, "-d", file, "--on-conflict", "skip"],
            {},
            (child) => {
              // When so much more has been written.
              const enough = sizeOf(file) + Math.random() * 20e6
              const timer = setInterval(() => stops < 3 && sizeOf(file) >= enough && child.kill("SIGINT"), 2)
              child.once("close", () => clearInterval(timer))
            }
          )
          const stored = count(file)
          if (code === 0) {
            assert.strictEqual(stored, users)
            break
          }
          // Before the program has begun, the signal itself ends it.
          assert(code === 130 || signal === "SIGINT", `${code} ${signal}`)
          stops += 1
          stoppedMidway += stored > 0 && stored < users ? 1 : 0
          const said = /^Stopped: (\d+) users are stored, beside those/m.exec(stderr)?.[1]
          assert(said === undefined || stops > 1 || Number(said) === stored, `${said} of ${stored}`)
        }
      }
      assert(stoppedMidway > 0, "never in the middle")
    }))

  it.scopedLive("with --atomic stores all or nothing, and of an export leaves nothing half", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const source = path.join(directory, "users.csv")
      write(source, users)
      for (let run = 0; run < 6; run++) {
        const file = path.join(directory, `${run}.sqlite`)
        yield* main(
          ["import", source, "--atomic", "-d", file],
          {},
          (child) => void setTimeout(() => child.kill("SIGINT"), 200 + Math.random() * 1_500)
        )
        assert.include([0, users], count(file))
      }
      const file = path.join(directory, "whole.sqlite")
      yield* main(["import", source, "-d", file])
      const whole = path.join(directory, "whole.csv")
      yield* main(["export", whole, "-d", file])
      for (let run = 0; run < 6; run++) {
        const out = path.join(directory, `out${run}.csv`)
        yield* main(
          ["export", out, "-d", file],
          {},
          (child) => void setTimeout(() => child.kill("SIGINT"), 100 + Math.random() * 1_500)
        )
        assert(!fs.existsSync(out) || digest(out) === digest(whole))
      }
      assert.deepStrictEqual(fs.readdirSync(directory).filter((name) => name.endsWith(".part")), [])
    }))
})

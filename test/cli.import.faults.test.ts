import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect, FastCheck } from "effect"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { rows } from "./commands.js"
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
  it.scopedLive("go from CSV to a database, to NDJSON, to another database and back, byte for byte; an import takes at most 250 MB", (ctx) =>
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
      const [copy, ndjson, csv] = ["copy.sqlite", "out.ndjson", "out.csv"].map((name) => path.join(directory, name))
      assert.strictEqual((yield* main(["export", ndjson!, "-d", file])).code, 0)
      assert.strictEqual((yield* main(["import", ndjson!, "-d", copy!])).code, 0)
      assert.strictEqual((yield* main(["export", csv!, "-d", copy!])).code, 0)
      // A record ends where a quote is closed at the end of a line; users are exported in the order of their logins.
      const [header, ...records] = fs.readFileSync(source, "utf8").split(/(?<=^login,name,forname\n|"\n)/)
      const sorted = path.join(directory, "sorted.csv")
      fs.writeFileSync(sorted, [header, ...records.toSorted()].join(""))
      assert.strictEqual(digest(csv!), digest(sorted))
    }))
})

describe("an export", () => {
  it.scopedLive("gives any names back to import, whatever they hold", () =>
    Effect.gen(function*() {
      const text = FastCheck.oneof(
        FastCheck.fullUnicodeString(),
        FastCheck.stringOf(FastCheck.constantFrom(",", ";", "\"", "\n", "\r", " ", "\t", "\uFEFF", "a", "\\", "'"))
      ).filter((name) => !name.includes("\0") && name.isWellFormed())
      const names = FastCheck.sample(FastCheck.tuple(text, text), { numRuns: 2_000, seed: 1 })
      const directory = yield* tempDirectory
      const file = path.join(directory, "users.sqlite")
      yield* main(["migrate", "-d", file])
      const db = new Sqlite(file)
      const insert = db.prepare("insert into users values (?, ?, ?)")
      db.transaction(() => names.forEach(([name, forname], i) => insert.run(String(i), name, forname)))()
      db.close()
      const formats = [["out.csv"], ["out.ndjson"], ["semicolons.csv", "--delimiter", ";"]] as const
      for (const [name, ...options] of formats) {
        const [out, copy] = [path.join(directory, name), path.join(directory, `${name}.sqlite`)]
        assert.strictEqual((yield* main(["export", out, "-d", file, ...options])).code, 0)
        assert.deepStrictEqual(yield* main(["import", out, "-d", copy, ...options]), {
          code: 0,
          signal: null,
          stderr: "",
          stdout: "2000 stored, 0 updated, 0 skipped, 0 rejected\n"
        })
        assert.deepStrictEqual(rows(copy), rows(file))
      }
    }))
})

/** The bytes of a database and its log. */
const sizeOf = (file: string): number =>
  ["", "-wal"].reduce((sum, end) => sum + (fs.statSync(file + end, { throwIfNoEntry: false })?.size ?? 0), 0)

describe("Ctrl-C during an import", () => {
  const users = 200_000

  it.scopedLive("at any moment leaves what it says is stored, and the same command with skip goes on to the end", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const source = path.join(directory, "users.csv")
      write(source, users)
      let stoppedMidway = 0
      for (let run = 0; run < 4; run++) {
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

  it.scopedLive("that updates says how many are updated, and the same goes on", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const [source, file] = [path.join(directory, "users.csv"), path.join(directory, "users.sqlite")]
      // More than share a transaction.
      const users = 250_000
      write(source, users)
      assert.strictEqual((yield* main(["import", source, "-d", file])).code, 0)
      const db = new Sqlite(file)
      db.exec("update users set name = 'old'")
      const updated = () => Number(db.prepare("select count(*) from users where name <> 'old'").pluck().get())
      const first = db.prepare("select 1 from users where login = 'user0000000' and name <> 'old'")
      const update = ["import", source, "-d", file, "--on-conflict", "update"]
      const { code, stderr } = yield* main(update, {}, (child) => {
        // Once: a second one ends it at once.
        const timer = setInterval(() => {
          if (first.get() !== undefined) {
            clearInterval(timer)
            child.kill("SIGINT")
          }
        }, 20)
        child.once("close", () => clearInterval(timer))
      })
      assert.strictEqual(code, 130)
      assert.include(
        stderr,
        `Stopped: 0 users are stored and ${updated()} updated, beside those that were there. The same goes on.`
      )
      assert.strictEqual((yield* main(update)).code, 0)
      assert.strictEqual(updated(), users)
      db.close()
    }))

  it.scopedLive("with --atomic stores all or nothing, and of an export leaves nothing half", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const source = path.join(directory, "users.csv")
      write(source, users)
      const told = new Set<string>()
      for (let run = 0; run < 4; run++) {
        const file = path.join(directory, `${run}.sqlite`)
        const { stderr } = yield* main(["import", source, "--atomic", "-d", file], {}, (child) => {
          if (run > 0) {
            return void setTimeout(() => child.kill("SIGINT"), 200 + Math.random() * 1_500)
          }
          const timer = setInterval(() => sizeOf(file) > 1e6 && child.kill("SIGINT"), 2)
          child.once("close", () => clearInterval(timer))
        })
        assert.include([0, users], count(file))
        const [said] = /^Stopped.*$/m.exec(stderr) ?? []
        assert(said === undefined || count(file) === (said === "Stopped: nothing is stored." ? 0 : users), said)
        told.add(said ?? "")
      }
      assert.include(Array.from(told), "Stopped: nothing is stored.")
      const file = path.join(directory, "whole.sqlite")
      yield* main(["import", source, "-d", file])
      const whole = path.join(directory, "whole.csv")
      yield* main(["export", whole, "-d", file])
      for (let run = 0; run < 4; run++) {
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

import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { database, main, root, run, type Started, urlOf } from "./programs.js"

const yoen = "Mr 'Yoen Van der Veld' is connected under 'yoen'\n"
const esteban = "Mr 'Estebán Garcia Marquez' is connected under 'esteban'\n"
const mohamed = "Mr 'Mohamed Al Ghâlib' is connected under 'mohamed'\n"
const threeLines = yoen + esteban + mohamed

const nobody = "No user has the login 'nobody'.\n"
const demonstration =
  "No database was named by --database or DATABASE_URL: these are the demonstration's users. See --help.\n"

describe("without arguments the program", () => {
  it.scopedLive("prints the original's three lines and nothing else, whatever DATABASE_URL says", () =>
    Effect.gen(function*() {
      const runs = [main(), main([], { DATABASE_URL: "sqlite:./none/users.sqlite" })]
      for (const run of yield* Effect.all(runs, { concurrency: 2 })) {
        assert.deepStrictEqual(run, { stdout: threeLines, stderr: "", code: 0, signal: null })
      }
    }))

  it.scopedLive("says that its stdout is full, and nothing where nobody reads it", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(!fs.existsSync("/dev/full"), "there is no /dev/full")
      const node = `"${process.execPath}" "${path.join(root, "dist/bin/main.js")}"`
      const full = yield* run("sh", ["-c", `${node} > /dev/full`])
      assert.deepStrictEqual([full.code, full.stdout], [5, ""])
      assert.match(full.stderr, /^(Standard output could not be written: the disk is full \(ENOSPC\)\.\n)+$/)
      const { stderr } = yield* run("sh", ["-c", `${node} | true`])
      assert.strictEqual(stderr, "")
    }))

  it.scopedLive("prints them on stdout through `npm start --silent` too", () =>
    Effect.gen(function*() {
      const { code, stdout } = yield* run("npm", ["start", "--silent"])
      assert.deepStrictEqual({ code, stdout }, { code: 0, stdout: threeLines })
    }))

  it.scopedLive("removes its temporary directory and ends with 130 when it is interrupted", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(process.platform === "win32", "Windows has no signals: they end a process at once")
      const interrupt: Started = (child, temporary) => {
        const watcher = fs.watch(temporary, () => {
          watcher.close()
          child.kill("SIGINT")
        })
      }
      const runs = yield* Effect.all(Array.from({ length: 4 }, () => main([], {}, interrupt)), { concurrency: 2 })
      const codes = runs.map(({ code }) => code)
      assert.isTrue(
        runs.every(({ code, stderr }) => stderr === "" && (code === 0 || code === 130)),
        JSON.stringify(runs)
      )
      assert.include(codes, 130)
    }))
})

describe("with logins the program", () => {
  it.scopedLive("prints no control character that a database holds: one user is one line", () =>
    Effect.gen(function*() {
      const { file, url } = yield* database("users.sqlite")
      const sqlite = new Sqlite(file)
      sqlite.exec("update users set name = 'a' || char(10) || char(27) || '[2Jb' where login = 'yoen'")
      sqlite.close()
      const { code, stdout } = yield* main(["--database", url, "yoen"])
      assert.deepStrictEqual({ code, stdout }, {
        code: 0,
        stdout: "Mr 'Yoen a\uFFFD\uFFFD[2Jb' is connected under 'yoen'\n"
      })
    }))

  it.scopedLive("prints the found ones in the order asked, and ends with 0 where all were found", () =>
    Effect.gen(function*() {
      const { url } = yield* database("users.sqlite")
      const found = yield* main(["--database", url, "mohamed", "yoen", "mohamed"])
      assert.deepStrictEqual(found, { stdout: mohamed + yoen + mohamed, stderr: "", code: 0, signal: null })
    }))

  it.scopedLive("does every lookup, with a sentence on stderr for each that failed, and ends with the largest code", () =>
    Effect.gen(function*() {
      const { url } = yield* database("legacy.sqlite")
      const before = ["nobody", "Yoen", "nullname", "tab\tinside", "yoen ", "", "blobname", "Jos\u00e9", "Jose\u0301"]
      const after = ["--", "-x", "yoen"]
      assert.deepStrictEqual(yield* main([...before, `--database=${url}`, ...after]), {
        stdout: "Mr 'YOEN Other Case' is connected under 'Yoen'\n"
          + "Mr 'Yoen Trailing Space' is connected under 'yoen '\n"
          + "Mr 'Jos\u00e9 Composed' is connected under 'Jos\u00e9'\n"
          + "Mr 'Jos\u00e9 Decomposed' is connected under 'Jose\u0301'\n"
          + yoen,
        stderr: nobody
          + "The user 'nullname' is malformed: its name is NULL.\n"
          + `"tab\\tinside" is no login: A login is 1 to 255 characters of well-formed text without control characters.\n`
          + `"" is no login: A login is 1 to 255 characters of well-formed text without control characters.\n`
          + "The user 'blobname' is malformed: its name is not text.\n"
          + "No user has the login '-x'.\n",
        code: 4,
        signal: null
      })
    }))

  it.scopedLive("looks them up in the database of --database, else of DATABASE_URL, else of the demonstration", () =>
    Effect.gen(function*() {
      const { url: DATABASE_URL } = yield* database("users.sqlite")
      const { url } = yield* database("legacy.sqlite")
      const logins = ["esteban", "user0000"]
      const [option, variable, neither, found] = yield* Effect.all([
        main(["--database", url, ...logins], { DATABASE_URL }),
        main(logins, { DATABASE_URL }),
        main(logins),
        main(["yoen"])
      ], { concurrency: 2 })
      const absent = (login: string) => `No user has the login '${login}'.\n`
      assert.match(option.stdout, /^Mr '.*' is connected under 'user0000'\n$/)
      assert.deepStrictEqual([option.stderr, option.code], [absent("esteban"), 1])
      assert.deepStrictEqual(variable, { stdout: esteban, stderr: absent("user0000"), code: 1, signal: null })
      assert.deepStrictEqual(neither, { ...variable, stderr: demonstration + absent("user0000") })
      assert.deepStrictEqual(found, { stdout: yoen, stderr: demonstration, code: 0, signal: null })
    }))

  for (const journal of ["delete", "wal"] as const) {
    it.scopedLive(`leaves a database of journal mode ${journal} as it was, and alone in its directory`, () =>
      Effect.gen(function*() {
        const { directory, file, url } = yield* database("users.sqlite", journal)
        const before = fs.readFileSync(file)
        assert.strictEqual((yield* main(["--database", url, "yoen", "nobody"])).stdout, yoen)
        assert.deepStrictEqual(fs.readdirSync(directory), ["users.sqlite"])
        assert.isTrue(before.equals(fs.readFileSync(file)))
      }))
  }

  it.scopedLive("says in one sentence why there is no database, makes none, shows no password, and ends with 3", () =>
    Effect.gen(function*() {
      const { directory, file, url } = yield* database("users.sqlite")
      fs.writeFileSync(file, "no database".repeat(100))
      const refused = {
        [url]: `The database '${file}' could not be opened: the file is not an SQLite database (SQLITE_NOTADB).`,
        [urlOf(path.join(directory, "none.sqlite"))]: `The database '${path.join(directory, "none.sqlite")}' could`,
        [urlOf(directory)]: `The database '${directory}' could not be opened`,
        "oracle://user:s3cret@host/db": "The database URL cannot be used: no database is known for 'oracle:'."
      }
      yield* Effect.forEach(Object.entries(refused), ([url, sentence], index) =>
        Effect.map(
          index === 3 ? main(["yoen"], { DATABASE_URL: url }) : main(["--database", url, "yoen", "nobody"]),
          ({ code, stderr, stdout }) => {
            assert.deepStrictEqual({ code, stdout }, { code: 3, stdout: "" })
            assert.isTrue(stderr.startsWith(sentence), stderr)
            assert.match(stderr, /^[^\n]+\.\n$/)
            assert.notInclude(stderr, "s3cret")
          }
        ), { concurrency: 2 })
      assert.deepStrictEqual(fs.readdirSync(directory), ["users.sqlite"])
    }))
})

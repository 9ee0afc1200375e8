import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { rows, says } from "./commands.js"
import { database, main, root, tempDirectory } from "./programs.js"

const yoen = "Mr 'Yoen Van der Veld' is connected under 'yoen'\n"

describe("lookup", () => {
  it.scopedLive("is what logins mean without a command, wherever the database stands", () =>
    Effect.gen(function*() {
      const { file } = yield* database("users.sqlite")
      for (
        const args of [
          ["lookup", "yoen", "--database", file],
          ["--database", file, "lookup", "yoen"],
          ["-d", file, "yoen"],
          ["yoen", `--database=${file}`]
        ]
      ) {
        yield* says(args, { stdout: yoen })
      }
    }))

  it.scopedLive("reads logins from standard input, and prints a JSON object a line where it is asked to", () =>
    Effect.gen(function*() {
      const { file } = yield* database("users.sqlite")
      const args = ["-", "yoen", "--format", "json", "--concurrency", "2", "-d", file]
      const { code, stderr, stdout } = yield* main(args, {}, undefined, "mohamed\r\n\nnobody\nesteban")
      assert.deepStrictEqual(stdout.trim().split("\n").map((line) => JSON.parse(line).login), [
        "mohamed",
        "esteban",
        "yoen"
      ])
      assert.deepStrictEqual({ code, stderr }, { code: 1, stderr: "No user has the login 'nobody'.\n" })
    }))

  it.scopedLive("takes a file's path for a database, whatever characters it has", () =>
    Effect.gen(function*() {
      const { directory, file } = yield* database("users.sqlite")
      const odd = path.join(directory, "who? 100%#1 é.sqlite")
      fs.renameSync(file, odd)
      yield* says(["-d", odd, "yoen"], { stdout: yoen })
    }))
})

describe("changing users", () => {
  it.scopedLive("by add, set and remove does that, and tells a taken and a missing login by exit code 1", () =>
    Effect.gen(function*() {
      const file = path.join(yield* tempDirectory, "new.sqlite")
      yield* says(["add", "ada", "Lovelace", "Ada", "-d", file], {})
      yield* says(["add", "ada", "L", "A", "-d", file], { code: 1, stderr: "The login 'ada' is taken.\n" })
      yield* says(["add", "-d", file, "--", "-x", "--", "-"], {})
      yield* says(["set", "ada", "--forname", "Augusta Ada", "-d", file], {})
      yield* says(["set", "bob", "--name", "B", "-d", file], { code: 1, stderr: "No user has the login 'bob'.\n" })
      assert.deepStrictEqual(rows(file), [["-x", "--", "-"], ["ada", "Lovelace", "Augusta Ada"]])
      yield* says(["remove", "ada", "bob", "-d", file, "--", "-x"], {
        code: 1,
        stderr: "No user has the login 'bob'.\n"
      })
      yield* says(["count", "-d", file], { stdout: "0\n" })
    }))

  it.scopedLive("mends a malformed user where both names are given", () =>
    Effect.gen(function*() {
      const { file } = yield* database("legacy.sqlite")
      const stderr = "The user 'nullname' is malformed: its name is NULL.\n"
      yield* says(["set", "nullname", "--forname", "No", "-d", file], { code: 4, stderr })
      yield* says(["set", "nullname", "--forname", "No", "--name", "Body", "-d", file], {})
      yield* says(["nullname", "-d", file], { stdout: "Mr 'No Body' is connected under 'nullname'\n" })
    }))

  it.scopedLive("makes no database by what could only change one, and one by migrate, with its table", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const file = path.join(directory, "none.sqlite")
      const stderr = `There is no database '${file}': effect-avatars migrate makes one.\n`
      yield* says(["remove", "ada", "-d", file], { code: 3, stderr })
      yield* says(["set", "ada", "--name", "A", "-d", file], { code: 3, stderr })
      assert.deepStrictEqual(fs.readdirSync(directory), [])
      yield* says(["migrate", "-d", file], { stdout: "The table users is there.\n" })
      yield* says(["migrate", "-d", file], { stdout: "The table users is there.\n" })
      assert.deepStrictEqual(rows(file), [])
    }))
})

describe("list", () => {
  it.scopedLive("prints a table in code-point order, without control characters, and as JSON what is there", () =>
    Effect.gen(function*() {
      const { file } = yield* database("users.sqlite")
      const db = new Sqlite(file)
      db.prepare("insert into users values ('a', ?, 'x')").run("two\nlines")
      db.close()
      yield* says(["list", "-d", file], {
        stdout: "LOGIN    NAME            FORNAME\n"
          + "a        two\uFFFDlines       x\n"
          + "esteban  Garcia Marquez  Estebán\n"
          + "mohamed  Al Ghâlib       Mohamed\n"
          + "yoen     Van der Veld    Yoen\n"
      })
      const { stdout } = yield* main(["list", "--json", "-d", file])
      assert.deepStrictEqual(JSON.parse(stdout.split("\n")[0]!), { login: "a", name: "two\nlines", forname: "x" })
    }))

  it.scopedLive("ends quietly when whoever reads it has gone", () =>
    Effect.gen(function*() {
      const file = path.join(yield* tempDirectory, "many.sqlite")
      const db = new Sqlite(file)
      db.exec(`create table users (login text primary key, name text, forname text);
        insert into users with recursive n(i) as (select 1 union all select i + 1 from n where i < 50000)
        select 'user' || i, 'name', 'forname' from n`)
      db.close()
      const { stderr } = yield* main(["list", "-d", file], {}, (child) => {
        child.stdout!.once("data", () => child.stdout!.destroy())
      })
      assert.strictEqual(stderr, "")
    }))
})

describe("check", () => {
  it.scopedLive("finds nothing wrong with a database of ours, changes nothing, and tells how it is set", () =>
    Effect.gen(function*() {
      const { directory, file } = yield* database("users.sqlite")
      const before = fs.readFileSync(file)
      const { code, stderr, stdout } = yield* main(["check", "-d", file])
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      assert.match(stdout, /^database: SQLite 3\..*\nintegrity: sound\n/)
      assert.match(stdout, /\nlogins: unique\nusers: 3 avatars, 0 malformed\nsettings: page_size 4096, /)
      assert.isTrue(before.equals(fs.readFileSync(file)))
      assert.deepStrictEqual(fs.readdirSync(directory), ["users.sqlite"])
    }))

  it.scopedLive("names the malformed users, and counts the rows without a login", () =>
    Effect.gen(function*() {
      const { file } = yield* database("legacy.sqlite")
      const { code, stderr, stdout } = yield* main(["check", "-d", file])
      assert.strictEqual(code, 4)
      assert.include(stdout, "\nusers: 1011 avatars, 6 malformed\n")
      assert.match(stderr, /^The user 'nullname' is malformed: its name is NULL\.$/m)
      assert.match(stderr, /^2 rows have no login, or one that is no text: nobody can be found by it\.$/m)
    }))

  it.scopedLive("says what is wrong with a damaged file, a missing table and a login that need not be unique", () =>
    Effect.gen(function*() {
      const { directory, file } = yield* database("legacy.sqlite")
      const bytes = fs.readFileSync(file)
      const damaged = path.join(directory, "damaged.sqlite")
      // The cells of the pages after the first two.
      fs.writeFileSync(damaged, bytes.fill(0x55, 3 * 4096, 6 * 4096))
      const found = yield* main(["check", "-d", damaged])
      assert.strictEqual(found.code, 3)
      assert.match(found.stderr, /damaged/)
      const other = path.join(directory, "other.sqlite")
      const db = new Sqlite(other)
      db.exec("create table t (a)")
      yield* says(["check", "-d", other], {
        code: 3,
        stdout: `database: SQLite ${db.prepare("select sqlite_version()").pluck().get()}\nintegrity: sound\n`,
        stderr: "No user can be looked up: there is no table users, which effect-avatars migrate makes.\n"
      })
      db.exec("create table users (login text, name text, forname text)")
      db.close()
      const twice = yield* main(["check", "-d", other])
      assert.deepStrictEqual([twice.code, twice.stderr], [
        4,
        "The column login has no unique index: a login may be there twice.\n"
      ])
    }))
})

describe("help", () => {
  it.scopedLive("names every command and exit code, without colours where nobody sees them", () =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* main(["--help"])
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      for (const name of ["lookup", "add", "set", "remove", "list", "count", "import", "export", "migrate", "check"]) {
        assert.match(stdout, new RegExp(`^  ${name} +[A-Z].*\\.$`, "m"))
        const { stdout: help } = yield* main([name, "--help"])
        assert.include(help, "--database")
        assert.notInclude(help, "\u001b")
      }
    }))

  it.scopedLive("of a command is a page that says what is particular to it, and calls it as it is called", () =>
    Effect.gen(function*() {
      const { stdout } = yield* main(["import", "--help"])
      assert.match(stdout, /^effect-avatars \d+\.\d+\.\d+\n\nUSAGE\n\n\$ effect-avatars import \[/)
      assert.match(stdout, /\n--on-conflict fail \| skip \| update\n\n {2}What to do with a login that is taken/)
      assert.notMatch(stdout, /user-defined|is optional|One of the following|--wizard|--log-level/)
    }))

  it.scopedLive("is what the word help asks for, alone, before a command and before what is none; `lookup help` is a user", () =>
    Effect.gen(function*() {
      const whole = yield* main(["--help"])
      for (const args of [["help"], ["help", "constructor"]]) {
        assert.deepStrictEqual(yield* main(args), whole)
      }
      assert.deepStrictEqual(yield* main(["help", "import"]), yield* main(["import", "--help"]))
      const { file } = yield* database("users.sqlite")
      assert.deepInclude(yield* main(["lookup", "help", "--database", file]), { code: 1, stdout: "" })
    }))

  it.scopedLive("has the version beside it", () =>
    Effect.gen(function*() {
      const { version } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8")) as { version: string }
      assert.strictEqual((yield* main(["--version"])).stdout, `${version}\n`)
    }))
})

/** What the command line is given and cannot work with, and what it makes of it: nothing. */
import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { imported, rows, says, three } from "./commands.js"
import { main, tempDirectory } from "./programs.js"

describe("a command line that is wrong", () => {
  const wrong: ReadonlyArray<readonly [args: ReadonlyArray<string>, sentence: RegExp]> = [
    [["--wizard"], /^'--wizard' is no option\. See --help\.$/],
    [["count", "-d", "x", "--log-level", "debug"], /^'--log-level' is no option/],
    [["--completions", "powershell"], /^--completions is for bash, zsh or fish\.$/],
    [["--completions"], /^--completions is for bash, zsh or fish\.$/],
    [["--frob", "yoen"], /'--frob' is no option of this command/],
    [["lookup", "yoen", "--database"], /'--database' is no option of this command, or its value is missing/],
    [["--database", "users.sqlite"], /^Name the logins to look up/],
    [["lookup"], /^Name the logins to look up/],
    [["lookup", "yoen", "--format", "xml"], /--format is one of text, json\./],
    [["lookup", "yoen", "--concurrency", "many"], /^--concurrency is a whole number from 1, not 'many'\.$/],
    [["lookup", "yoen", "--concurrency", "0"], /^--concurrency is a whole number from 1, not '0'\.$/],
    [["add", "ada"], /Missing argument <name>/],
    [["add", "", "a", "b", "-d", "x"], /^"" is no login/],
    [["add", "ada", "a", "b", "-d", ""], /^--database names no file and no URL\.$/],
    [["set", "ada", "-d", "x"], /^Say what to set/],
    [["remove", "-d", "x"], /Missing argument <login>/],
    [["count"], /^No database is named: say --database users\.sqlite, or set DATABASE_URL\.$/],
    [["count", "extra", "-d", "x"], /unknown argument: 'extra'/],
    [["import", "-d", "x"], /Missing argument <file>/],
    [["import", "users.txt", "-d", "x"], /does not tell whether it is CSV or NDJSON/],
    [["import", "users.csv", "--delimiter", "", "-d", "x"], /^--delimiter is one character of ASCII/],
    [["import", "users.csv", "--on-conflict", "ask", "-d", "x"], /--on-conflict is one of fail, skip, update\./],
    [["import", "users.csv", "--rejects", "-", "-d", "x"], /^--rejects is a file: '-' is none\.$/],
    [["import", "users.csv", "--atomic=maybe", "-d", "x"], /^'--atomic=maybe': --atomic takes no value\.$/],
    [["export", "--login-column", "x", "--name-column", "x", "-d", "x"], /^Two of --login-column, .* are the same\.$/],
    [["list", "-d"], /'-d' is no option of this command, or its value is missing/],
    [["export", "--delimiter", "\"", "-d", "x"], /^--delimiter is one character of ASCII/],
    [["export", "users.pdf", "-d", "x"], /does not tell whether it is CSV or NDJSON/]
  ]
  for (const [args, sentence] of wrong) {
    it.scopedLive(`is answered in one sentence, with exit code 2: ${JSON.stringify(args)}`, () =>
      Effect.map(main(args), ({ code, stderr, stdout }) => {
        assert.deepStrictEqual({ code, stdout }, { code: 2, stdout: "" })
        assert.match(stderr, /^[^\n]+\n$/)
        assert.match(stderr.trimEnd(), sentence)
      }))
  }
})

describe("adding users to a table that cannot tell whether a login is taken", () => {
  it.scopedLive("says what it lacks, by add and by import", () =>
    Effect.gen(function*() {
      const file = path.join(yield* tempDirectory, "users.sqlite")
      const db = new Sqlite(file)
      db.exec("create table users (login text, name text, forname text)")
      const stderr = "No user can be added, since the column login has no unique index: "
        + "make one by create unique index users_login on users (login).\n"
      const csv = `${file}.csv`
      fs.writeFileSync(csv, "login,name,forname\nada,Lovelace,Ada\n")
      yield* says(["add", "ada", "Lovelace", "Ada", "-d", file], { code: 3, stderr })
      yield* says(["import", csv, "-d", file], { code: 3, stderr })
      db.exec("create unique index users_login on users (login)")
      db.close()
      yield* says(["add", "ada", "Lovelace", "Ada", "-d", file], {})
      assert.deepStrictEqual(rows(file), [["ada", "Lovelace", "Ada"]])
    }))

  for (
    const [what, schema] of [
      ["a view", "create table t (login text, name text, forname text); create view users as select * from t"],
      ["a table whose key is a number", "create table users (login integer primary key, name text, forname text)"]
    ] as const
  ) {
    it.scopedLive(`says nothing of the kind of ${what}`, () =>
      Effect.gen(function*() {
        const file = path.join(yield* tempDirectory, "users.sqlite")
        const db = new Sqlite(file)
        db.exec(schema)
        db.close()
        const { code, stderr } = yield* main(["add", "ada", "Lovelace", "Ada", "-d", file])
        assert.strictEqual(code, 3)
        assert.notInclude(stderr, "unique index")
      }))
  }
})

describe("a table of users", () => {
  const made = (columns: string, kind = "") =>
    Effect.map(tempDirectory, (directory) => {
      const file = path.join(directory, "users.sqlite")
      const db = new Sqlite(file)
      db.exec(`create table users (${columns}) ${kind}`)
      db.close()
      return file
    })

  it.scopedLive("that would store 007 as 7 is told to, and stores nothing", () =>
    Effect.gen(function*() {
      for (const type of ["string", "integer", "numeric(10)", "any"]) {
        const file = yield* made(`login ${type} primary key, name text, forname ${type}`)
        const source = `${file}.csv`
        fs.writeFileSync(source, "login,name,forname\n007,0123,1e3\n")
        const sentence = new RegExp(
          `^The table users has columns that do not keep texts as they are .007 may become 7, or get blanks.: login ${
            type.replace(/\W.*/, "")
          }.*, forname`,
          "i"
        )
        const all = [["add", "007", "0123", "1e3"], ["import", source], ["set", "7", "--name", "a"], ["migrate"]]
        for (const args of type === "string" ? all : all.slice(0, 1)) {
          const { code, stderr } = yield* main([...args, "-d", file])
          assert.strictEqual(code, 3, stderr)
          assert.match(stderr, sentence)
        }
        assert.deepStrictEqual(rows(file), [])
        // What stores nothing is not refused.
        assert.strictEqual((yield* main(["remove", "m", "-d", file])).code, 1)
        const { code, stderr } = yield* main(["check", "-d", file])
        assert.strictEqual(code, 4)
        assert.match(stderr, sentence)
      }
      for (const type of ["text", "varchar(20)", "blob", ""]) {
        const file = yield* made(`login ${type} primary key, name ${type}, forname ${type}`)
        yield* says(["add", "007", "0123", "1e3", "-d", file], {})
        assert.deepStrictEqual(rows(file), [["007", "0123", "1e3"]])
      }
      const strict = yield* made("login any primary key, name any, forname text", "strict")
      yield* says(["add", "007", "0123", "1e3", "-d", strict], {})
      assert.deepStrictEqual(rows(strict), [["007", "0123", "1e3"]])
    }))

  it.scopedLive("without a column, or an index that makes logins unique, is no table that migrate says is there", () =>
    Effect.gen(function*() {
      yield* says(["migrate", "-d", yield* made("login text unique, name text")], {
        code: 3,
        stderr: "No user can be looked up: the table users has no column forname.\n"
      })
      yield* says(["migrate", "-d", yield* made("login text, name text, forname text")], {
        code: 3,
        stderr:
          "No user can be added, since the column login has no unique index: make one by create unique index users_login on users (login).\n"
      })
    }))

  it.scopedLive("whose collation takes differing logins for equal is told to, by check", () =>
    Effect.gen(function*() {
      for (const [collation, isTold] of [["nocase", true], ["rtrim", true], ["binary", false]] as const) {
        const file = yield* made(`login text collate ${collation} primary key, name text, forname text`)
        const { code, stderr } = yield* main(["check", "-d", file])
        assert.deepStrictEqual([code, stderr.startsWith("Logins are unique by a collation")], [isTold ? 4 : 0, isTold])
      }
    }))

  it.scopedLive("with rows that have no login is told to, by whatever prints them all", () =>
    Effect.gen(function*() {
      const file = yield* made("login, name text, forname text")
      const db = new Sqlite(file)
      db.exec("insert into users values (42, 'a', 'b'), (null, 'a', 'b'), ('x', 'y', 'z')")
      db.close()
      for (const args of [["export"], ["list"], ["check"]]) {
        const { code, stderr } = yield* main([...args, "-d", file])
        assert.strictEqual(code, 4)
        assert.match(stderr, /^2 rows have no login, or one that is no text: nobody can be found by it\.$/m)
      }
    }))
})

describe("a database without a table of users", () => {
  it.scopedLive("is told to have none by whatever reads or changes users, and is left as it was", () =>
    Effect.gen(function*() {
      const file = path.join(yield* tempDirectory, "other.sqlite")
      const db = new Sqlite(file)
      db.exec("create table t (a)")
      db.close()
      const before = fs.readFileSync(file)
      const stderr = "No user can be looked up: there is no table users, which effect-avatars migrate makes.\n"
      for (const args of [["list"], ["count"], ["export"], ["ada"], ["remove", "ada"], ["set", "ada", "--name", "A"]]) {
        yield* says([...args, "-d", file], { code: 3, stderr })
      }
      assert.isTrue(before.equals(fs.readFileSync(file)))
    }))
})

describe("a bug of ours", () => {
  it.scopedLive("is told on stderr, so that stdout has nothing but what was asked for", () =>
    Effect.gen(function*() {
      const planted = "Object.defineProperty(process, 'stdin', { get() { throw new Error('planted') } })"
      const file = path.join(yield* tempDirectory, "users.sqlite")
      const ended = yield* main(["import", "-", "-d", file], {
        NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(planted)}`
      })
      assert.deepStrictEqual([ended.code, ended.stdout], [1, ""])
      assert.match(ended.stderr, /planted/)
    }))
})

describe("import", () => {
  it.scopedLive("that rejects nothing removes what an earlier one of the file has rejected, and no file of another name", () =>
    Effect.gen(function*() {
      const { again, directory, source } = yield* imported("login,name,forname\na,1\n")
      const rejects = `${source}.rejects.ndjson`
      const theirs = fs.readFileSync(rejects)
      assert.isTrue(fs.existsSync(rejects))
      const named = path.join(directory, "named.ndjson")
      fs.copyFileSync(rejects, named)
      fs.writeFileSync(source, "login,name,forname\na,1,A\n")
      assert.strictEqual((yield* again("--on-conflict", "skip", "--rejects", named)).code, 0)
      assert.isTrue(fs.existsSync(named) && fs.existsSync(rejects))
      assert.strictEqual((yield* again("--on-conflict", "skip")).code, 0)
      assert.isFalse(fs.existsSync(rejects))
      fs.writeFileSync(rejects, "notes of somebody's own")
      assert.strictEqual((yield* again("--on-conflict", "skip")).code, 0)
      assert.isTrue(fs.existsSync(rejects))
      fs.writeFileSync(named, theirs)
      fs.rmSync(rejects)
      fs.symlinkSync(named, rejects)
      assert.strictEqual((yield* again("--on-conflict", "skip")).code, 0)
      assert.isTrue(fs.existsSync(rejects) && fs.existsSync(named))
    }))

  it.scopedLive("says of a first line that it names a column twice", () =>
    Effect.gen(function*() {
      const { code, stderr } = yield* imported("login,age,age,name,login,forname\na,1,1,A,b,B\n")
      assert.deepStrictEqual({ code, stderr }, {
        code: 2,
        stderr: "The file's first line names the column 'login' twice.\n"
      })
    }))

  it.scopedLive("says of a first line that opens a quote that it is never closed", () =>
    Effect.gen(function*() {
      const { code, file, stderr } = yield* imported("login,\"name,forname\na,1,A\n")
      assert.deepStrictEqual([code, stderr], [4, "The file's first line opens a quote that is never closed.\n"])
      assert.isFalse(fs.existsSync(file))
    }))

  it.scopedLive("rejects what is not UTF-8 also where its neighbour reads the same", () =>
    Effect.gen(function*() {
      const text = Buffer.concat([
        Buffer.from("login,name,forname\nx"),
        Buffer.from([0xFF]),
        Buffer.from(",b,c\nax\uFFFD,b,c\n")
      ])
      const { code, rejects, rows } = yield* imported(text)
      assert.strictEqual(code, 4)
      assert.deepStrictEqual(rejects().map(({ line, reason }) => [line, reason]), [[2, "it is not UTF-8"]])
      assert.deepStrictEqual(rows(), [["ax\uFFFD", "b", "c"]])
    }))

  it.scopedLive("makes no database of a file that is not there, or has other columns", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const [file, source] = [path.join(directory, "users.sqlite"), path.join(directory, "users.csv")]
      assert.strictEqual((yield* main(["import", source, "-d", file])).code, 5)
      fs.writeFileSync(source, "{\"login\":\"a\",\"name\":\"1\",\"forname\":\"A\"}\n")
      const { code, stderr } = yield* main(["import", source, "-d", file])
      assert.strictEqual(code, 2)
      assert.match(stderr, /what looks like NDJSON is read by --format ndjson\.$/m)
      assert.deepStrictEqual(fs.readdirSync(directory), ["users.csv"])
      assert.strictEqual((yield* main(["import", source, "-d", file, "--format", "ndjson"])).code, 0)
    }))

  it.scopedLive("says how many are stored where its rejects cannot be written", () =>
    Effect.gen(function*() {
      const { code, rows, stderr } = yield* imported(`${three}d\n`, "--rejects", "/dev/full")
      assert.strictEqual(code, 5)
      assert.match(stderr, /^Stopped: 3 users are stored/m)
      assert.match(stderr, /^The file '\/dev\/full' could not be written: the disk is full \(ENOSPC\)\.$/m)
      assert.lengthOf(rows(), 3)
    }))
})

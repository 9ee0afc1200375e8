import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { imported, importedAs, rows, three } from "./commands.js"
import { database, main, tempDirectory } from "./programs.js"

/** The second of three users is not taken: a trigger's FAIL keeps the rows before it. */
const refusals = [
  ["a constraint", "check (name <> '2')", ""],
  [
    "a trigger",
    "",
    "create trigger refuses before insert on users when new.name = '2' begin select raise(fail, 'not this one'); end"
  ]
] as const

describe("import", () => {
  it.scopedLive("stores what a file of CSV holds: quotes, line ends, empty fields, a mark at its beginning", () =>
    Effect.gen(function*() {
      const text = "\uFEFFlogin,name,forname\r\na,\"x\"\"y, z\",\r\n\"b\",\"two\r\nlines\",\" B \"\r\n\r\nc,3,q\"q"
      const { code, rows, stderr, stdout } = yield* imported(text)
      assert.deepStrictEqual({ code, stderr, stdout }, {
        code: 0,
        stderr: "",
        stdout: "3 stored, 0 updated, 0 skipped, 0 rejected\n"
      })
      assert.deepStrictEqual(rows(), [["a", "x\"y, z", ""], ["b", "two\r\nlines", " B "], ["c", "3", "q\"q"]])
    }))

  it.scopedLive("stores what a file of NDJSON holds", () =>
    Effect.gen(function*() {
      const text =
        "\uFEFF{\"login\":\"a\",\"name\":\"1\",\"forname\":\"A\",\"age\":3}\r\n\n{\"forname\":\"\\n\",\"name\":\"\",\"login\":\"b\"}"
      const { code, rows } = yield* importedAs("users.jsonl", text)
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(rows(), [["a", "1", "A"], ["b", "", "\n"]])
    }))

  it.scopedLive("finds the columns by the names that it is told, in any order, among others, with another delimiter", () =>
    Effect.gen(function*() {
      const named = ["--login-column", "user id", "--name-column", "last", "--forname-column", "first"]
      const text = "first;age;user id;last\nA;3;a;1\n"
      const { rows } = yield* imported(text, "--delimiter", ";", ...named)
      assert.deepStrictEqual(rows(), [["a", "1", "A"]])
      const json = yield* importedAs("u.ndjson", `{"user id":"a","last":"1","first":"A"}`, ...named)
      assert.deepStrictEqual(json.rows(), [["a", "1", "A"]])
    }))

  it.scopedLive("refuses a file without a column, and says which it has", () =>
    Effect.gen(function*() {
      const { code, file, stderr } = yield* imported("user,name,forname\na,1,A\n")
      assert.strictEqual(code, 2)
      assert.match(
        stderr,
        /^The file's first line names no column 'login' but 'user', 'name', 'forname': .*--login-column/
      )
      assert.isFalse(fs.existsSync(file))
    }))

  it.scopedLive("says of objects without a field what they have and which options name it", () =>
    Effect.gen(function*() {
      const { code, directory } = yield* importedAs("u.ndjson", `{"id":"a","name":"1","forname":"A"}\n{}\n`)
      assert.strictEqual(code, 4)
      const [first, second] = fs.readFileSync(path.join(directory, "u.ndjson.rejects.ndjson"), "utf8").split("\n")
      assert.match(
        first!,
        /"it has no 'login' but 'id', 'name', 'forname'; --login-column, .* say what they are called"/
      )
      assert.match(second!, /"it has no 'login', 'name', 'forname' but nothing; /)
    }))

  it.scopedLive("reads standard input", () =>
    Effect.gen(function*() {
      const file = path.join(yield* tempDirectory, "users.sqlite")
      const { code } = yield* main(["import", "-", "-d", file], {}, undefined, three)
      assert.strictEqual(code, 0)
      assert.lengthOf(rows(file), 3)
    }))

  it.scopedLive("writes each line that is no user, with its number and why, into a file for its owner alone; the rest is stored", () =>
    Effect.gen(function*() {
      const long = "x".repeat(256)
      const lines = [
        "login,name,forname",
        "a,1,A",
        ",1,A",
        "b,1",
        "c,1,C,more",
        "d,\"open,D",
        "e,1,E",
        `${long},1,A`,
        "f,\"1\"x,F",
        "g,1,G"
      ]
      const { code, rejects, rows, source, stderr, stdout } = yield* imported(lines.join("\n"))
      assert.strictEqual(code, 4)
      assert.strictEqual(stdout, "3 stored, 0 updated, 0 skipped, 6 rejected\n")
      assert.match(stderr, /^6 lines are no user: see '.*users\.csv\.rejects\.ndjson'\.\n$/)
      assert.deepStrictEqual(rows(), [["a", "1", "A"], ["e", "1", "E"], ["g", "1", "G"]])
      assert.deepStrictEqual(
        rejects().map(({ line, text }) => [line, text]),
        [3, 4, 5, 6, 8, 9].map((line) => [line, lines[line - 1]])
      )
      assert.strictEqual(fs.statSync(`${source}.rejects.ndjson`).mode & 0o777, 0o600)
    }))

  it.scopedLive("counts the lines of a file that ends them by CR and LF, also of one that ends each otherwise", () =>
    Effect.gen(function*() {
      const { again, rejects, rows } = yield* imported("login,name,forname\r\na,\"1\r\n\",A\r\n\r\nb,2\r\nc,3,C\r\n")
      assert.deepStrictEqual(rejects(), [{
        line: 5,
        reason: "it has 2 fields where the first line has 3",
        text: "b,2"
      }])
      assert.deepStrictEqual(rows(), [["a", "1\r\n", "A"], ["c", "3", "C"]])
      assert.match((yield* again()).stderr, /^Line 2: the login 'a' is taken\./)
      const mixed = yield* imported("login,name,forname\na,1,A\r\nb,2,\"B\"\r\nc,\"3\"4,C\r\nd,4,D\re,5,E")
      assert.deepStrictEqual(mixed.rows(), [["a", "1", "A"], ["b", "2", "B"], ["d", "4", "D"], ["e", "5", "E"]])
      assert.deepStrictEqual(mixed.rejects(), [{ line: 4, reason: "a quote is out of place", text: "c,\"3\"4,C" }])
    }))

  it.scopedLive("rejects text that is not UTF-8, and JSON that is no user", () =>
    Effect.gen(function*() {
      const latin = Buffer.concat([
        Buffer.from("login,name,forname\na,Jos"),
        Buffer.from([0xe9]),
        Buffer.from(",A\nb,é,B\n")
      ])
      const csv = yield* imported(latin)
      assert.deepStrictEqual(csv.rows(), [["b", "é", "B"]])
      assert.deepStrictEqual(csv.rejects().map(({ line, reason }) => [line, reason]), [[2, "it is not UTF-8"]])
      const lines = [`{"login":"a"`, `[]`, `null`, `{"login":"a","name":1,"forname":""}`, `{"login":"a","name":""}`]
      const json = yield* importedAs("u.ndjson", lines.join("\n"))
      assert.deepStrictEqual(json.rows(), [])
      assert.deepStrictEqual(json.rejects().map(({ text }) => text), lines)
    }))

  for (const [refusal, constraint, trigger] of refusals) {
    for (const onConflict of ["fail", "skip", "update"]) {
      it.scopedLive(`rejects alone the user whom ${refusal} refuses, also with --on-conflict ${onConflict}`, () =>
        Effect.gen(function*() {
          const directory = yield* tempDirectory
          const [source, file] = [path.join(directory, "users.csv"), path.join(directory, "users.sqlite")]
          const db = new Sqlite(file)
          db.exec(`create table users (login text primary key, name text ${constraint}, forname text); ${trigger}`)
          db.close()
          fs.writeFileSync(source, three)
          const { code, stdout } = yield* main(["import", source, "-d", file, "--on-conflict", onConflict])
          assert.deepStrictEqual({ code, stdout }, { code: 4, stdout: "2 stored, 0 updated, 0 skipped, 1 rejected\n" })
          assert.deepStrictEqual(rows(file), [["a", "1", "A"], ["c", "3", "C"]])
          assert.strictEqual(JSON.parse(fs.readFileSync(`${source}.rejects.ndjson`, "utf8")).line, 3)
        }))
    }
  }

  it.scopedLive("says in one sentence that there is no such file, and that it is a directory", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const file = path.join(directory, "users.sqlite")
      for (const source of [path.join(directory, "none.csv"), directory]) {
        const { code, stderr } = yield* main(["import", source, "--format", "csv", "-d", file])
        assert.strictEqual(code, 5)
        assert.match(stderr, /^The file '.*' could not be read: [^\n]*\.\n$/)
      }
    }))
})

describe("a taken login", () => {
  it.scopedLive("ends the import before its line by default, is left by skip, and gets the file's names by update", () =>
    Effect.gen(function*() {
      const { again, code, rows, source, stderr, stdout } = yield* imported(`${three}b,4,D\nd,5,E\n`)
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
      assert.strictEqual(
        stderr,
        "Line 5: the login 'b' is taken. What stands before it is stored, the rest is not.\n"
      )
      assert.deepStrictEqual(rows(), [["a", "1", "A"], ["b", "2", "B"], ["c", "3", "C"]])
      assert.strictEqual((yield* again("--on-conflict", "skip")).stdout, "1 stored, 0 updated, 4 skipped, 0 rejected\n")
      assert.deepStrictEqual(rows().slice(1), [["b", "2", "B"], ["c", "3", "C"], ["d", "5", "E"]])
      fs.appendFileSync(source, "e,6,F\n")
      assert.strictEqual(
        (yield* again("--on-conflict", "update")).stdout,
        "1 stored, 5 updated, 0 skipped, 0 rejected\n"
      )
      assert.deepStrictEqual(rows(), [["a", "1", "A"], ["b", "4", "D"], ["c", "3", "C"], ["d", "5", "E"], [
        "e",
        "6",
        "F"
      ]])
    }))

  it.scopedLive("that stands in the database ends the import before its line", () =>
    Effect.gen(function*() {
      const { file } = yield* database("users.sqlite")
      const source = path.join(yield* tempDirectory, "users.csv")
      fs.writeFileSync(source, `${three}yoen,x,y\nz,1,2\n`)
      const { code, stderr } = yield* main(["import", source, "-d", file])
      assert.strictEqual(code, 1)
      assert.match(stderr, /^Line 5: the login 'yoen' is taken\./)
      assert.deepStrictEqual(rows(file).map((row) => (row as Array<string>)[0]), [
        "a",
        "b",
        "c",
        "esteban",
        "mohamed",
        "yoen"
      ])
    }))
})

describe("with --atomic", () => {
  it.scopedLive("a bad line or a taken login leaves nothing, and a whole file everything", () =>
    Effect.gen(function*() {
      const { again, code, rejects, rows, source, stderr } = yield* imported(`${three}d,1\n`, "--atomic")
      assert.strictEqual(code, 4)
      assert.match(stderr, /^1 line is no user, so that nothing is stored: see /)
      assert.deepStrictEqual(rows(), [])
      assert.lengthOf(rejects(), 1)
      fs.writeFileSync(source, `${three}a,1,1\n`)
      const taken = yield* again("--atomic")
      assert.deepStrictEqual([taken.code, taken.stderr], [1, "Line 5: the login 'a' is taken. Nothing is stored.\n"])
      assert.deepStrictEqual(rows(), [])
      assert.strictEqual((yield* again("--atomic", "--on-conflict", "skip")).code, 0)
      assert.lengthOf(rows(), 3)
    }))
})

describe("export", () => {
  it.scopedLive("and import give every avatar of a legacy database back, byte for byte, in both formats", () =>
    Effect.gen(function*() {
      const { directory, file } = yield* database("legacy.sqlite")
      for (const format of ["csv", "ndjson"]) {
        const [first, second] = [path.join(directory, `first.${format}`), path.join(directory, `second.${format}`)]
        const copy = path.join(directory, `${format}.sqlite`)
        // The six that are no avatars are told.
        assert.strictEqual((yield* main(["export", first, "-d", file])).code, 4)
        assert.strictEqual((yield* main(["import", first, "-d", copy])).code, 0)
        assert.strictEqual((yield* main(["export", second, "-d", copy])).code, 0)
        assert.lengthOf(rows(copy), 1011)
        assert.isTrue(fs.readFileSync(first).equals(fs.readFileSync(second)))
        const db = new Sqlite(file)
        db.prepare("attach ? as copy").run(copy)
        const missing = db.prepare(`
          select count(*) from copy.users as theirs where not exists (
            select 1 from users as ours where cast(ours.login as blob) = cast(theirs.login as blob)
              and cast(ours.name as blob) = cast(theirs.name as blob) and cast(ours.forname as blob) = cast(theirs.forname as blob)
          )`).pluck().get()
        db.close()
        assert.strictEqual(missing, 0)
        assert.strictEqual(fs.statSync(first).mode & 0o777, 0o600)
      }
    }))

  it.scopedLive("leaves nothing where it fails, and an older file as it was", () =>
    Effect.gen(function*() {
      const { directory, file } = yield* database("users.sqlite")
      const out = path.join(directory, "out.csv")
      fs.writeFileSync(out, "old")
      fs.writeFileSync(file, "no database".repeat(1000))
      assert.strictEqual((yield* main(["export", out, "-d", file])).code, 3)
      assert.strictEqual(fs.readFileSync(out, "utf8"), "old")
      assert.strictEqual((yield* main(["export", path.join(directory, "none/out.csv"), "-d", file])).code, 3)
      assert.deepStrictEqual(fs.readdirSync(directory).toSorted(), ["out.csv", "users.sqlite"])
    }))
})

/** What the command line is given and cannot work with, and what it makes of it: nothing. */
import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { imported, rows, says, three } from "./commands.js"
import { main, tempDirectory } from "./programs.js"

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

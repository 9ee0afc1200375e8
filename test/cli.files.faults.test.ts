/** What the command line does to files, and what it prints where it cannot write. */
import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { database, main, root, run, tempDirectory } from "./programs.js"
import { claimOnServer, servers } from "./servers.js"

const program = path.join(root, "dist/bin/main.js")

/** The program started by a shell: `$0` is Node, `$1` the program, and the rest what the script is given. */
const shell = (script: string, ...args: ReadonlyArray<string>) =>
  run("sh", ["-c", script, process.execPath, program, ...args])

const rows = (file: string) => {
  const db = new Sqlite(file)
  const all = db.prepare("select login, name, forname from users order by login").raw().all()
  db.close()
  return all
}

/** A database with enough users for a file of some 200 kB. */
const many = Effect.map(tempDirectory, (directory) => {
  const file = path.join(directory, "many.sqlite")
  const db = new Sqlite(file)
  db.exec(`
    create table users (login text not null primary key, name text not null, forname text not null);
    insert into users with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000)
      select 'user' || i, hex(zeroblob(90)), '' from n
  `)
  db.close()
  return { directory, file }
})

const csv = (directory: string, text: string | Buffer) => {
  const file = path.join(directory, "users.csv")
  fs.writeFileSync(file, text)
  return file
}

describe("what cannot be written whole", () => {
  it.scopedLive("by an export is no file, and the exit code is 5", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(process.platform === "win32", "ulimit is of POSIX")
      const { directory, file } = yield* many
      const to = path.join(directory, "out.csv")
      const { code } = yield* shell("ulimit -f 64; \"$0\" \"$1\" export \"$2\" -d \"$3\"", to, file)
      assert.strictEqual(code, 5)
      assert.deepStrictEqual(fs.readdirSync(directory).filter((name) => name.startsWith("out")), [])
    }))

  it.scopedLive("to standard output is told in one sentence, and the exit code is 5", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(!fs.existsSync("/dev/full"), "there is no /dev/full")
      const { file } = yield* many
      for (const args of ["list", "count", "check", "export", "user1", "--help"]) {
        const { code, stderr } = yield* shell("\"$0\" \"$1\" $2 -d \"$3\" > /dev/full", args, file)
        assert.strictEqual(code, 5, args)
        assert.match(stderr, /Standard output could not be written: the disk is full \(ENOSPC\)\.\n/)
      }
    }))
})

it.scopedLive("a file whose name no file can have is told in one sentence, whatever it is for", () =>
  Effect.gen(function*() {
    const { directory, file } = yield* many
    const long = path.join(directory, `${"x".repeat(300)}.csv`)
    const source = csv(directory, "login,name,forname\na,1\n")
    for (const args of [["export", long], ["import", long], ["import", source, "--rejects", long]]) {
      const { code, stderr } = yield* main([...args, "-d", file])
      assert.strictEqual(code, 5)
      assert.match(stderr, /^The file '[^\n]*' could not be (read|written): its name is too long \(ENAMETOOLONG\)\.\n$/)
    }
  }))

describe("a file that is read", () => {
  it.scopedLive("is not written over, nor is the database", () =>
    Effect.gen(function*() {
      const { directory, file } = yield* many
      const source = csv(directory, "login,name,forname\na,1\nb,2,B\n")
      const before = [source, file].map((file) => fs.readFileSync(file))
      for (
        const args of [
          ["import", source, "--rejects", source],
          ["import", source, "--rejects", file],
          ["export", file, "--format", "csv"],
          ["export", `${file}-journal`, "--format", "csv"],
          ["import", source, "--rejects", `${file}-wal`]
        ]
      ) {
        const { code, stderr } = yield* main([...args, "-d", file])
        assert.strictEqual(code, 2)
        assert.match(
          stderr,
          /^'.*' is (what is read|the database, or a file that belongs to it): it would be written over\.\n$/
        )
      }
      assert.deepStrictEqual([source, file].map((file) => fs.readFileSync(file)), before)
    }))

  it.scopedLive("as standard input is not written over, nor is a database that is made by the import", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const source = csv(directory, "login,name,forname\na,1\nb,2,B\n")
      const before = fs.readFileSync(source, "utf8")
      const file = path.join(directory, "new.sqlite")
      const redirected = yield* shell("\"$0\" \"$1\" import - -d \"$2\" --rejects \"$3\" < \"$3\"", file, source)
      assert.deepInclude(redirected, { code: 2, stderr: `'${source}' is what is read: it would be written over.\n` })
      assert.strictEqual(fs.readFileSync(source, "utf8"), before)
      for (const rejects of [file, `${file}-wal`, path.join(directory, ".", "new.sqlite-shm")]) {
        assert.strictEqual((yield* main(["import", source, "-d", file, "--rejects", rejects])).code, 2)
        assert.isFalse(fs.existsSync(file))
      }
    }))

  it.scopedLive("through links is not written over either, wherever they lead", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const at = (name: string) => path.join(directory, name)
      const source = csv(directory, "login,name,forname\na,1\nb,2,B\n")
      fs.mkdirSync(at("other/dir"), { recursive: true })
      fs.symlinkSync("other/dir", at("link"))
      fs.symlinkSync("other/real.sqlite", at("database"))
      fs.symlinkSync("new.sqlite", at("rejects"))
      const throughLink = `${at("link")}/../new.sqlite`
      const wrong = [
        [throughLink, at("other/new.sqlite")],
        [at("other/new.sqlite"), throughLink],
        [at("new.sqlite"), at("rejects")],
        [at("database"), at("other/real.sqlite")],
        [at("database"), at("other/real.sqlite-wal")],
        [at("database"), at("other/dir/../real.sqlite-journal")]
      ] as const
      for (const [file, output] of wrong) {
        const { code, stderr } = yield* main(["import", source, "-d", file, "--rejects", output])
        assert.strictEqual(code, 2, stderr)
        assert.isFalse(fs.existsSync(file))
        assert.match(stderr, /or a file that belongs to it: it would be written over/)
      }
      yield* main(["import", source, "-d", at("database"), "--rejects", at("said")])
      assert.deepStrictEqual(rows(at("database")), [["b", "2", "B"]])
      fs.writeFileSync(at("out.csv"), "not this")
      assert.strictEqual((yield* main(["export", `${at("link")}/../out.csv`, "-d", at("database")])).code, 0)
      assert.strictEqual(fs.readFileSync(at("out.csv"), "utf8"), "not this")
      assert.strictEqual(fs.readFileSync(at("other/out.csv"), "utf8"), "login,name,forname\nb,2,B\n")
      fs.symlinkSync("later.csv", at("dangling.csv"))
      assert.strictEqual((yield* main(["export", at("dangling.csv"), "-d", at("database")])).code, 0)
      assert.isTrue(fs.lstatSync(at("dangling.csv")).isSymbolicLink() && fs.existsSync(at("later.csv")))
    }))

  it.scopedLive("and exported to again has the rights that it had", () =>
    Effect.gen(function*() {
      const { directory, file } = yield* many
      const out = path.join(directory, "out.csv")
      fs.writeFileSync(out, "")
      fs.chmodSync(out, 0o640)
      assert.strictEqual((yield* main(["export", out, "-d", file])).code, 0)
      assert.strictEqual(fs.statSync(out).mode & 0o777, 0o640)
    }))

  it.scopedLive("through a link stays linked, and a pipe stays a pipe, when it is exported to", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(process.platform === "win32", "pipes with names are of POSIX")
      const { directory, file } = yield* many
      const [target, link] = [path.join(directory, "target.csv"), path.join(directory, "link.csv")]
      fs.writeFileSync(target, "old")
      fs.symlinkSync(target, link)
      assert.strictEqual((yield* main(["export", link, "-d", file])).code, 0)
      assert.isTrue(fs.lstatSync(link).isSymbolicLink())
      assert.match(fs.readFileSync(target, "utf8"), /^login,name,forname\nuser1,/)
      const { stdout } = yield* shell(
        "mkfifo \"$2.csv\"; cat \"$2.csv\" & \"$0\" \"$1\" export \"$2.csv\" -d \"$3\"; wait; ls -l \"$2.csv\"",
        path.join(directory, "pipe"),
        file
      )
      assert.match(stdout, /^login,name,forname\nuser1,[^]*\np[^\n]*pipe\.csv\n$/)
    }))
})

describe("an import", () => {
  it.scopedLive("takes U+FFFD that stands in a file, beside text that is not UTF-8", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const file = path.join(directory, "users.sqlite")
      const text = Buffer.concat([
        Buffer.from("login,name,forname\n\"\uFFFDx\",b,c\nbad"),
        Buffer.from([255]),
        Buffer.from(",e,f\nq\uFFFD,g,h\n")
      ])
      const { code, stdout } = yield* main(["import", csv(directory, text), "-d", file])
      assert.deepStrictEqual({ code, stdout }, { code: 4, stdout: "2 stored, 0 updated, 0 skipped, 1 rejected\n" })
      assert.deepStrictEqual(rows(file), [["q\uFFFD", "g", "h"], ["\uFFFDx", "b", "c"]])
      const asked = yield* run("sh", [
        "-c",
        "printf 'q\\377\\n' | \"$0\" \"$1\" - -d \"$2\"",
        process.execPath,
        program,
        file
      ])
      assert.deepStrictEqual([asked.code, asked.stdout], [4, ""])
      assert.match(asked.stderr, /^The line 'q.' of standard input is not UTF-8\.\n$/)
    }))

  it.scopedLive("rejects any number of lines, and reads what quotes out of place leave in a time that grows with the file", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const file = path.join(directory, "users.sqlite")
      const ndjson = path.join(directory, "users.ndjson")
      fs.writeFileSync(ndjson, "x\n".repeat(200_000))
      const all = yield* main(["import", ndjson, "-d", file])
      assert.deepStrictEqual([all.code, all.stdout], [4, "0 stored, 0 updated, 0 skipped, 200000 rejected\n"])
      const source = csv(directory, `login,name,forname\n${"x\",\"y\n".repeat(5_000)}a,1,A\n`)
      const quotes = yield* main(["import", source, "-d", file])
      assert.deepStrictEqual([quotes.code, quotes.stdout], [4, "1 stored, 0 updated, 0 skipped, 5000 rejected\n"])
    }))

  it.scopedLive("with update rejects alone the user whose update the database refuses", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const file = path.join(directory, "users.sqlite")
      const db = new Sqlite(file)
      db.exec(`
        create table users (login text not null primary key, name text not null, forname text not null);
        insert into users values ('a', 'old', ''), ('c', 'old', '');
        create trigger refuses before update on users when new.name = 'bad' begin select raise(abort, 'no'); end
      `)
      db.close()
      const source = csv(directory, "login,name,forname\na,good,\nc,bad,\nnew,n,\n")
      const { code, stdout } = yield* main(["import", source, "-d", file, "--on-conflict", "update"])
      assert.deepStrictEqual({ code, stdout }, { code: 4, stdout: "1 stored, 1 updated, 0 skipped, 1 rejected\n" })
      assert.deepStrictEqual(rows(file), [["a", "good", ""], ["c", "old", ""], ["new", "n", ""]])
    }))

  it.scopedLive("with update gives nobody's names to another whom the table's index takes for them", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const file = path.join(directory, "users.sqlite")
      const db = new Sqlite(file)
      db.exec(`
        create table users (login text not null primary key collate nocase, name text not null, forname text not null);
        insert into users values ('ADA', 'old', ''), ('b', 'old', '');
      `)
      db.close()
      const source = csv(directory, "login,name,forname\nada,mine,\nb,new,\n")
      const { code, stdout } = yield* main(["import", source, "-d", file, "--on-conflict", "update"])
      assert.deepStrictEqual({ code, stdout }, { code: 4, stdout: "0 stored, 1 updated, 0 skipped, 1 rejected\n" })
      assert.deepStrictEqual(rows(file), [["ADA", "old", ""], ["b", "new", ""]])
    }))

  for (const server of servers) {
    claimOnServer(server)(
      `with update on ${server.name} adds whom nobody is, and gives all others the file's names`,
      (url) =>
        Effect.gen(function*() {
          const directory = yield* tempDirectory
          const lines = (name: string, count: number) =>
            `login,name,forname\n${Array.from({ length: count }, (_, i) => `user${i},${name} ${i},\n`).join("")}`
          const cli = (...args: ReadonlyArray<string>) => main(args, { DATABASE_URL: url })
          const imported = (name: string, count: number) =>
            cli("import", csv(directory, lines(name, count)), "--on-conflict", "update")
          yield* cli("migrate")
          assert.strictEqual((yield* imported("old", 1_500)).stdout, "1500 stored, 0 updated, 0 skipped, 0 rejected\n")
          assert.strictEqual(
            (yield* imported("new", 2_000)).stdout,
            "500 stored, 1500 updated, 0 skipped, 0 rejected\n"
          )
          const { stdout } = yield* cli("export", "--format", "csv")
          assert.sameMembers(stdout.split("\n"), lines("new", 2_000).split("\n"))
        })
    )
  }

  it.scopedLive("that ends before a taken login tells of the lines before it that are no user, and of no other", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const source = csv(directory, "login,name,forname\na,1,1\nb,2\na,3,3\nc,4\n")
      const { code, stderr } = yield* main(["import", source, "-d", path.join(directory, "users.sqlite")])
      assert.strictEqual(code, 4)
      assert.match(stderr, /^1 line is no user: [^\n]*\nLine 4: the login 'a' is taken\. [^\n]*\n$/)
      const rejects = fs.readFileSync(`${source}.rejects.ndjson`, "utf8").trim().split("\n")
      assert.deepStrictEqual(rejects.map((line) => JSON.parse(line).line), [3])
    }))
})

describe("what is printed", () => {
  it.scopedLive("holds no password of a URL that is mistyped", () =>
    Effect.gen(function*() {
      const urls = ["\"postgres://root:sEcret@127.0.0.1/test\"", "postgres//root:sEcret@127.0.0.1/test"]
      for (const url of urls) {
        for (const [args, env] of [[["count"], { DATABASE_URL: url }], [["count", "-d", url], {}]] as const) {
          const { code, stderr, stdout } = yield* main(args, env)
          assert.strictEqual(code, 2)
          assert.notInclude(stdout + stderr, "sEcret")
        }
      }
    }))

  it.scopedLive("by check commands no terminal, whatever columns are called", () =>
    Effect.gen(function*() {
      const file = path.join(yield* tempDirectory, "users.sqlite")
      const db = new Sqlite(file)
      db.exec("create table users (login text primary key, name text, forname text, \"x\u001b[31m\ny\" text)")
      db.close()
      assert.match(
        (yield* main(["check", "-d", file])).stdout,
        /\ncolumns: login, name, forname, x\uFFFD\[31m\uFFFDy\n/
      )
    }))

  it.scopedLive("by an export as NDJSON has the names of the columns that import takes", () =>
    Effect.gen(function*() {
      const { file } = yield* database("users.sqlite")
      const columns = ["--login-column", "user", "--name-column", "-"]
      const { stdout } = yield* main(["export", "--format", "ndjson", ...columns, "-d", file])
      assert.match(stdout, /^\{"user":"esteban","-":"Garcia Marquez","forname":"Estebán"\}\n/)
    }))
})

it.scopedLive("a name that begins with a dash is one behind =", () =>
  Effect.gen(function*() {
    const { file } = yield* many
    assert.strictEqual((yield* main(["set", "user1", "--name=-dash", "--forname", "x", "-d", file])).code, 0)
    assert.deepInclude(rows(file), ["user1", "-dash", "x"])
  }))

it.scopedLive("a dash is a name where no file is meant", () =>
  Effect.gen(function*() {
    const file = path.join(yield* tempDirectory, "users.sqlite")
    assert.strictEqual((yield* main(["add", "a", "-", "-", "-d", file])).code, 0)
    assert.deepStrictEqual(rows(file), [["a", "-", "-"]])
    assert.match((yield* main(["set", "a", "--name", "--forname", "-d", file])).stderr, /is no option of this command/)
  }))

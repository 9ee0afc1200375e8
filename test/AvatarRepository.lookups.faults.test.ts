/** Coalesced lookups: each asker gets its own answer, read after it asked, whatever is asked beside it. */
import { SqlError } from "@effect/sql"
import { assert, describe } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Duration, Effect, Exit, Fiber, Option, TestClock, TestContext } from "effect"
import { DatabaseError } from "effect-avatars"
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import {
  ask,
  atOnce,
  avatar,
  claimOn,
  clients,
  concurrently,
  fill,
  isSelect,
  legacyTable,
  login,
  nameIn,
  numbers,
  open,
  turns,
  until
} from "./lookups.js"

const busy = new SqlError.SqlError({ cause: new Sqlite.SqliteError("database is locked", "SQLITE_BUSY") })

const upsertElsewhere = `
  const db = new (require("better-sqlite3"))(process.argv[1])
  db.prepare("insert into users values (?, ?, '') on conflict do update set name = excluded.name").run("a", process.argv[2])
  db.close()
`

for (const client of clients) {
  const claim = claimOn(client)

  describe(`lookups at once on ${client.name}`, () => {
    claim("of equal logins are each answered: found, absent and malformed", function*({ sql, users }) {
      yield* legacyTable(sql)
      yield* users.create(avatar("a"))
      // A column of the other engines holds text or nothing.
      const unfit = sql.literal(client.isSqlite ? "x'00'" : "null")
      yield* sql`insert into users values ('null', null, ''), ('blob', ${unfit}, '')`
      const names = numbers(400).map((i) => ["a", "absent", "null", "blob"][i % 4]!)
      const expected = numbers(400).map((i) => ["Name of a", "UserNotFound", "MalformedUser", "MalformedUser"][i % 4]!)
      assert.deepStrictEqual(yield* concurrently(names, (name) => ask(users, name)), expected)

      const [found, absent, blob] = yield* Effect.all([
        users.findUserAvatar(login("a")),
        users.findUserAvatar(login("absent")),
        Effect.flip(users.findUserAvatar(login("blob")))
      ], { concurrency: "unbounded" })
      assert.deepStrictEqual([found, absent], [Option.some(avatar("a")), Option.none()])
      assert.strictEqual(
        blob.message,
        `The user 'blob' is malformed: its name is ${client.isSqlite ? "not text" : "NULL"}.`
      )
      const all = yield* concurrently(
        numbers(20),
        () => users.getUserAvatars(["blob", "absent", "a"].map((n) => login(n)))
      )
      all.forEach((answers) => assert.deepStrictEqual(Array.from(answers.keys()), [login("blob"), login("a")]))
    })

    claim("fail alone where their row is malformed, among 100", function*({ sql, users }) {
      yield* legacyTable(sql)
      yield* fill(sql, 100)
      yield* sql`update users set name = null where login = 'user50'`
      const askers = numbers(300).map((i) => i % 100)
      assert.deepStrictEqual(
        yield* concurrently(askers, (i) => ask(users, `user${i}`)),
        askers.map((i) => i === 50 ? "MalformedUser" : `Name of user${i}`)
      )
    })

    claim("are answered from their own database by repositories over two", function*({ sql, users }) {
      const other = yield* open(client)
      yield* fill(sql, 50)
      yield* fill(other.sql, 50)
      yield* other.sql`update users set name = 'other'`
      const answers = yield* concurrently(numbers(100), (i) => ask(i % 2 === 0 ? users : other.users, `user${i >> 1}`))
      assert.deepStrictEqual(answers, numbers(100).map((i) => i % 2 === 0 ? `Name of user${i >> 1}` : "other"))
    })

    claim("are all answered where they are 50 000", function*({ sql, users }) {
      yield* fill(sql, 40_000)
      const answers = yield* concurrently(numbers(50_000), (i) => ask(users, `user${i}`))
      assert.isTrue(answers.every((answer, i) => answer === (i < 40_000 ? `Name of user${i}` : "UserNotFound")))
    })

    claim("by one bulk of 100 000, with repetitions, are answered in the order of asking", function*({ sql, users }) {
      yield* fill(sql, 40_000)
      // Each of 50 000 twice, in an order of no other meaning, a fifth of them absent.
      const asked = numbers(100_000).map((i) => login(`user${(i * 7_919) % 50_000}`))
      const found = yield* users.getUserAvatars(asked)
      const expected = Array.from(new Set(asked)).filter((name) => Number(name.slice(4)) < 40_000)
      assert.lengthOf(expected, 40_000)
      assert.isTrue(Array.from(found.keys()).every((name, i) => name === expected[i]))
      assert.isTrue(expected.every((name) => nameIn(found, name) === `Name of ${name}`))
      assert.strictEqual(found.size, expected.length)
    })
  })

  describe(`a lookup on ${client.name}`, () => {
    claim(
      "sees what was acknowledged before it was asked, while an older one of that login awaits its answer",
      function*({
        observed,
        users
      }) {
        let isOld = true
        observed.after = (statement) => isSelect(statement) && isOld ? Effect.never : Effect.void
        const [old] = yield* atOnce([ask(observed.users, "a")])
        yield* until(() => observed.sent.length > 0)
        yield* turns(5)
        isOld = false
        yield* users.create(avatar("a"))
        assert.strictEqual(yield* ask(observed.users, "a"), "Name of a")
        yield* Fiber.interrupt(old!)
      }
    )

    claim("sees its fiber's own acknowledged writes, and nobody sees time go back", function*({ users }) {
      let isOver = false
      yield* users.create(avatar("a", "0"))
      const watch = Effect.gen(function*() {
        // oxlint-disable-next-line no-unmodified-loop-condition -- another fiber ends it
        for (let last = 0; !isOver;) {
          const seen = Number(yield* ask(users, "a"))
          assert.isAtLeast(seen, last)
          last = seen
          yield* Effect.yieldNow()
        }
      })
      const watchers = yield* atOnce(numbers(32).map(() => watch))
      for (let i = 1; i <= 300; i++) {
        yield* users.update(avatar("a", `${i}`))
        assert.strictEqual(yield* ask(users, "a"), `${i}`)
        if (i % 10 === 0) {
          assert.strictEqual(nameIn(yield* users.getUserAvatars([login("a")]), "a"), `${i}`)
        }
      }
      isOver = true
      yield* Fiber.joinAll(watchers)
    })

    if (client.isFile) {
      claim(
        "sees the write of another process between it and the one before, in 100 writes",
        function*({ file, users }) {
          assert.strictEqual(yield* ask(users, "a"), "UserNotFound")
          yield* Effect.promise(() => promisify(execFile)(process.execPath, ["-e", upsertElsewhere, file, "elsewhere"]))
          assert.strictEqual(yield* ask(users, "a"), "elsewhere")
          const other = yield* Effect.acquireRelease(
            Effect.sync(() => new Sqlite(file)),
            (other) => Effect.sync(() => other.close())
          )
          const write = other.prepare("update users set name = ?")
          for (let i = 0; i < 100; i++) {
            const beside = yield* atOnce(numbers(20).map(() => ask(users, "a")))
            write.run(`${i}`)
            assert.strictEqual(yield* ask(users, "a"), `${i}`)
            yield* Fiber.joinAll(beside)
          }
        }
      )
    }

    claim("alone leaves before the event loop turns, and needs no clock", function*({ observed }) {
      yield* observed.users.create(avatar("a"))
      const before = observed.sent.length
      yield* turns(2)
      const answer = yield* Effect.gen(function*() {
        const [asked] = yield* atOnce([ask(observed.users, "a")])
        yield* turns(0)
        assert.strictEqual(observed.sent.length, before + 1)
        return yield* Fiber.join(asked!)
      }).pipe(Effect.zipLeft(TestClock.adjust(0)), Effect.provide(TestContext.TestContext))
      assert.strictEqual(answer, "Name of a")
    })

    claim("that times out lets its caller go, and those asked with it are answered", function*({ observed, sql }) {
      yield* fill(sql, 10)
      const gate = yield* Effect.makeLatch(false)
      observed.before = () => gate.await
      const impatient = (i: number) =>
        Effect.option(Effect.timeout(ask(observed.users, `user${i}`), Duration.millis(30)))
      const patient = yield* atOnce(numbers(10).map((i) => ask(observed.users, `user${i}`)))
      assert.deepStrictEqual(yield* concurrently(numbers(10), impatient), numbers(10).map(() => Option.none()))
      yield* gate.open
      assert.deepStrictEqual(yield* Fiber.joinAll(patient), numbers(10).map((i) => `Name of user${i}`))
    })

    claim("is answered beside a bulk of 60 000 within 20 statements", function*({ observed, sql }) {
      yield* fill(sql, 1)
      const waiting: Array<() => void> = []
      observed.before = () => Effect.async((resume) => void waiting.push(() => resume(Effect.void)))
      const [bulk] = yield* atOnce([
        observed.users.getUserAvatars(numbers(60_000).map((i) => login(`nobody${i}`)))
      ])
      yield* until(() => waiting.length > 0)
      const [single] = yield* atOnce([ask(observed.users, "user0")])
      let passed = 0
      while (single!.unsafePoll() === null && passed < 1_000) {
        yield* until(() => waiting.length > 0)
        waiting.shift()!()
        passed++
        yield* until(() => observed.answered.length === passed)
        yield* turns(3)
      }
      assert.strictEqual(yield* Fiber.join(single!), "Name of user0")
      assert.isAtMost(passed, 20)
      yield* Fiber.interrupt(bulk!)
    })
  })

  describe(`a failing statement of lookups on ${client.name}`, () => {
    claim("fails each asker typed, and lookups go on when it works again", function*({ observed, sql }) {
      yield* fill(sql, 100)
      observed.before = () => new SqlError.SqlError({ cause: new Sqlite.SqliteError("disk I/O error", "SQLITE_IOERR") })
      const answers = yield* concurrently(numbers(200), (i) => ask(observed.users, `user${i % 100}`))
      assert.deepStrictEqual(answers, numbers(200).map(() => "UnknownError"))
      const error = yield* Effect.flip(observed.users.getUserAvatars(numbers(100).map((i) => login(`user${i}`))))
      assert.instanceOf(error, DatabaseError.DatabaseError)
      observed.before = () => Effect.void
      assert.strictEqual(yield* ask(observed.users, "user7"), "Name of user7")
    })

    // The plain driver remembers that a statement did not prepare.
    if (client.name !== "plain driver") {
      claim("for a missing table fails each asker typed, and lookups go on when it is back", function*({ sql, users }) {
        yield* sql`alter table users rename to hidden`
        const answers = yield* concurrently(numbers(200), (i) => ask(users, `user${i % 100}`))
        assert.deepStrictEqual(answers, numbers(200).map(() => "SqlSyntaxError"))
        yield* Effect.flip(users.getUserAvatars(numbers(100).map((i) => login(`user${i}`))))
        yield* sql`alter table hidden rename to users`
        yield* fill(sql, 100)
        assert.strictEqual(yield* ask(users, "user7"), "Name of user7")
        assert.strictEqual((yield* users.getUserAvatars([login("user7")])).size, 1)
      })
    }

    claim("is tried again for all where that may help", function*({ observed, sql }) {
      yield* fill(sql, 100)
      const failures = new Map<string, number>()
      observed.before = (statement) => {
        const key = JSON.stringify(statement.params)
        failures.set(key, (failures.get(key) ?? 0) + 1)
        return failures.get(key)! <= 2 ? busy : Effect.void
      }
      const answers = yield* concurrently(numbers(100), (i) => ask(observed.users, `user${i}`))
      assert.deepStrictEqual(answers, numbers(100).map((i) => `Name of user${i}`))
    })

    for (
      const [how, failing] of [
        ["a defect", Effect.dieMessage("a defect of a client")],
        ["an interruption", Effect.interrupt]
      ] as const
    ) {
      claim(`that ends by ${how} leaves nobody waiting, nor later ones`, function*({ observed, sql }) {
        yield* fill(sql, 100)
        observed.before = () => failing
        const exits = yield* concurrently(numbers(100), (i) => Effect.exit(ask(observed.users, `user${i}`)))
        assert.isTrue(exits.every(Exit.isFailure))
        observed.before = () => Effect.void
        assert.strictEqual(yield* ask(observed.users, "user7"), "Name of user7")
      })
    }
  })
}

/** Coalesced creates: each caller learns what became of its own avatar, whatever is created beside it. */
import { SqlError } from "@effect/sql"
import { assert, describe } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect, Exit, Fiber } from "effect"
import {
  ask,
  atOnce,
  avatar,
  claimOn,
  clients,
  concurrently,
  did,
  fill,
  isInsert,
  legacyTable,
  numbers,
  stored,
  turns,
  until
} from "./lookups.js"

const full = new SqlError.SqlError({ cause: new Sqlite.SqliteError("database or disk is full", "SQLITE_FULL") })

for (const client of clients) {
  const claim = claimOn(client)

  describe(`creates at once on ${client.name}`, () => {
    claim(
      "are 1 000, a quarter of them new: the first of equal logins is stored, the others are LoginTaken",
      function*({
        sql,
        users
      }) {
        const answers = yield* concurrently(
          numbers(1_000),
          (i) => did(users.create(avatar(`user${(i * 7) % 250}`, `${i}`)))
        )
        assert.deepStrictEqual(answers, numbers(1_000).map((i) => i < 250 ? "done" : "LoginTaken"))
        assert.deepStrictEqual(yield* stored(sql), new Map(numbers(250).map((i) => [`user${(i * 7) % 250}`, `${i}`])))
      }
    )

    claim("are 10 000, and each that succeeded is there when its caller hears of it", function*({ sql, users }) {
      const seen = yield* concurrently(numbers(10_000), (i) =>
        Effect.zipRight(
          users.create(avatar(`user${i}`)),
          i % 10 === 0 ? ask(users, `user${i}`) : Effect.succeed(`Name of user${i}`)
        ))
      assert.deepStrictEqual(seen, numbers(10_000).map((i) => `Name of user${i}`))
      assert.lengthOf(yield* sql`select login from users`, 10_000)
    })

    claim("do not fail where a neighbour's login is taken, and overwrite nobody", function*({ sql, users }) {
      yield* fill(sql, 50)
      const answers = yield* concurrently(numbers(100), (i) => did(users.create(avatar(`user${i}`, "new"))))
      assert.deepStrictEqual(answers, numbers(100).map((i) => i < 50 ? "LoginTaken" : "done"))
      const expected = numbers(100).map((i) => [`user${i}`, i < 50 ? `Name of user${i}` : "new"] as const)
      assert.deepStrictEqual(yield* stored(sql), new Map(expected))
    })

    claim("in a transaction are undone with it, and those outside are not", function*({ sql, users }) {
      const outside = yield* atOnce(numbers(50).map((i) => did(users.create(avatar(`before${i}`)))))
      const exit = yield* Effect.exit(sql.withTransaction(Effect.gen(function*() {
        const answers = yield* concurrently(numbers(100), (i) => did(users.create(avatar(`user${i % 50}`))))
        assert.deepStrictEqual(answers, numbers(100).map((i) => i < 50 ? "done" : "LoginTaken"))
        yield* Effect.exit(sql.withTransaction(
          Effect.zipRight(concurrently(numbers(20), (i) => users.create(avatar(`nested${i}`))), Effect.fail("undo"))
        ))
        assert.deepStrictEqual(yield* concurrently(["nested0", "user7"], (name) => ask(users, name)), [
          "UserNotFound",
          "Name of user7"
        ])
        return yield* Effect.fail("undo")
      })))
      assert.deepStrictEqual(exit, Exit.fail("undo"))
      assert.deepStrictEqual(new Set(yield* Fiber.joinAll(outside)), new Set(["done"]))
      assert.deepStrictEqual(new Set((yield* stored(sql)).keys()), new Set(numbers(50).map((i) => `before${i}`)))
    })

    for (
      const [name, statement] of [
        ["a CHECK constraint", undefined],
        [
          "RAISE(ABORT)",
          "create trigger t before insert on users when new.name = 'bad' begin select raise(abort, 'no'); end"
        ],
        [
          "RAISE(ABORT) afterwards",
          "create trigger t after insert on users when new.name = 'bad' begin select raise(abort, 'no'); end"
        ],
        [
          "RAISE(FAIL)",
          "create trigger t before insert on users when new.name = 'bad' begin select raise(fail, 'no'); end"
        ],
        [
          "RAISE(ROLLBACK)",
          "create trigger t before insert on users when new.name = 'bad' begin select raise(rollback, 'no'); end"
        ]
      ] as const
    ) {
      if (statement !== undefined && !client.isSqlite) {
        continue
      }
      claim(`that ${name} refuses fail alone, and each other is stored`, function*({ sql, users }) {
        yield* legacyTable(sql, "login text unique", statement === undefined ? ", check (name <> 'bad')" : "")
        yield* statement === undefined ? Effect.void : sql.unsafe(statement)
        for (const isBad of [(i: number) => i === 0, (i: number) => i === 99, (i: number) => i % 7 === 3, () => true]) {
          const answers = yield* concurrently(
            numbers(100),
            (i) => did(users.create(avatar(`user${i}`, isBad(i) ? "bad" : "good")))
          )
          assert.deepStrictEqual(answers, numbers(100).map((i) => isBad(i) ? "ConstraintError" : "done"))
          assert.deepStrictEqual(
            yield* stored(sql),
            new Map(numbers(100).filter((i) => !isBad(i)).map((i) => [`user${i}`, "good"]))
          )
          yield* sql`delete from users`
        }
      })
    }

    claim("of equal logins let the second succeed where the first is refused for its name", function*({ sql, users }) {
      yield* legacyTable(sql, "login text unique", ", check (name <> 'bad')")
      const answers = yield* concurrently(["bad", "good", "late"], (name) => did(users.create(avatar("a", name))))
      assert.deepStrictEqual(answers, ["ConstraintError", "done", "LoginTaken"])
      assert.deepStrictEqual(yield* stored(sql), new Map([["a", "good"]]))
    })

    // PostgreSQL refuses whatever follows a failure in a transaction.
    if (client.name !== "PostgreSQL") {
      claim("in a transaction where one is refused fail alone, and the rest is committed", function*({ sql, users }) {
        yield* legacyTable(sql, "login text unique", ", check (name <> 'bad')")
        const answers = yield* sql.withTransaction(
          concurrently(numbers(50), (i) => did(users.create(avatar(`user${i}`, i === 25 ? "bad" : "good"))))
        )
        assert.deepStrictEqual(answers, numbers(50).map((i) => i === 25 ? "ConstraintError" : "done"))
        assert.strictEqual((yield* stored(sql)).size, 49)
      })
    }

    claim("that the database cannot store fail typed, each one, and are tried once", function*({ observed, sql }) {
      observed.before = (statement) => isInsert(statement) ? full : Effect.void
      const answers = yield* concurrently(numbers(20), (i) => did(observed.users.create(avatar(`user${i}`))))
      assert.deepStrictEqual(answers, numbers(20).map(() => "UnknownError"))
      // Together, and once more each alone, as a refusal of one of them would ask for.
      assert.isAtMost(observed.sent.filter(isInsert).length, 40)
      observed.before = () => Effect.void
      yield* concurrently(numbers(20), (i) => observed.users.create(avatar(`user${i}`)))
      assert.strictEqual((yield* stored(sql)).size, 20)
    })
  })

  describe(`an interrupted create on ${client.name}`, () => {
    claim(
      "has happened or has not when its interruption returns, and others are unaffected",
      function*({ sql, users }) {
        const fibers = yield* atOnce(numbers(500).map((i) => did(users.create(avatar(`user${i}`)))))
        const isInterrupted = (i: number) => i % 3 === 0
        const interrupted = fibers.filter((_, i) => isInterrupted(i))
        yield* turns(0)
        yield* Fiber.interruptAll(interrupted)
        const then = yield* stored(sql)
        assert.deepStrictEqual(
          new Set(yield* Fiber.joinAll(fibers.filter((_, i) => !isInterrupted(i)))),
          new Set(["done"])
        )
        const rows = yield* stored(sql)
        numbers(500).forEach((i) => {
          if (isInterrupted(i)) {
            assert.strictEqual(rows.get(`user${i}`), then.get(`user${i}`))
          } else {
            assert.strictEqual(rows.get(`user${i}`), `Name of user${i}`)
          }
        })
      }
    )

    claim("is not stored later: what is there when its interruption returns stays", function*({ observed, users }) {
      const gate = yield* Effect.makeLatch(false)
      observed.before = (statement) => isInsert(statement) ? gate.await : Effect.void
      const fibers = yield* atOnce(numbers(10).map((i) => did(observed.users.create(avatar(`user${i}`)))))
      yield* until(() => observed.sent.length > 0)
      yield* turns(1)
      // Its caller may be let go at once, if nothing is stored then, or wait for the statement.
      const interruption = yield* Effect.fork(Fiber.interrupt(fibers[3]!))
      yield* turns(5)
      const atOnceSeen = interruption.unsafePoll() === null ? undefined : yield* ask(users, "user3")
      yield* gate.open
      yield* Fiber.join(interruption)
      const seen = atOnceSeen ?? (yield* ask(users, "user3"))
      const others = yield* Fiber.joinAll(fibers.filter((_, i) => i !== 3))
      assert.deepStrictEqual(others, others.map(() => "done"))
      yield* turns(5)
      assert.strictEqual(yield* ask(users, "user3"), seen)
    })

    claim("among equal ones leaves exactly one of the others the winner, or has won itself", function*({ sql, users }) {
      for (let round = 0; round < 50; round++) {
        const fibers = yield* atOnce(numbers(10).map((i) => did(users.create(avatar(`user${round}`, `${i}`)))))
        yield* Effect.repeatN(Effect.yieldNow(), round % 7)
        yield* Fiber.interrupt(fibers[0]!)
        const answers = yield* Fiber.joinAll(fibers.slice(1))
        const winner = (yield* stored(sql)).get(`user${round}`)
        const expected = numbers(9).map((i) => winner === `${i + 1}` ? "done" : "LoginTaken")
        assert.deepStrictEqual(answers, expected)
        assert.include(["0", "1"], winner)
      }
    })
  })
}

// The kinds of columns that only SQLite has.
for (const client of clients.filter(({ isSqlite }) => isSqlite)) {
  const claim = claimOn(client)

  describe(`a table that somebody else made, on ${client.name},`, () => {
    claim("with logins that fold case gives each create the answer that it gets alone", function*({ sql, users }) {
      yield* legacyTable(sql, "login text collate nocase unique")
      const names = ["yoen", "YOEN", "other", "Yoen", "OTHER"]
      const answers = yield* concurrently(names, (name) => did(users.create(avatar(name))))
      assert.deepStrictEqual(answers, ["done", "LoginTaken", "done", "LoginTaken", "LoginTaken"])
      assert.deepStrictEqual(new Set((yield* stored(sql)).keys()), new Set(["yoen", "other"]))
    })

    claim(
      "with logins that become numbers gives each create the answer that it gets alone",
      function*({ sql, users }) {
        yield* legacyTable(sql, "login integer unique")
        const names = ["7", "007", "yoen", "1e1", "10", "8"]
        const answers = yield* concurrently(names, (name) => did(users.create(avatar(name))))
        assert.deepStrictEqual(answers, ["done", "LoginTaken", "done", "done", "LoginTaken", "done"])
        assert.strictEqual((yield* stored(sql)).size, 4)
      }
    )

    claim("whose trigger changes logins gives each create the answer that it gets alone", function*({ sql, users }) {
      yield* sql`create trigger t after insert on users begin
        update users set login = upper(new.login) where login = new.login; end`
      const answers = yield* concurrently(["a", "b", "A", "c"], (name) => did(users.create(avatar(name, name))))
      assert.deepStrictEqual(answers, ["done", "done", "LoginTaken", "done"])
      assert.deepStrictEqual(yield* stored(sql), new Map([["A", "a"], ["B", "b"], ["C", "c"]]))
    })
  })
}

/** The connections to a server: who waits for one, who loses one, when they are closed. */
import { type SqlError } from "@effect/sql"
import { assert, describe } from "@effect/vitest"
import { Chunk, Effect, Exit, Fiber, Runtime, Stream } from "effect"
import { avatar, concurrently, fill, login, numbers } from "./lookups.js"
import { start } from "./programs.js"
import {
  claimOnServer,
  connections,
  identity,
  kill,
  killAll,
  names,
  openUrl,
  postgres,
  reason,
  repositoryOver,
  servers,
  sleep,
  withOptions
} from "./servers.js"

for (const server of servers) {
  const claim = claimOnServer(server)

  describe(`the connections to ${server.name}`, () => {
    claim(
      "that eight processes open at once, to a database without a table, are opened in each, ten times",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(url)
          const processes = yield* Effect.all(numbers(8).map(() => start("openDatabase.mjs")))
          yield* Effect.forEach(processes, ({ line }) => line)
          for (const round of numbers(10)) {
            yield* sql`drop table users`
            yield* Effect.forEach(processes, ({ say }) => say(url))
            const answers = yield* Effect.forEach(processes, ({ line }) => line)
            assert.deepStrictEqual(answers, numbers(8).map(() => "opened"), `round ${round}`)
            assert.lengthOf(yield* sql`select login from users`, 0)
          }
        }),
      120_000
    )

    claim(
      "that are all taken by who waits for another are a typed failure after acquireTimeout, and serve again",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(withOptions(url, "maxConnections=1&acquireTimeout=200"))
          const outside = yield* Effect.runtime()
          const nested = Effect.suspend(() => Fiber.join(Runtime.runFork(outside)(sql`select 1`)))
          const error = yield* reason(sql.withTransaction(nested))
          assert.deepStrictEqual([error.reason, error.operation], ["ConnectionError", "acquireConnection"])
          assert.include(error.message, "No connection was free within 200 ms.")
          assert.lengthOf(yield* sql`select 1 as one`, 1)
        })
    )

    claim(
      "that are all taken refuse lookups and creates together, however many wait, not so many at a time",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(withOptions(url, "maxConnections=1&acquireTimeout=1000"))
          const users = yield* repositoryOver(sql)
          const lookup = (i: number) => Effect.flip(users.findUserAvatar(login(`user${i}`)))
          const create = (i: number) => Effect.flip(users.create(avatar(`user${i}`)))
          for (const ask of [lookup, create]) {
            const errors = yield* Effect.scoped(Effect.zipRight(
              sql.reserve,
              Effect.forEach(
                numbers(5_000),
                (i): Effect.Effect<{ readonly _tag: string; readonly operation?: unknown }, unknown> => ask(i),
                { concurrency: "unbounded" }
              )
            ))
            assert.deepStrictEqual(
              new Set(errors.map(({ operation }) => operation)),
              new Set<unknown>(["acquireConnection"])
            )
            // Those of one statement fail by one failure.
            assert.isAtMost(new Set(errors).size, 4)
          }
        })
    )

    claim("are waited for interruptibly, and none is lost by it", (url) =>
      Effect.gen(function*() {
        const sql = yield* openUrl(withOptions(url, "maxConnections=2"))
        const latch = yield* Effect.makeLatch(false)
        for (const round of numbers(20)) {
          const holders = yield* Effect.forEach(numbers(2), () => Effect.fork(sql.withTransaction(latch.await)))
          const waiting = yield* Effect.forEach(numbers(20), (i) =>
            Effect.fork(i % 2 === 0 ? sql`select 1` : sql.withTransaction(sql`select 1`)))
          yield* Effect.sleep(round % 5)
          yield* Fiber.interruptAll(waiting.filter((_, i) =>
            i % 3 !== 0
          ))
          yield* latch.open
          yield* Fiber.interruptAll(waiting.filter((_, i) => i % 3 === 0 && i % 2 === 0))
          yield* Fiber.joinAll(holders)
          yield* latch.close
        }
        assert.lengthOf(yield* concurrently(numbers(50), () => sql.withTransaction(sql`select 1`)), 50)
        assert.isAtMost((yield* connections(server, url)).length, 2)
      }))

    claim("refuse who would be one too many to wait", (url) =>
      Effect.gen(function*() {
        const sql = yield* openUrl(withOptions(url, "maxConnections=1&maxQueue=3"))
        const fibers = yield* Effect.forEach(numbers(9), () => Effect.fork(sql.unsafe(sleep(server, 0.2))))
        const exits = yield* Effect.forEach(fibers, (fiber) => Fiber.await(fiber))
        assert.isAbove(exits.filter(Exit.isSuccess).length, 0)
        assert.isAbove(exits.filter(Exit.isFailure).length, 3)
        const error = yield* reason(exits.find(Exit.isFailure)!)
        assert.include(error.message, "The pool refuses more work: 3 wait for a connection already.")
      }))

    claim("end a statement whose caller is interrupted, and serve again", (url) =>
      Effect.gen(function*() {
        const sql = yield* openUrl(withOptions(url, "maxConnections=1"))
        for (const run of [(effect: Effect.Effect<unknown, SqlError.SqlError>) => effect, sql.withTransaction]) {
          const fiber = yield* Effect.fork(run(sql.unsafe(sleep(server, 300))))
          yield* Effect.sleep(100)
          yield* Fiber.interrupt(fiber)
          assert.lengthOf(yield* sql`select 1 as one`, 1)
        }
      }))

    claim("end a statement after statementTimeout, typed, and serve again", (url) =>
      Effect.gen(function*() {
        const sql = yield* openUrl(withOptions(url, "maxConnections=1&statementTimeout=300"))
        const before = yield* identity(sql)
        // MariaDB's sleep() is no failure when it is ended.
        const endless = server === postgres
          ? "select pg_sleep(100)"
          : "select count(*) from information_schema.columns a, information_schema.columns b, information_schema.columns c"
        assert.strictEqual((yield* reason(sql.unsafe(endless))).reason, "StatementTimeoutError")
        assert.strictEqual(yield* identity(sql), before)
      }))

    claim(
      "that were killed while they were idle cost at most one failure, and none to a lookup",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(url)
          const users = yield* repositoryOver(sql)
          yield* users.create(avatar("a"))
          yield* concurrently(numbers(5), () => sql.unsafe(sleep(server, 0.05)))
          yield* kill(server, yield* connections(server, url))
          assert.deepStrictEqual(yield* users.getUserAvatar(login("a")), avatar("a"))
          yield* kill(server, yield* connections(server, url))
          const answers = yield* Effect.forEach(numbers(10), () => Effect.exit(sql`select 1`))
          assert.isAtMost(answers.filter(Exit.isFailure).length, 1)
        })
    )

    claim(
      "are all closed when the scope ends, and after idleTimeout but for minConnections",
      (url) =>
        Effect.gen(function*() {
          yield* Effect.scoped(Effect.gen(function*() {
            const sql = yield* openUrl(withOptions(url, "idleTimeout=200&minConnections=1"))
            yield* concurrently(numbers(5), () => sql.unsafe(sleep(server, 0.05)))
            assert.isAbove((yield* connections(server, url)).length, 3)
            const left = yield* Effect.repeat(Effect.delay(connections(server, url), 100), {
              until: ({ length }) => length <= 1
            })
            assert.lengthOf(left, 1)
          }))
          yield* Effect.repeat(Effect.delay(connections(server, url), 20), { until: ({ length }) => length === 0 })
        })
    )

    claim(
      "that are reserved have what is changed on them to themselves, and nobody has it afterwards",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(withOptions(url, "maxConnections=1"))
          yield* Effect.scoped(Effect.gen(function*() {
            const connection = yield* sql.reserve
            const run = (text: string) => connection.executeUnprepared(text, [], undefined)
            yield* run("create temporary table own (id int)")
            yield* run(server === postgres ? "begin" : "start transaction")
            yield* run("insert into own values (1)")
            assert.lengthOf(yield* run("select * from own"), 1)
            yield* connection.execute("insert into users (login, name, forname) values ('a', '', '')", [], undefined)
          }))
          assert.strictEqual((yield* reason(sql`select * from own`)).reason, "SqlSyntaxError")
          assert.deepStrictEqual(yield* names(sql), [])
        })
    )

    claim(
      "serve others after a stream whose consumer was interrupted",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(withOptions(url, "maxConnections=1"))
          yield* fill(sql, 3_000)
          const { stream } = sql`select one.login from users as one, users as other`
          for (const milliseconds of [0, 20, 300]) {
            const reading = yield* Effect.fork(Stream.runDrain(Stream.tap(stream, () => Effect.never)))
            yield* Effect.sleep(milliseconds)
            yield* Fiber.interrupt(reading)
            assert.lengthOf(yield* sql`select 1 as one`, 1)
          }
        })
    )

    claim(
      "that are lost fail the streams on them, typed",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(url)
          yield* fill(sql, 3_000)
          const { stream } = sql`select one.login from users as one, users as other`
          let seen = 0
          const reading = Stream.runForEach(stream, () => seen++ === 0 ? killAll(server, url) : Effect.void)
          for (const streaming of [reading, sql.withTransaction(reading)]) {
            seen = 0
            assert.strictEqual((yield* reason(streaming)).reason, "ConnectionError")
            assert.isBelow(seen, 9_000_000)
          }
          assert.lengthOf(yield* sql`select 1 as one`, 1)
        })
    )

    claim(
      "that are reserved are given to nobody afterwards, also where a stream ran on them",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(withOptions(url, "maxConnections=1"))
          yield* fill(sql, 10)
          yield* Effect.scoped(Effect.gen(function*() {
            const connection = yield* sql.reserve
            yield* connection.execute("create temporary table own (a integer)", [], undefined)
            yield* Stream.runDrain(connection.executeStream("select login from users", [], undefined))
          }))
          assert.strictEqual((yield* reason(sql`select * from own`)).reason, "SqlSyntaxError")
        })
    )

    claim(
      "serve streams of any length, also those that end early, and writes beside them",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(withOptions(url, "maxConnections=2"))
          yield* fill(sql, 5_000)
          const all = sql<{ login: string }>`select login from users where login <> ${"user7"}`.stream
          assert.strictEqual(Chunk.size(yield* Stream.runCollect(all)), 4_999)
          for (const count of [1, 600, 10]) {
            assert.strictEqual(Chunk.size(yield* Stream.runCollect(Stream.take(all, count))), count)
          }
          const seen = yield* Stream.runCount(
            Stream.mapEffect(Stream.take(all, 20), ({ login }) =>
              sql`update users set name = 'seen' where login = ${login}`)
          )
          assert.strictEqual(seen, 20)
          assert.strictEqual(
            (yield* reason(Stream.runDrain(sql`select none from users`.stream))).reason,
            "SqlSyntaxError"
          )
          assert.lengthOf(yield* sql`select 1 as one`, 1)
          assert.lengthOf(yield* sql`select login from users where name = 'seen'`, 20)
        })
    )
  })
}

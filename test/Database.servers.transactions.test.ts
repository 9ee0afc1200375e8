/** The connections to a server, and the transactions on them. */
import { SqlClient, SqlError } from "@effect/sql"
import { assert, describe } from "@effect/vitest"
import { Chunk, Context, Effect, Exit, Fiber, Runtime, Stream } from "effect"
import { Database, DatabaseError } from "effect-avatars"
import { avatar, concurrently, fill, login, numbers } from "./lookups.js"
import { changed, claimOnServer, openUrl, postgres, repositoryOver, type Server, servers } from "./servers.js"

const withOptions = (url: string, options: string) => changed(url, (parts) => parts.search = options)

/** What a statement failed with, as data. */
const reason = <A, E>(effect: Effect.Effect<A, E | SqlError.SqlError>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.instanceOf(error, SqlError.SqlError)
    return DatabaseError.fromSqlError(error as SqlError.SqlError)
  })

const transaction = <A, E>(sql: SqlClient.SqlClient, effect: Effect.Effect<A, E>) =>
  Effect.provideService(Database.transaction(effect), SqlClient.SqlClient, sql)

/** The connections of others than oneself to the database of a URL. */
const connections = (server: Server, url: string) =>
  Effect.flatMap(server.admin, (sql) => {
    const database = new URL(url).pathname.slice(1)
    const rows = server === postgres
      ? sql<{ id: number }>`select pid as id from pg_stat_activity where datname = ${database}`
      : sql<{ id: number }>`select id from information_schema.processlist where db = ${database}`
    return Effect.map(rows, (rows) => rows.map(({ id }) => id))
  })

/** Outside of every transaction: a stock client would run in that of another client. */
const kill = (server: Server, ids: ReadonlyArray<number>) =>
  Effect.flatMap(server.admin, (sql) =>
    Effect.forEach(
      ids,
      (id) => server === postgres ? sql`select pg_terminate_backend(${id})` : sql.unsafe(`kill ${id}`)
    )).pipe(Effect.scoped, Effect.mapInputContext((context: Context.Context<never>) => Context.pick()(context)))

const identity = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql.unsafe<{ id: number }>(sql.onDialectOrElse({
      pg: () => "select pg_backend_pid() as id",
      orElse: () => "select connection_id() as id"
    })),
    (rows) => Number(rows[0]!.id)
  )

const sleep = (server: Server, seconds: number) =>
  server === postgres ? `select pg_sleep(${seconds})` : `select sleep(${seconds})`

const names = (sql: SqlClient.SqlClient) =>
  Effect.map(sql<{ login: string }>`select login from users order by login`, (rows) => rows.map(({ login }) => login))

for (const server of servers) {
  const claim = claimOnServer(server)

  describe(`the connections to ${server.name}`, () => {
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

  describe(`a transaction on ${server.name}`, () => {
    claim(
      "keeps what one nested transaction wrote where its sibling fails at the same time",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(url)
          const users = yield* repositoryOver(sql)
          yield* sql.withTransaction(Effect.gen(function*() {
            yield* concurrently(numbers(20), (i) =>
              sql.withTransaction(Effect.zipRight(
                users.create(avatar(`user${String(i).padStart(2, "0")}`)),
                i % 2 === 0 ? Effect.void : Effect.fail("undo")
              )).pipe(Effect.ignore))
            yield* users.create(avatar("own"))
          }))
          const kept = numbers(20).filter((i) => i % 2 === 0).map((i) => `user${String(i).padStart(2, "0")}`)
          assert.deepStrictEqual(yield* names(sql), ["own", ...kept])
        })
    )

    claim("leaves statements of another client outside", (url) =>
      Effect.gen(function*() {
        const sql = yield* openUrl(url)
        const other = yield* openUrl(url)
        const lite = yield* openUrl("sqlite::memory:")
        yield* Effect.flip(sql.withTransaction(Effect.gen(function*() {
          yield* (yield* repositoryOver(sql)).create(avatar("inside"))
          yield* (yield* repositoryOver(other)).create(avatar("outside"))
          yield* lite.withTransaction((yield* repositoryOver(lite)).create(avatar("lite")))
          yield* lite.withTransaction((yield* repositoryOver(sql)).create(avatar("inside too")))
          assert.lengthOf(yield* names(sql), 3)
          return yield* Effect.fail("undo")
        })))
        assert.deepStrictEqual(yield* names(sql), ["outside"])
        assert.deepStrictEqual(yield* names(lite), ["lite"])
      }))

    claim(
      "whose connection is killed fails typed, stores nothing, and is done again by Database.transaction",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(url)
          const users = yield* repositoryOver(sql)
          const interrupted = (name: string, isKilled: () => boolean) =>
            Effect.gen(function*() {
              yield* users.create(avatar(name))
              const id = yield* identity(sql)
              if (isKilled()) {
                yield* kill(server, [id])
              }
              yield* users.create(avatar(`${name}2`))
            }).pipe(Effect.scoped)
          const once = yield* Effect.flip(sql.withTransaction(interrupted("a", () => true)))
          assert.strictEqual("reason" in once ? once.reason : once._tag, "ConnectionError")
          assert.deepStrictEqual(yield* names(sql), [])
          let attempts = 0
          yield* transaction(sql, interrupted("b", () => ++attempts < 3))
          assert.strictEqual(attempts, 3)
          assert.deepStrictEqual(yield* names(sql), ["b", "b2"])
        })
    )

    claim(
      "that lost to another one commits nothing of what follows, and is done again by Database.transaction",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(url)
          yield* fill(sql, 2)
          const attempts = { count: 0 }
          /** Two that lock two rows in opposite order, whatever the failure of a statement goes on, and add a row at the end. */
          const cross = (
            wrap: <A, E>(
              effect: Effect.Effect<A, E>
            ) => Effect.Effect<A, E | SqlError.SqlError | DatabaseError.DatabaseError>
          ) =>
            Effect.gen(function*() {
              const both = [yield* Effect.makeLatch(false), yield* Effect.makeLatch(false)] as const
              const lock = (i: number) => sql`update users set name = 'locked' where login = ${`user${i}`}`
              const one = (i: 0 | 1) =>
                wrap(Effect.gen(function*() {
                  attempts.count++
                  yield* lock(i)
                  yield* both[i].open
                  yield* both[1 - i as 0 | 1].await
                  yield* Effect.ignore(lock(1 - i))
                  yield* sql`insert into users (login, name, forname) values (${`new${i}`}, '', '')`
                }))
              return yield* Effect.all([Effect.exit(one(0)), Effect.exit(one(1))], { concurrency: "unbounded" })
            })
          const exits = yield* cross(sql.withTransaction)
          assert.strictEqual(exits.filter(Exit.isSuccess).length, 1)
          assert.lengthOf(yield* names(sql), 3)
          yield* sql`delete from users where login like 'new%'`
          attempts.count = 0
          const done = yield* cross((effect) => transaction(sql, effect))
          assert.isTrue(done.every(Exit.isSuccess))
          assert.isAbove(attempts.count, 2)
          assert.deepStrictEqual(yield* names(sql), ["new0", "new1", "user0", "user1"])
        })
    )

    claim("of those that change one counter at once loses no increment", (url) =>
      Effect.gen(function*() {
        const sql = yield* openUrl(url)
        yield* sql`create table counter (id int primary key, n int not null)`
        yield* sql`insert into counter values (1, 0)`
        const increment = transaction(
          sql,
          Effect.gen(function*() {
            if (server === postgres) {
              yield* sql`set transaction isolation level repeatable read`
            }
            const shared = sql.literal(server === postgres ? "" : "lock in share mode")
            const [row] = yield* sql<{ n: number }>`select n from counter where id = 1 ${shared}`
            yield* Effect.yieldNow()
            yield* sql`update counter set n = ${row!.n + 1} where id = 1`
          })
        )
        yield* concurrently(numbers(4), () => Effect.repeatN(increment, 24))
        assert.deepStrictEqual(yield* sql`select n from counter`, [{ n: 100 }])
      }))

    claim("inside another is a savepoint and is tried once", (url) =>
      Effect.gen(function*() {
        const sql = yield* openUrl(url)
        const lost = (outcome?: "unknown") =>
          new DatabaseError.DatabaseError({
            reason: "SerializationError",
            operation: "execute",
            message: "It lost.",
            outcome
          })
        let [inner, outer] = [0, 0]
        const failing = Effect.suspend(() => Effect.fail((inner++, lost())))
        const error = yield* Effect.flip(sql.withTransaction(transaction(sql, failing)))
        assert.deepStrictEqual([inner, error.message], [1, "It lost."])
        yield* transaction(
          sql,
          Effect.suspend(() => {
            outer++
            return transaction(sql, Effect.suspend(() => outer < 3 ? Effect.fail(lost()) : Effect.void))
          })
        )
        assert.strictEqual(outer, 3)
        for (const error of ["own", lost("unknown")]) {
          let attempts = 0
          yield* Effect.flip(transaction(sql, Effect.suspend(() => Effect.fail((attempts++, error)))))
          assert.strictEqual(attempts, 1)
        }
      }))
  })
}

describe("COMMIT on PostgreSQL", () => {
  const claim = claimOnServer(postgres)

  const deferred = (sql: SqlClient.SqlClient) =>
    Effect.zipRight(
      sql`create table parent (id int primary key)`,
      sql`create table child (id int references parent deferrable initially deferred)`
    )

  claim("that fails is typed, stores nothing, and leaves the connection usable", (url) =>
    Effect.gen(function*() {
      const sql = yield* openUrl(withOptions(url, "maxConnections=1"))
      yield* deferred(sql)
      const before = yield* identity(sql)
      const error = yield* reason(sql.withTransaction(sql`insert into child values (1)`))
      assert.deepStrictEqual([error.reason, error.code], ["ConstraintError", "23503"])
      assert.lengthOf(yield* sql`select * from child`, 0)
      assert.strictEqual(yield* identity(sql), before)
    }))

  claim(
    "after a failure that was passed over is a typed failure: the server rolls back without a word",
    (url) =>
      Effect.gen(function*() {
        const sql = yield* openUrl(url)
        const users = yield* repositoryOver(sql)
        const error = yield* reason(sql.withTransaction(
          Effect.zipRight(users.create(avatar("a")), Effect.ignore(sql`select none`))
        ))
        assert.deepStrictEqual([error.operation, error.code], ["commitTransaction", "25P02"])
        assert.deepStrictEqual(yield* names(sql), [])
      })
  )

  claim(
    "whose connection is killed meanwhile has an unknown outcome, and is not done again",
    (url) =>
      Effect.gen(function*() {
        const sql = yield* openUrl(url)
        yield* sql`create table slow (id int)`
        yield* sql.unsafe(
          "create function wait() returns trigger as 'begin perform pg_sleep(100); return null; end' language plpgsql"
        )
        yield* sql`create constraint trigger wait after insert on slow deferrable initially deferred for each row execute function wait()`
        let attempts = 0
        const fiber = yield* Effect.fork(transaction(
          sql,
          Effect.suspend(() => {
            attempts++
            return Effect.zipRight(sql`insert into slow values (1)`, identity(sql))
          })
        ))
        const admin = yield* postgres.admin
        yield* Effect.repeat(
          Effect.delay(
            admin`select pg_terminate_backend(pid) from pg_stat_activity where query = 'COMMIT' and state = 'active' and wait_event = 'PgSleep'`,
            20
          ),
          { until: ({ length }) => length > 0 }
        )
        const error = yield* Effect.flip(Fiber.join(fiber))
        assert.instanceOf(error, DatabaseError.DatabaseError)
        assert.deepInclude(error, { reason: "UnknownError", operation: "commitTransaction", outcome: "unknown" })
        assert.strictEqual(attempts, 1)
      })
  )

  claim("is not needed by a stream, beside whose chunks the same transaction writes", (url) =>
    Effect.gen(function*() {
      const sql = yield* openUrl(url)
      yield* fill(sql, 2_000)
      yield* sql.withTransaction(Stream.runDrain(Stream.mapEffect(
        sql<{ login: string }>`select login from users`.stream,
        ({ login }) => sql`update users set name = 'seen' where login = ${login}`
      )))
      assert.lengthOf(yield* sql`select login from users where name = 'seen'`, 2_000)
    }))
})

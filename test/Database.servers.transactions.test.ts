/** Transactions on a server: what is inside, what is done again, and how COMMIT ends. */
import { SqlClient, type SqlError } from "@effect/sql"
import { assert, describe } from "@effect/vitest"
import { Effect, Exit, Fiber, Stream } from "effect"
import { Database, DatabaseError } from "effect-avatars"
import { avatar, concurrently, fill, numbers } from "./lookups.js"
import {
  claimOnServer,
  identity,
  kill,
  names,
  openUrl,
  postgres,
  reason,
  repositoryOver,
  servers,
  withOptions
} from "./servers.js"

const transaction = <A, E>(sql: SqlClient.SqlClient, effect: Effect.Effect<A, E>) =>
  Effect.provideService(Database.transaction(effect), SqlClient.SqlClient, sql)

for (const server of servers) {
  const claim = claimOnServer(server)

  describe(`a transaction on ${server.name}`, () => {
    claim(
      "goes on after a stream in it that ended early, also one whose rows take long to read",
      (url) =>
        Effect.gen(function*() {
          const sql = yield* openUrl(url)
          yield* fill(sql, 3_000)
          const { stream } = sql<{ login: string }>`select one.login from users as one, users as other`
          yield* sql.withTransaction(Effect.gen(function*() {
            yield* sql`insert into users values ('before', '', '')`
            assert.lengthOf(yield* Stream.runCollect(Stream.take(stream, 3)), 3)
            yield* Effect.timeout(Stream.runDrain(Stream.tap(stream, () => Effect.never)), "20 millis").pipe(
              Effect.ignore
            )
            yield* Fiber.interrupt(yield* Effect.fork(Stream.runDrain(stream)))
            yield* sql`insert into users values ('between', '', '')`
            const few = sql<{ login: string }>`select login from users where login like 'user1%'`.stream
            assert.lengthOf(yield* Stream.runCollect(Stream.take(few, 3)), 3)
            yield* sql`insert into users values ('after', '', '')`
          }))
          assert.deepStrictEqual((yield* names(sql)).slice(0, 3), ["after", "before", "between"])
        })
    )

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

  claim(
    "ends what a stream wrote by a statement that begins with WITH, and its rows are there",
    (url) =>
      Effect.gen(function*() {
        const sql = yield* openUrl(url)
        const written = sql<{ login: string }>`
        with written as (insert into users values ('a', '', ''), ('b', '', '') returning login)
        select login from written order by login
      `
        assert.deepStrictEqual(Array.from(yield* Stream.runCollect(written.stream)), [{ login: "a" }, { login: "b" }])
        assert.deepStrictEqual(yield* names(sql), ["a", "b"])
      })
  )
})

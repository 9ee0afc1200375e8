import { SqlClient, SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Avatar, Database, DatabaseError } from "effect-avatars"
import { Cause, Chunk, Effect, Exit, type Scope } from "effect"
import { connect, type Db, open } from "./faults.js"
import { engines } from "./engines.js"

const avatar = (login: string) => new Avatar.Avatar({ login: Avatar.Login.make(login), name: login, forname: "" })

/** What it failed with: it does fail, and typed. */
const failure = (outcome: Effect.Effect<unknown, unknown>) =>
  Effect.map(Effect.exit(outcome), (exit) => {
    assert(Exit.isFailure(exit), "it succeeds")
    assert(Chunk.isEmpty(Cause.defects(exit.cause)), Cause.pretty(exit.cause))
    const error = Cause.squash(exit.cause)
    const typed = error instanceof SqlError.SqlError ? DatabaseError.fromSqlError(error) : error
    assert(typed instanceof DatabaseError.DatabaseError, Cause.pretty(exit.cause))
    return typed
  })

for (const engine of engines) {
  const claim = (
    name: string,
    body: (db: Db) => Effect.Effect<void, unknown, Scope.Scope>,
    args?: ReadonlyArray<string>
  ) =>
    it.scopedLive(name, (ctx) => {
      ctx.skip(engine.program === undefined, `${engine.name} is not installed`)
      return Effect.flatMap(open(engine, { args: args ?? [] }), body)
    })

  /** Inside a transaction: closes its connection. */
  const closeOwn = ({ closeConnection, sql }: Db) =>
    Effect.flatMap(
      sql.unsafe<{ readonly id: number }>(`select ${engine.connectionId} as id`),
      ([row]) => closeConnection(row!.id)
    )

  describe(`a connection of ${engine.name} that is closed by an administrator`, () => {
    claim(
      "in the middle of a transaction fails it typed; nothing of it is there, and the next one works",
      (db) =>
        Effect.gen(function*() {
          const { sql, users } = db
          for (let round = 0; round < 50; round++) {
            const error = yield* failure(sql.withTransaction(
              users.create(avatar(`before${round}`)).pipe(
                Effect.zipRight(closeOwn(db)),
                Effect.zipRight(users.create(avatar(`after${round}`)))
              )
            ))
            assert.deepInclude(error, { reason: "ConnectionError", isRetryable: true, outcome: undefined })
            yield* sql.withTransaction(users.create(avatar(`whole${round}`)))
          }
          const stored = yield* sql<{ readonly login: string }>`select login from users`
          assert.deepStrictEqual(
            stored.map(({ login }) => login).toSorted(),
            Array.from({ length: 50 }, (_, round) => `whole${round}`).toSorted()
          )
        })
    )

    claim(
      "before the COMMIT of a transaction fails it typed, and is not given to others",
      (db) =>
        Effect.gen(function*() {
          const { sql, users } = db
          const error = yield* failure(sql.withTransaction(Effect.zipRight(users.create(avatar("a")), closeOwn(db))))
          assert.isTrue(error.reason === "ConnectionError" || error.outcome === "unknown", error.message)
          yield* Effect.forEach(Array.from({ length: 64 }), () => sql`select 1`, { concurrency: "unbounded" })
          assert.strictEqual(yield* users.count, 0)
        })
    )

    claim(
      "in the middle of Database.transaction has the whole tried again: everything of it is there once",
      (db) =>
        Effect.gen(function*() {
          const { sql, users } = db
          let attempts = 0
          yield* Database.transaction(Effect.gen(function*() {
            attempts++
            yield* users.create(avatar("before"))
            yield* Effect.when(closeOwn(db), () => attempts < 4)
            yield* users.create(avatar("after"))
          })).pipe(Effect.provideService(SqlClient.SqlClient, sql))
          assert.strictEqual(attempts, 4)
          assert.strictEqual(yield* users.count, 2)
        })
    )

    claim("while it is idle is noticed by nobody who reads", (db) =>
      Effect.gen(function*() {
        const { closeConnections, sql, users } = db
        yield* users.create(avatar("yoen"))
        for (let round = 0; round < 10; round++) {
          yield* Effect.forEach(Array.from({ length: 32 }), () => sql`select 1`, { concurrency: "unbounded" })
          yield* closeConnections
          const found = yield* Effect.forEach(
            Array.from({ length: 32 }),
            () => users.getUserAvatar(avatar("yoen").login),
            { concurrency: "unbounded" }
          )
          assert.lengthOf(found, 32)
        }
      }))
  })

  describe(`${engine.name} with too many connections`, () => {
    // PostgreSQL keeps some for its superusers, whom the tests are.
    const few = engine.name === "PostgreSQL" ? ["-c", "max_connections=12"] : ["--max-connections=12"]

    claim("refuses typed, and serves as many as it has room for", (db) =>
      Effect.gen(function*() {
        const opened = yield* Effect.forEach(
          Array.from({ length: 4 }),
          () => connect(`${db.url}maxConnections=10&acquireTimeout=2 seconds`),
          { concurrency: "unbounded" }
        )
        yield* db.users.create(avatar("yoen"))
        const outcomes = yield* Effect.forEach(
          opened.flatMap(({ sql }) => Array.from({ length: 10 }, () => sql)),
          (sql) => Effect.exit(sql.withTransaction(Effect.zipRight(sql`select 1`, Effect.sleep("1 second")))),
          { concurrency: "unbounded" }
        )
        const failed = outcomes.filter(Exit.isFailure)
        assert.isAbove(failed.length, 0)
        assert.isAtLeast(outcomes.filter(Exit.isSuccess).length, 5)
        for (const exit of failed) {
          assert.deepInclude(yield* failure(exit), { reason: "ConnectionError", isRetryable: true })
        }
        yield* Effect.forEach(opened, ({ users }) => users.getUserAvatar(avatar("yoen").login))
      }), few)

    claim("fails a layer that is built typed, and lets it be built when there is room", (db) =>
      Effect.gen(function*() {
        const isFull = Effect.gen(function*() {
          const { sql } = yield* connect(`${db.url}maxConnections=20`)
          const held = Effect.ignore(sql.withTransaction(Effect.zipRight(sql`select 1`, Effect.never)))
          yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.forkScoped(held), { discard: true })
          return yield* Effect.eventually(Effect.flip(Effect.scoped(connect(db.url))))
        })
        const error = yield* Effect.scoped(isFull)
        assert.deepInclude(error, { reason: "ConnectionError", operation: "connect" })
        assert.match(error.message, /too many connections/)
        yield* connect(db.url)
      }), few)
  })
}

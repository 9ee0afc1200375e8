/** What waits until it leaves with others is bound by the limits of the pool, as what waits in the pool is. */
import type { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, type Scope } from "effect"
import { type AvatarRepository, DatabaseError } from "effect-avatars"
import { execute, openUrl, repositoryOver } from "./engines.js"
import { temporaryFile } from "./layers.js"
import { atOnce, avatar, login, numbers, turns } from "./lookups.js"
import { slowSql } from "./pool.js"
import { servers, temporaryDatabase } from "./servers.js"

interface Engine {
  readonly name: string
  readonly missing?: string | undefined
  readonly url: Effect.Effect<string, never, Scope.Scope>
  /** A pool that few statements keep busy. */
  readonly narrow: string
  /** Two connections that are open before anybody asks: a thread is not always started within a short acquireTimeout. */
  readonly ready: string
  /** Takes a moment. */
  readonly statement: string
  /** Lookups take half a second and more from now on. */
  readonly slow: (sql: SqlClient.SqlClient, url: string) => Effect.Effect<unknown, unknown>
}

const engines: ReadonlyArray<Engine> = [
  {
    name: "SQLite",
    url: Effect.map(temporaryFile(), (file) => `sqlite:${encodeURIComponent(file)}`),
    narrow: "maxReaders=2",
    ready: "minReaders=2",
    statement: slowSql(100_000),
    slow: (sql) =>
      sql.unsafe("alter table users rename to people").pipe(
        Effect.zipRight(
          sql.unsafe(`create view users as select people.* from people, (${slowSql(3_000_000)}) where total > 0`)
        )
      )
  },
  ...servers.map((server): Engine => ({
    name: server.name,
    missing: server.missing,
    url: temporaryDatabase(server),
    narrow: "maxConnections=1",
    ready: "minConnections=2",
    statement: server.name === "PostgreSQL" ? "select pg_sleep(0.1)" : "select sleep(0.1)",
    slow: (sql, url) => {
      const sleep = server.name === "PostgreSQL" ? "(select pg_sleep(0.5))::text is not null" : "sleep(0.5) = 0"
      return sql.unsafe("alter table users rename to people").pipe(
        Effect.zipRight(
          execute(url, `create view users as select people.* from people, (select 1 as one where ${sleep}) as slow`)
        )
      )
    }
  }))
]

const open = (engine: Engine, options: string) =>
  Effect.gen(function*() {
    const url = yield* engine.url
    const sql = yield* openUrl(`${url}?${options}`)
    const users = yield* repositoryOver(sql)
    yield* Effect.forEach(numbers(10), (i) => users.create(avatar(`user${i}`)))
    return { sql, url, users }
  })

const look = (users: AvatarRepository.Service) => (i: number) => users.getUserAvatar(login(`user${i % 10}`))

const refusal = (exit: Exit.Exit<unknown, unknown>): DatabaseError.DatabaseError => {
  assert(Exit.isFailure(exit), "it succeeds")
  const error = Cause.squash(exit.cause)
  assert(error instanceof DatabaseError.DatabaseError && Cause.isFailType(exit.cause), Cause.pretty(exit.cause))
  assert.deepInclude(error, { reason: "ConnectionError", operation: "acquireConnection" })
  return error
}

for (const engine of engines) {
  describe(`on ${engine.name}`, () => {
    it.scopedLive("lookups beyond maxQueue and the batches that leave at once are refused, those within are answered, and later ones too", (context) =>
      Effect.gen(function*() {
        context.skip(engine.missing !== undefined, engine.missing)
        const { users } = yield* open(engine, "maxQueue=100")
        const accepted = 100 + 2 * 128
        const fibers = yield* atOnce(numbers(10_000).map(look(users)))
        const exits = yield* Effect.forEach(fibers, Fiber.await)
        assert.deepStrictEqual(exits.map(Exit.isSuccess), numbers(10_000).map((i) => i < accepted))
        exits.slice(accepted).forEach((exit) => assert.include(refusal(exit).message, "100 calls are waiting already"))
        yield* Effect.forEach(numbers(100), look(users), { concurrency: "unbounded" })
      }))

    it.scopedLive("lookups are answered though the queue of the pool is full of statements", (context) =>
      Effect.gen(function*() {
        context.skip(engine.missing !== undefined, engine.missing)
        const { sql, users } = yield* open(engine, `maxQueue=3&${engine.narrow}`)
        const statements = yield* atOnce(numbers(500).map(() => sql.unsafe(engine.statement)))
        const lookups = yield* atOnce(numbers(20).map(look(users)))
        yield* Effect.forEach(lookups, Fiber.join)
        const exits = yield* Effect.forEach(statements, Fiber.await)
        const refused = exits.filter((exit) =>
          Exit.isFailure(exit) && Cause.pretty(exit.cause).includes("refuses more")
        )
        assert(refused.length > 100, "the queue was not full")
      }))

    it.scopedLive("lookups that nobody waits for take no place in the queue for long", (context) =>
      Effect.gen(function*() {
        context.skip(engine.missing !== undefined, engine.missing)
        const { sql, url, users } = yield* open(engine, "maxQueue=100")
        yield* engine.slow(sql, url)
        yield* atOnce(numbers(100).map(look(users)))
        yield* turns(1)
        const unwanted = yield* atOnce(numbers(100).map(look(users)))
        yield* Effect.forEach(unwanted, Fiber.interrupt)
        yield* Effect.sleep(100)
        const [fiber] = yield* atOnce([look(users)(0)])
        assert.isNull(fiber!.unsafePoll())
        yield* Fiber.join(fiber!)
      }))

    it.scopedLive("lookups that have waited for acquireTimeout fail typed, while those before them are still under way", (context) =>
      Effect.gen(function*() {
        context.skip(engine.missing !== undefined, engine.missing)
        const { sql, url, users } = yield* open(engine, `acquireTimeout=100&${engine.ready}`)
        yield* engine.slow(sql, url)
        const first = yield* atOnce(numbers(10).map(look(users)))
        yield* turns(1)
        const second = yield* atOnce(numbers(10).map(look(users)))
        yield* turns(1)
        const others = yield* atOnce(numbers(1_000).map(look(users)))
        const exits = yield* Effect.forEach(others, Fiber.await)
        assert.deepStrictEqual(first.map((fiber) => fiber.unsafePoll()), first.map(() => null))
        exits.forEach(refusal)
        yield* Effect.forEach(first, Fiber.join)
        yield* Effect.forEach(second, Fiber.await)
        yield* look(users)(0)
      }))
  })
}

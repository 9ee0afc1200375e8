/** More at once than a server's pool takes: each is told at once or in time, and what was acknowledged is stored. */
import { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber } from "effect"
import { DatabaseError } from "effect-avatars"
import { openUrl, repositoryOver } from "./engines.js"
import { atOnce, avatar, login, numbers } from "./lookups.js"
import { servers, temporaryDatabase } from "./servers.js"
import { trials } from "./trials.js"

const count = 10_000

const [maxConnections, maxQueue] = [4, 200]

/**
 * Of reads, creates, lookups and transactions that are asked for at once: what runs and what may wait. Statements and transactions wait for a
 * connection, lookups for one of two batches of 128 to come back; those of the first two leave at once and do not wait.
 */
const mostDone = [maxConnections, maxConnections, 2 * 128, maxConnections].map((leave) => leave + maxQueue)

for (const server of servers) {
  describe(`of 10 000 fibers at once on ${server.name}`, () => {
    it.live("each that reads, creates, looks up or is in a transaction is answered right or refused, and stored is what was acknowledged", (context) =>
      Effect.gen(function*() {
        context.skip(server.missing !== undefined, server.missing)
        const url = yield* temporaryDatabase(server)
        const sql = yield* openUrl(`${url}?maxConnections=${maxConnections}&maxQueue=${maxQueue}&acquireTimeout=5000`)
        const users = yield* repositoryOver(sql)
        yield* Effect.forEach(numbers(100), (i) => users.create(avatar(`old-${i}`)), { concurrency: 16 })
        yield* trials(
          `10 000 fibers at once on ${server.name}`,
          { few: 3, many: 100, batch: 20 },
          (first, rounds) =>
            Effect.gen(function*() {
              let served = 0
              for (let round = first; round < first + rounds; round++) {
                const loginOf = (i: number) => `new-${round}-${i}`
                const calls: ReadonlyArray<(i: number) => Effect.Effect<unknown, unknown>> = [
                  (i) =>
                    Effect.map(
                      sql<{ readonly n: number }>`select ${i} + 0 as n`,
                      ([row]) => assert(Number(row?.n) === i)
                    ),
                  (i) => users.create(avatar(loginOf(i))),
                  (i) =>
                    Effect.map(
                      users.getUserAvatar(login(`old-${i % 100}`)),
                      ({ name }) => assert(name === avatar(`old-${i % 100}`).name)
                    ),
                  (i) => sql.withTransaction(users.upsert(avatar(loginOf(i))))
                ]
                const exits = yield* Effect.flatMap(
                  atOnce(numbers(count).map((i) => calls[i % 4]!(i))),
                  (fibers) => Effect.forEach(fibers, Fiber.await)
                )
                exits.forEach((exit) => Exit.isFailure(exit) && assert.strictEqual(described(exit.cause), refused))
                const isDone = (kind: number) => (i: number) => i % 4 === kind && Exit.isSuccess(exits[i]!)
                const found = yield* Effect.map(
                  sql<{ readonly login: string }>`select login from users where login like ${`new-${round}-%`}`,
                  (rows) => rows.map(({ login }) => login)
                )
                assert.sameMembers(
                  found,
                  [...numbers(count).filter(isDone(1)), ...numbers(count).filter(isDone(3))].map(loginOf)
                )
                mostDone.forEach((most, kind) => assert.isAtMost(numbers(count).filter(isDone(kind)).length, most))
                served += exits.filter(Exit.isSuccess).length
              }
              assert.isAbove(served, 0)
              return { served, refused: rounds * count - served }
            })
        )
      }).pipe(Effect.scoped))
  })
}

const refused = "ConnectionError acquireConnection"

const described = (cause: Cause.Cause<unknown>): string => {
  const failure = Cause.squash(cause)
  const error = failure instanceof SqlError.SqlError ? DatabaseError.fromSqlError(failure) : failure
  return Cause.isFailType(cause) && error instanceof DatabaseError.DatabaseError
    ? `${error.reason} ${error.operation}`
    : Cause.pretty(cause)
}

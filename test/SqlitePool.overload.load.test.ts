/** More work than can be done: what is beyond the queue is refused fast, the rest is done as fast as ever, and afterwards all is as before. */
import type { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Fiber, Predicate } from "effect"
import { Avatar, DatabaseError } from "effect-avatars"
import type { SqlitePool } from "effect-avatars"
import { repositoryOver } from "./engines.js"
import { atOnce, avatar, login, numbers } from "./lookups.js"
import { type Call, capacityOf, heapUsed, latencyOf, mostPassed, offer } from "./overload.js"
import { makePool } from "./pool.js"
import { type Figures, trials } from "./trials.js"

/** Has a thread of the database work for about a third of a millisecond, so that it is what bounds the work, not who asks. */
const slow = (length: string) => `hex(zeroblob(30000 + ${length})) like '%0_1'`

const stored = 5_000

interface Kind {
  readonly name: string
  /** How many of such calls may be on their way to threads, beside those that wait. */
  readonly sent: number
  readonly calls: (sql: SqlitePool.SqlitePool) => Effect.Effect<Call, SqlError.SqlError>
}

const kinds: ReadonlyArray<Kind> = [
  {
    name: "plain reads",
    // Messages of 32, two of them on each of four readers.
    sent: 256,
    // Longer than the others: a statement of `@effect/sql` costs its caller more, who shares the processors with the threads.
    calls: (sql) => {
      const all = Array.from("abcdefghijkl", (column) => `${slow("n")} as ${column}`)
      const text = `select ${all.join(", ")} from (select ? as n)`
      return Effect.succeed((i) => sql.unsafe(text, [i % 9]))
    }
  },
  {
    name: "durable creates",
    // Two messages of 512.
    sent: 1_024,
    calls: (sql) =>
      Effect.gen(function*() {
        yield* sql.unsafe(`create table users (
          login text primary key check (not ${slow("length(login)")}), name text check (not ${
          slow("length(name)")
        }), forname text
        )`)
        const users = yield* repositoryOver(sql)
        let created = 0
        return () => {
          const login = Avatar.Login.make(`user-${created++}`)
          return users.create(new Avatar.Avatar({ login, name: login, forname: "" }))
        }
      })
  },
  {
    name: "lookups",
    // Two batches of 128.
    sent: 256,
    calls: (sql) =>
      Effect.gen(function*() {
        yield* sql.unsafe(`create table users (
          login text primary key, name text as (iif(${slow("length(login)")}, '', 'Name')),
          forname text as (iif(${slow("length(login)")}, '', 'Forname'))
        )`)
        yield* sql.unsafe(`
          insert into users (login)
          with recursive n(i) as (select 0 union all select i + 1 from n where i < ${
          stored - 1
        }) select 'user-' || i from n
        `)
        const users = yield* repositoryOver(sql)
        return (i) => users.getUserAvatar(Avatar.Login.make(`user-${i % stored}`))
      })
  }
]

const describeCause = (cause: Cause.Cause<unknown>) => {
  const failure = Cause.squash(cause)
  const error = Cause.isFailType(cause) && isSqlError(failure) ? DatabaseError.fromSqlError(failure) : failure
  return error instanceof DatabaseError.DatabaseError ? `${error.reason} ${error.operation}` : Cause.pretty(cause)
}

const isSqlError = (error: unknown): error is SqlError.SqlError => Predicate.isTagged(error, "SqlError")

const refused = "ConnectionError acquireConnection"

/** So many under way keep all threads busy, and none of them waits for long. */
const capacityFor = (call: Call) => capacityOf(call, 64, 2_000)

/**
 * Three times the capacity for so long, on a pool whose limits are made for it; the capacity is measured before and after, and before that on
 * another pool.
 */
const overload = (
  kind: Kind,
  limits: (capacity: number) => Partial<SqlitePool.SqlitePoolConfig>,
  milliseconds: number
) =>
  Effect.gen(function*() {
    const readers = { minReaders: 2, maxReaders: 4 }
    const capacity = yield* Effect.scoped(
      Effect.flatMap(makePool(readers), (sql) => Effect.flatMap(kind.calls(sql), capacityFor))
    )
    const sql = yield* makePool({ ...readers, ...limits(capacity) })
    const call = yield* kind.calls(sql)
    const [latencyBefore, before] = [yield* latencyOf(call, 200), yield* capacityFor(call)]
    const told = yield* offer(call, { perSecond: 3 * before, milliseconds }, describeCause)
    yield* Effect.sleep(Math.max(0, 2_000 - told.drained))
    const [latencyAfter, after] = [yield* latencyOf(call, 200), yield* capacityFor(call)]
    const measured = { ...told, before, after, latencyBefore, latencyAfter, ...sql.config }
    console.log(`${kind.name}: ${JSON.stringify({ ...measured, failures: Array.from(told.failures) })}`)

    assert.isAtLeast(told.askedPerSecond, 2.9 * before)
    assert.deepStrictEqual(Array.from(told.failures.keys()), [refused])
    assert.strictEqual(told.served + told.failures.get(refused)!, told.asked)
    assert.isAtMost(told.mostPassed, kind.sent)
    const goodput = told.servedPerSecond / ((before + after) / 2)
    assert.isAtLeast(goodput, 0.9)
    assert.isAtMost(told.drained, 2_000)
    assert.isAtMost(latencyAfter, 2 * latencyBefore)
    const figures: Figures = {
      asked: told.asked,
      served: told.served,
      refused: told.failures.get(refused)!,
      "most % of the capacity not served": Math.max(0, 100 * (1 - goodput)),
      "most ms until a refusal": told.refusal.most,
      "most ms until an answer": told.serving.most,
      "most older ones passed": told.mostPassed,
      "most ms until the last was settled": told.drained
    }
    return { ...told, figures, maxQueue: sql.config.maxQueue }
  })

for (const kind of kinds) {
  describe(`where three times as many ${kind.name} are asked for as can be done`, () => {
    it.live("those beyond maxQueue are refused at once; of the others as many are served as ever, first come first served, and soon all is as before", () =>
      trials(`three times the capacity for a minute: ${kind.name}`, { few: 1, many: 3, batch: 1 }, () => {
        // What is done in half a second.
        const maxQueueOf = (capacity: number) => Math.max(64, Math.round(capacity / 2))
        const told = overload(kind, (capacity) => ({ maxQueue: maxQueueOf(capacity) }), 60_000)
        return Effect.map(Effect.scoped(told), ({ figures, maxQueue, mostUnderWay, refusal }) => {
          assert.isAtMost(mostUnderWay, maxQueue! + kind.sent)
          assert.isAtMost(refusal.p999, 50)
          return figures
        })
      }))
  })
}

// Creates wait in the pool as reads do.
for (const kind of kinds.filter(({ name }) => name !== "durable creates")) {
  describe(`where three times as many ${kind.name} are asked for as can be done`, () => {
    it.live("those that waited for acquireTimeout are refused then; of the others as many are served as ever, and soon all is as before", () =>
      trials(`three times the capacity, bound by acquireTimeout: ${kind.name}`, { few: 1, many: 3, batch: 1 }, () => {
        const acquireTimeout = 1_000
        return Effect.map(Effect.scoped(overload(kind, () => ({ acquireTimeout }), 5_000)), ({ figures, refusal }) => {
          assert.isAtLeast(refusal.median, acquireTimeout)
          assert.isAtMost(refusal.p999, acquireTimeout + 100)
          return figures
        })
      }))
  })
}

const count = 100_000

/** A pool on which rounds can be made: a third of the fibers read, a third create, a third look somebody up who is nobody else's. */
const crowd = ({ maxQueue }: { readonly maxQueue: number }) =>
  Effect.gen(function*() {
    const sql = yield* makePool({ maxQueue, acquireTimeout: "1 hour" })
    yield* sql.unsafe("create table users (login text primary key, name text, forname text)")
    yield* sql.unsafe(`
      insert into users with recursive n(i) as (select 0 union all select i + 1 from n where i < ${count})
      select 'old-' || i, 'Name of old-' || i, 'Forname of old-' || i from n
    `)
    const users = yield* repositoryOver(sql)
    let rounds = 0
    const round = Effect.gen(function*() {
      const prefix = `new-${rounds++}`
      const calls: ReadonlyArray<Call> = [
        (i) => Effect.map(sql<{ readonly n: number }>`select ${i} as n`, ([row]) => assert(row?.n === i)),
        (i) => users.create(avatar(`${prefix}-${i}`)),
        (i) => Effect.map(users.getUserAvatar(login(`old-${i}`)), ({ name }) => assert(name === `Name of old-${i}`))
      ]
      const orders = calls.map((): Array<number> => [])
      const start = performance.now()
      let refusedAfter = 0
      const fibers = yield* atOnce(
        numbers(count).map((i) =>
          Effect.matchCause(Effect.suspend(() => calls[i % 3]!(i)), {
            onSuccess: () => void orders[i % 3]!.push(i),
            onFailure: (cause) => {
              assert.strictEqual(describeCause(cause), refused)
              refusedAfter = performance.now() - start
            }
          })
        )
      )
      yield* Effect.forEach(fibers, Fiber.join, { discard: true })
      const rows = yield* sql<{ readonly login: string }>`select login from users where login glob ${`${prefix}-*`}`
      assert.sameMembers(rows.map(({ login }) => login), orders[1]!.map((i) => `${prefix}-${i}`))
      orders.forEach((order, i) => assert.isAtMost(mostPassed(order), [256, 1_024, 256][i]!))
      return {
        refusedAfter,
        served: orders.reduce((sum, order) => sum + order.length, 0),
        passed: Math.max(...orders.map(mostPassed))
      }
    })
    return { maxQueue, round }
  })

describe("of 100 000 fibers at once", () => {
  it.live("each that reads, writes or looks up is answered right and in its turn; beyond maxQueue each is refused, and stored is what was acknowledged", () =>
    trials("100 000 fibers at once", { few: 1, many: 20, batch: 5 }, (_, rounds) =>
      Effect.gen(function*() {
        const [all, few] = [yield* crowd({ maxQueue: count }), yield* crowd({ maxQueue: 1_000 })]
        yield* all.round
        yield* few.round
        const before = yield* heapUsed
        let [served, refusals, longest, passed] = [0, 0, 0, 0]
        for (let i = 0; i < rounds; i++) {
          for (const { maxQueue, round } of [all, few]) {
            const told = yield* round
            // Lookups wait apart from statements; what is on its way to a thread does not wait.
            assert.isAtLeast(told.served, Math.min(count, 2 * maxQueue))
            assert.isAtMost(told.served, Math.min(count, 2 * maxQueue + 2 * 128 + 1_024 + 256))
            served += told.served
            refusals += count - told.served
            passed = Math.max(passed, told.passed)
            longest = Math.max(longest, told.refusedAfter)
          }
        }
        const growth = ((yield* heapUsed) - before) / 1e6
        assert.isAtMost(growth, 1)
        return {
          served,
          refused: refusals,
          "most ms until 98 000 were refused": longest,
          "most older ones passed": passed,
          "most MB of the heap not given back": growth
        }
      }).pipe(Effect.scoped)))
})

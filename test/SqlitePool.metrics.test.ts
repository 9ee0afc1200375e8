import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Metric, MetricState, Schedule, Scope, Stream } from "effect"
import type { SqlitePool } from "effect-avatars"
import { failure, makePool, slowSql } from "./pool.js"

describe("the gauge of connections", () => {
  it.scopedLive("says used while a transaction has the writer, and idle before and after", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ poolName: "writer" })
      const writer = () => [connections("writer", "writer", "used"), connections("writer", "writer", "idle")]
      yield* becomes(writer, [0, 1])
      yield* sql.withTransaction(becomes(writer, [1, 0]))
      yield* becomes(writer, [0, 1])
      yield* Effect.scoped(Effect.zipRight(sql.reserve, becomes(writer, [1, 0])))
      yield* becomes(writer, [0, 1])
      yield* failure(sql.withTransaction(sql`insert into nowhere values (1)`))
      yield* becomes(writer, [0, 1])
    }))

  it.scopedLive("says used while a snapshot, a stream or a statement has a reader, and idle before and after", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ poolName: "reader", minReaders: 2, maxReaders: 2 })
      const readers = () => [connections("reader", "reader", "used"), connections("reader", "reader", "idle")]
      yield* becomes(readers, [0, 2])
      yield* sql.snapshot(becomes(readers, [1, 1]))
      yield* becomes(readers, [0, 2])
      yield* Stream.runForEach(sql`select 1`.stream, () => becomes(readers, [1, 1]))
      yield* becomes(readers, [0, 2])
      const slow = yield* Effect.fork(sql.unsafe(slowSql(3_000_000)))
      yield* becomes(readers, [1, 1])
      yield* Fiber.join(slow)
      yield* becomes(readers, [0, 2])
    }))

  for (const filename of [undefined, ":memory:"]) {
    it.scopedLive(`agrees with \`stats\`, and so do the others, at rest and under load (${filename ?? "file"})`, () =>
      Effect.gen(function*() {
        const poolName = `stats ${filename ?? "file"}`
        const sql = yield* makePool({ poolName, ...(filename === undefined ? {} : { filename }) })
        yield* sql`create table t (a)`
        const agrees = (expected: object) =>
          eventually(Effect.map(sql.stats, ({ pending, readers, writer }) => {
            const told = {
              pending: gauge("db.client.connection.pending_requests", poolName),
              readers: filename === undefined ? of(poolName, "reader") : [0, 0],
              writer: of(poolName, "writer"),
              max: gauge("db.client.connection.max", poolName)
            }
            assert.deepStrictEqual<unknown>(told, {
              pending,
              readers: [readers.used, readers.open - readers.used],
              writer: [writer.used, writer.open - writer.used],
              max: readers.max + 1
            })
            assert.deepInclude(told, expected)
          }))
        yield* agrees({ pending: 0, writer: [0, 1] })
        const release = yield* leased(sql)
        const waiting = yield* Effect.forEach([1, 2, 3], (a) => Effect.fork(sql`insert into t values (${a})`))
        yield* agrees({ pending: 3, writer: [1, 0] })
        yield* Effect.zipRight(release, Fiber.joinAll(waiting))
        yield* agrees({ pending: 0, writer: [0, 1] })
      }))
  }

  it.scopedLive("counts no connection, no limit and nobody waiting when the pool's scope has ended", () =>
    Effect.gen(function*() {
      const poolName = "ended"
      const scope = yield* Scope.make()
      const sql = yield* Scope.extend(makePool({ poolName, minReaders: 3 }), scope)
      const transaction = yield* Effect.fork(Effect.exit(sql.withTransaction(Effect.never)))
      const waiting = yield* Effect.fork(Effect.exit(sql`create table t (a)`))
      yield* becomes(() => of(poolName, "writer"), [1, 0])
      yield* becomes(() => of(poolName, "reader"), [0, 3])
      yield* Effect.zipRight(Scope.close(scope, Exit.void), Fiber.await(waiting))
      yield* Fiber.interrupt(transaction)
      yield* becomes(() => [...of(poolName, "writer"), ...of(poolName, "reader")], [0, 0, 0, 0])
      const others = ["db.client.connection.max", "db.client.connection.pending_requests"]
      yield* becomes(() => others.map((name) => gauge(name, poolName)), [0, 0])
    }))
})

describe("while the writer is leased", () => {
  it.scopedLive("pending_requests counts the statements and leases that wait, and is 0 when they got it", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ poolName: "pending" })
      yield* sql`create table t (a)`
      const pending = () => gauge("db.client.connection.pending_requests", "pending")
      yield* becomes(pending, 0)
      const release = yield* leased(sql)
      const statements = yield* Effect.forEach([1, 2, 3], (a) => Effect.fork(sql`insert into t values (${a})`))
      const lease = yield* Effect.fork(sql.withTransaction(sql`insert into t values (4)`))
      const gone = yield* Effect.fork(sql`insert into t values (5)`)
      yield* becomes(pending, 5)
      yield* Fiber.interrupt(gone)
      yield* becomes(pending, 4)
      yield* Effect.zipRight(release, Fiber.joinAll([...statements, lease]))
      yield* becomes(pending, 0)
    }))

  it.scopedLive("each acquireTimeout counts as one of `timeouts`, and nothing else does", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ poolName: "timeouts", acquireTimeout: "50 millis", statementTimeout: "20 millis" })
      yield* sql`create table t (a)`
      const timeouts = () => counter("db.client.connection.timeouts", "timeouts") ?? 0
      const release = yield* leased(sql)
      yield* Effect.forEach([sql`insert into t values (1)`, sql.withTransaction(Effect.void)], failure)
      yield* release
      yield* becomes(timeouts, 2)
      assert.strictEqual((yield* failure(sql.unsafe(slowSql(3_000_000)))).reason, "StatementTimeoutError")
      yield* Effect.timeoutOption(sql.withTransaction(Effect.never), 10)
      assert.strictEqual(timeouts(), 2)
    }))
})

describe("the histogram", () => {
  it.scopedLive("of operation.duration counts each statement once, also one that fails, wherever it runs", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ poolName: "duration" })
      const count = grows("db.client.operation.duration", "duration", { "db.system.name": "sqlite" })
      yield* count(1, sql`create table t (a)`)
      yield* count(20, Effect.forEach(Array.from({ length: 20 }), () => sql`select 1`, { concurrency: "unbounded" }))
      yield* count(20, Effect.forEach(Array.from({ length: 20 }), () => sql`insert into t values (1)`))
      yield* count(2, Effect.forEach([sql`select * from nowhere`, sql`insert into nowhere values (1)`], failure))
      yield* count(3, sql.withTransaction(Effect.all([sql`select 1`, sql`insert into t values (1)`, sql`select 1`])))
    }))

  it.scopedLive("of create_time counts each connection that was opened", () =>
    grows("db.client.connection.create_time", "create")(4, makePool({ poolName: "create", minReaders: 3 })))

  it.scopedLive("of wait_time counts a statement once that was taken back from a reader at a long one, or writes after all", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ poolName: "wait again", minReaders: 1, maxReaders: 2 })
      yield* sql`create table t (a)`
      const count = grows("db.client.connection.wait_time", "wait again")
      const quick = Array.from({ length: 20 }, () => sql`select 1`)
      yield* count(21, Effect.all([sql.unsafe(slowSql(3_000_000)), ...quick], { concurrency: "unbounded" }))
      assert.strictEqual((yield* sql.stats).readers.open, 2)
      // They have waited for the second reader, some milliseconds each.
      assert.isAbove(histogram("db.client.connection.wait_time", "wait again")!.sum, 20 * 0.004)
      yield* count(1, sql`with n(i) as (select 1) insert into t select i from n`)
    }))

  it.scopedLive("of wait_time counts each statement and each lease that got a connection", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ poolName: "wait" })
      const count = grows("db.client.connection.wait_time", "wait")
      yield* count(1, sql`create table t (a)`)
      yield* count(20, Effect.forEach(Array.from({ length: 20 }), () => sql`select 1`, { concurrency: "unbounded" }))
      yield* count(1, sql.withTransaction(Effect.void))
      yield* count(1, sql.snapshot(Effect.void))
      yield* count(1, Stream.runDrain(sql`select 1`.stream))
      yield* count(1, Effect.scoped(sql.reserve))
    }))

  it.scopedLive("of use_time counts each lease, and each message of statements", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ poolName: "use" })
      const count = grows("db.client.connection.use_time", "use")
      yield* count(1, sql`create table t (a)`)
      yield* count(10, Effect.forEach(Array.from({ length: 10 }), () => sql`select 1`))
      yield* count(1, sql.withTransaction(Effect.zipRight(sql`insert into t values (1)`, sql`select 1`)))
      yield* count(1, sql.snapshot(sql`select 1`))
      yield* count(1, Stream.runDrain(sql`select 1`.stream))
    }))

  it.scopedLive("of each time is in seconds: 200 ms are 0.2, in a bucket that tells them from 1 ms and from 10 s", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ poolName: "seconds" })
      yield* sql`create table t (a)`
      const names = ["connection.wait_time", "connection.use_time", "operation.duration"].map((name) =>
        `db.client.${name}`
      )
      const before = names.map((name) => histogram(name, "seconds"))
      const release = yield* leased(sql)
      const insert = yield* Effect.fork(sql`insert into t values (1)`)
      yield* Effect.sleep(200)
      yield* Effect.zipRight(release, Fiber.join(insert))
      const below = (state: MetricState.MetricState.Histogram | undefined, limit: number) =>
        Math.max(0, ...(state?.buckets ?? []).filter(([boundary]) => boundary <= limit).map(([, count]) => count))
      for (const [i, name] of names.entries()) {
        const [old, now] = [before[i], histogram(name, "seconds")]
        const spent = (now?.sum ?? 0) - (old?.sum ?? 0)
        assert.isAtLeast(spent, 0.19, name)
        assert.isBelow(spent, 10, name)
        const slow = (limit: number) => (now?.count ?? 0) - below(now, limit) - ((old?.count ?? 0) - below(old, limit))
        assert.isAtLeast(slow(0.1), 1, name)
        assert.strictEqual(slow(10), 0, name)
      }
    }))
})

it.scopedLive("two pools are told apart by their names", () =>
  Effect.gen(function*() {
    const one = yield* makePool({ poolName: "one", maxReaders: 3 })
    const two = yield* makePool({ poolName: "two", maxReaders: 7, minReaders: 2 })
    yield* one.withTransaction(Effect.gen(function*() {
      yield* becomes(() => [...of("one", "writer"), ...of("two", "writer"), ...of("two", "reader")], [1, 0, 0, 1, 0, 2])
      yield* becomes(() => ["one", "two"].map((name) => gauge("db.client.connection.max", name)), [4, 8])
    }))
    const duration = "db.client.operation.duration"
    const before = histogram(duration, "one")?.count ?? 0
    yield* grows(duration, "two")(5, Effect.forEach([1, 2, 3, 4, 5], () => two`select 1`))
    assert.strictEqual(histogram(duration, "one")?.count ?? 0, before)
  }))

type Tags = Readonly<Record<string, string>>

/** The one metric of this name with these tags, if there is one. */
const state = (name: string, tags: Tags): MetricState.MetricState.Untyped | undefined => {
  const found = Metric.unsafeSnapshot().filter(({ metricKey }) =>
    metricKey.name === name &&
    Object.entries(tags).every(([key, value]) => metricKey.tags.some((tag) => tag.key === key && tag.value === value))
  )
  assert.isAtMost(found.length, 1, `${name} of ${JSON.stringify(tags)}`)
  return found[0]?.metricState
}

const gauge = (name: string, poolName: string, tags: Tags = {}): number | bigint | undefined => {
  const found = state(name, { "pool.name": poolName, ...tags })
  return found !== undefined && MetricState.isGaugeState(found) ? found.value : undefined
}

const counter = (name: string, poolName: string): number | bigint | undefined => {
  const found = state(name, { "pool.name": poolName })
  return found !== undefined && MetricState.isCounterState(found) ? found.count : undefined
}

const histogram = (name: string, poolName: string, tags: Tags = {}) => {
  const found = state(name, { "pool.name": poolName, ...tags })
  return found !== undefined && MetricState.isHistogramState(found) ? found : undefined
}

const connections = (poolName: string, role: "writer" | "reader", state: "used" | "idle") =>
  gauge("db.client.connection.count", poolName, { role, state })

/** How many are used, and how many idle. */
const of = (poolName: string, role: "writer" | "reader") => [
  connections(poolName, role, "used"),
  connections(poolName, role, "idle")
]

/** Begins a transaction; what it answers ends it. */
const leased = (sql: SqlitePool.SqlitePool) =>
  Effect.gen(function*() {
    const isLeased = yield* Deferred.make<void>()
    const isOver = yield* Deferred.make<void>()
    const fiber = yield* Effect.fork(
      sql.withTransaction(Effect.zipRight(Deferred.succeed(isLeased, undefined), Deferred.await(isOver)))
    )
    yield* Deferred.await(isLeased)
    return Effect.zipRight(Deferred.succeed(isOver, undefined), Fiber.join(fiber))
  })

/** Asserts again and again for two seconds: what a thread answers comes when it comes. */
const eventually = (assertion: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.catchAllDefect(assertion, Effect.fail).pipe(
    Effect.retry(Schedule.intersect(Schedule.spaced(10), Schedule.recurs(200))),
    Effect.orDie
  )

const becomes = (read: () => unknown, expected: unknown) =>
  eventually(Effect.sync(() => assert.deepStrictEqual(read(), expected)))

/** Runs something that adds so many to a histogram, and its times, in seconds, to the sum. */
const grows =
  (name: string, poolName: string, tags: Tags = {}) => <A, E, R>(by: number, effect: Effect.Effect<A, E, R>) =>
    Effect.gen(function*() {
      const before = histogram(name, poolName, tags)
      const start = performance.now()
      yield* effect
      yield* becomes(() => (histogram(name, poolName, tags)?.count ?? 0) - (before?.count ?? 0), by)
      const spent = (histogram(name, poolName, tags)?.sum ?? 0) - (before?.sum ?? 0)
      assert.isAbove(spent, 0)
      // Together they took less than if all of them had run all of the time.
      assert.isAtMost(spent, by * (performance.now() - start) / 1_000)
    })

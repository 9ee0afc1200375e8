import { SqlClient, type SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Array as Arr, Cause, Effect, Either, Exit, Fiber, Stream } from "effect"
import { Avatar, AvatarRepository, Database } from "effect-avatars"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { temporaryFile } from "./layers.js"
import { mortals } from "./mortal.js"
import { failure, logs, makePool, openWatched, slowSql } from "./pool.js"

describe("statements that one connection is asked for at once", () => {
  for (const mode of ["transaction", "reserve"]) {
    for (const count of [10_000, 50_000]) {
      it.scopedLive(`all settle, and the event loop stays free: ${count} on a lease of ${mode}`, () =>
        Effect.gen(function*() {
          const { longest, right, stored } = yield* child(mode, count)
          assert.deepStrictEqual([right, stored], [count, count / 4])
          assert.isBelow(longest!, 1_000)
        }))
    }
  }
})

describe("a read of a database that another connection has locked", () => {
  const locked = Effect.gen(function*() {
    const filename = yield* temporaryFile("pool.sqlite")
    const other = yield* Effect.acquireRelease(
      Effect.sync(() => new Sqlite(filename)),
      (db) => Effect.sync(() => db.close())
    )
    // A rollback journal: in WAL mode nobody can lock readers out.
    other.exec("create table t as select 1 as a")
    const logged = yield* logs
    const options = { filename, readonly: true, busyTimeout: "50 millis", acquireTimeout: "2 seconds" } as const
    const sql = yield* Effect.provide(makePool(options), logged.layer)
    const lock = Effect.sync(() => void other.exec("begin exclusive"))
    const unlock = Effect.sync(() => void other.exec("rollback"))
    return { lock, logged, sql, unlock }
  })

  it.scopedLive("fails typed, and its text, first sent then, works later", () =>
    Effect.gen(function*() {
      const { lock, sql, unlock } = yield* locked
      yield* lock
      const texts = Arr.makeBy(20, (i) => `select a + ${i} as n from t`)
      const refused = yield* Effect.forEach(texts, (text) => failure(sql.unsafe(text)), { concurrency: "unbounded" })
      assert.lengthOf(refused, 20)
      yield* unlock
      const answers = yield* Effect.forEach(texts, (text) => sql.unsafe(text), { concurrency: "unbounded" })
      assert.deepStrictEqual(answers, Arr.makeBy(20, (i) => [{ n: i + 1 }]))
    }))

  it.scopedLive("is a LockTimeoutError after busyTimeout, and costs no thread", () =>
    Effect.gen(function*() {
      const { lock, logged, sql, unlock } = yield* locked
      yield* lock
      assert.deepInclude(yield* failure(sql`select a from t`), { reason: "LockTimeoutError", isRetryable: true })
      yield* unlock
      assert.deepStrictEqual(yield* sql`select 2 as a from t`, [{ a: 2 }])
      assert.deepStrictEqual([logged.lines, (yield* sql.stats).deaths], [[], 0])
    }))
})

it.scopedLive("whoever is not interrupted gets exactly its own rows and `raw` results beside many who are", () =>
  Effect.gen(function*() {
    const sql = yield* makePool({ maxReaders: 3, prepareCacheSize: 20 })
    yield* sql`create table inserted (k integer primary key)`
    yield* sql`create table grouped (g integer, body blob)`
    yield* sql`insert into grouped
      with recursive n(i) as (select 0 union all select i + 1 from n where i < 6000) select i % 100, cast(i % 100 as blob) from n
      where i % 100 > i / 60`
    const sizes = new Map(
      (yield* sql<{ readonly g: number; readonly n: number }>`select g, count(*) as n from grouped group by g`).map((
        { g, n }
      ) => [g, n])
    )
    const body = (g: number) => ({ g, body: Buffer.from(String(g)) })
    const own = (g: number) => Array.from({ length: sizes.get(g) ?? 0 }, () => body(g))
    const many = 3_000
    let key = 0
    const kinds: ReadonlyArray<(g: number) => readonly [Effect.Effect<unknown, SqlError.SqlError>, unknown]> = [
      (g) => [sql`select g, body from grouped where g = ${g}`, own(g)],
      (g) => [sql`select g, body from grouped where g = ${g}`.values, own(g).map((row) => [row.g, row.body])],
      (
        g
      ) => [
        Effect.map(Stream.runCollect(sql`select g, body from grouped where g = ${g}`.stream), Arr.fromIterable),
        own(g)
      ],
      (g) => [
        sql.unsafe(
          `with recursive n(i) as (select 1 union all select i + 1 from n where i < ${many}) select i * ? as n from n`,
          [g]
        ),
        Arr.makeBy(many, (i) => ({ n: (i + 1) * g }))
      ],
      (g) => [
        Effect.map(
          sql`update grouped set body = body where g = ${g}`.raw,
          (raw) => (raw as { changes: number }).changes
        ),
        sizes.get(g) ?? 0
      ],
      (g) => [sql`update grouped set body = body where g = ${g} returning g, body`, own(g)],
      () => {
        const k = ++key
        return [sql`insert into inserted values (${k})`.raw, { changes: 1, lastInsertRowid: k }]
      }
    ]
    let ended = 0
    for (let round = 0; round < 8; round++) {
      const calls = Arr.makeBy(210, (i) => kinds[i % kinds.length]!((i * 7 + round) % 100))
      const fibers = yield* Effect.forEach(calls, ([call]) => Effect.fork(call))
      yield* Effect.sleep(round * 3)
      yield* Effect.forEach(fibers.filter((_, i) => i % 3 !== 0), Fiber.interruptFork)
      const exits = yield* Effect.forEach(fibers, Fiber.await)
      exits.forEach((exit, i) => {
        if (i % 3 === 0 || Exit.isSuccess(exit)) {
          ended += 1
          assert.deepStrictEqual(exit, Exit.succeed(calls[i]![1]), `kind ${i % kinds.length}`)
        } else {
          assert.isTrue(Cause.isInterruptedOnly(exit.cause), Cause.pretty(exit.cause))
        }
      })
    }
    assert.isBelow(ended, 8 * 210)
    assert.deepInclude(yield* sql.stats, { pending: 0, deaths: 0 })
  }))

it.scopedLive("what cannot cross to a thread is refused typed by the repository too, and harms no neighbour", () =>
  Effect.gen(function*() {
    const pool = yield* makePool()
    const users = yield* Effect.zipRight(Database.migrate, AvatarRepository.make).pipe(
      Effect.provideService(SqlClient.SqlClient, pool)
    )
    const avatar = (login: string, name: unknown) =>
      new Avatar.Avatar({ login, name, forname: "" } as Avatar.Avatar, { disableValidation: true })
    const isDone = (asked: Effect.Effect<unknown, unknown>) =>
      Effect.timeout(Effect.map(Effect.either(asked), Either.isRight), 5_000)
    const creates = [
      users.create(avatar("a", "a")),
      users.create(avatar("b", Symbol("b"))),
      users.create(avatar("c", "c"))
    ]
    assert.deepStrictEqual(yield* Effect.forEach(creates, isDone, { concurrency: "unbounded" }), [true, false, true])
    assert.isFalse(yield* isDone(users.findUserAvatar(Symbol("a") as never)))
    assert.strictEqual(yield* users.count, 2)
  }))

describe("with room for one prepared statement", () => {
  it.scopedLive("1 000 texts at once each get their own names and rows, wherever they run", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ prepareCacheSize: 1 })
      yield* sql`create table t (a)`
      const all = (text: (i: number) => string) =>
        Effect.forEach(Arr.range(0, 999), (i) => sql.unsafe(text(i)), { concurrency: "unbounded" })
      const select = (i: number) => `select ${i} as n${i}`
      const insert = (i: number) => `insert into t values (${i}) returning a as n${i}`
      for (const answers of [all(select), all(insert), sql.withTransaction(all(select)), all(select), all(insert)]) {
        assert.deepStrictEqual<unknown>(yield* answers, Arr.makeBy(1_000, (i) => [{ [`n${i}`]: i }]))
      }
    }))

  it.scopedLive("a text that another one evicts while it runs keeps its names", () =>
    Effect.gen(function*() {
      const sql = yield* makePool({ prepareCacheSize: 1, minReaders: 2 })
      const total = (count: number) => sql.unsafe(slowSql(0).replace("i < 0", "i < ?"), [count])
      const sum = (count: number) => [{ total: count * (count + 1) / 2 }]
      assert.deepStrictEqual(yield* total(10), sum(10))
      const slow = yield* Effect.forEach([3_000_000, 2_000_000], (count) => Effect.fork(total(count)))
      yield* Effect.sleep(30)
      assert.deepStrictEqual(yield* sql`select 1 as other`, [{ other: 1 }])
      assert.deepStrictEqual(yield* Effect.forEach(slow, Fiber.join), [sum(3_000_000), sum(2_000_000)])
    }))

  it.scopedLive("20 000 different texts leave nothing behind in memory", () =>
    Effect.gen(function*() {
      // Each is a kilobyte, and so is the name of its column: remembered, they were 20 MB of heap and 160 MB of the process.
      const { heap, resident, right } = yield* child("texts", 20_000)
      assert.strictEqual(right, 20_000)
      assert.isBelow(heap! / 1e6, 5)
      assert.isBelow(resident! / 1e6, 80)
    }))
})

it.scopedLive("a raw COMMIT whose thread dies in it is not said to have changed nothing when it is stored", () =>
  Effect.gen(function*() {
    const alive = yield* mortals
    const sql = yield* makePool()
    yield* sql`create table t (a, b)`
    for (let i = 0; i < 4; i++) {
      const exit = yield* Effect.scoped(Effect.gen(function*() {
        const connection = yield* sql.reserve
        // All of it is written by COMMIT, which so takes long.
        for (
          const text of ["pragma cache_size = -400000", "begin", `insert into t values (${i}, zeroblob(60000000))`]
        ) {
          yield* connection.executeRaw(text, [])
        }
        const writer = Array.from(alive).find(({ role }) => role === "writer")!
        const commit = yield* Effect.fork(connection.executeRaw("commit", []))
        yield* Effect.sleep(10)
        assert.isTrue(yield* writer.kill("terminate"))
        return yield* Fiber.await(commit)
      }))
      const stored = (yield* sql`select a from t where a = ${i}`).length
      const error = Exit.isSuccess(exit) ? undefined : yield* failure(exit)
      assert(error === undefined || error.outcome === "unknown" || stored === 0, `stored, but: ${error?.message}`)
      assert(error !== undefined || stored === 1, "acknowledged, but not stored")
    }
  }))

describe("a nested transaction", () => {
  it.scopedLive("that SQLite ended with all of it logs nothing: its failure is what the caller sees", () =>
    Effect.gen(function*() {
      const logged = yield* logs
      const sql = yield* makePool()
      yield* sql`create table t (a unique)`
      yield* sql`insert into t values (1)`
      const nested = sql.withTransaction(sql`insert or rollback into t values (1)`)
      const exit = yield* Effect.provide(Effect.exit(sql.withTransaction(nested)), logged.layer)
      assert.deepInclude(yield* failure(exit), { reason: "UniqueViolation" })
      assert.deepStrictEqual(logged.lines, [])
    }))

  it.scopedLive("that has ended refuses, typed, what a daemon of it still asks for: none of it runs in its parent", () =>
    Effect.gen(function*() {
      const sql = yield* makePool()
      yield* sql`create table t (a)`
      for (const end of [Effect.void, Effect.fail("undone")]) {
        const isOver = yield* Effect.makeLatch()
        const late: ReadonlyArray<Effect.Effect<unknown, SqlError.SqlError>> = [
          sql`insert into t values ('alone')`,
          sql`select 1`,
          Stream.runDrain(sql`insert into t values ('stream') returning a`.stream),
          sql.withTransaction(sql`insert into t values ('nested')`)
        ]
        yield* sql.withTransaction(Effect.gen(function*() {
          const daemons: Array<Fiber.Fiber<Array<Exit.Exit<unknown, unknown>>>> = []
          const fork = Effect.forkDaemon(isOver.whenOpen(Effect.forEach(late, Effect.exit)))
          yield* Effect.ignore(
            sql.withTransaction(Effect.zipRight(Effect.map(fork, (daemon) => daemons.push(daemon)), end))
          )
          yield* sql`insert into t values ('parent')`
          yield* isOver.open
          yield* Effect.forEach(yield* Fiber.join(daemons[0]!), failure)
        }))
      }
      assert.deepStrictEqual(yield* sql`select distinct a from t`, [{ a: "parent" }])
    }))
})

describe("a database in memory", () => {
  it.scopedLive("whose read outlasts statementTimeout fails it typed, and answers what follows or refuses it typed", () =>
    Effect.gen(function*() {
      const logged = yield* logs
      const options = { filename: ":memory:", statementTimeout: "50 millis" } as const
      const sql = yield* Effect.provide(makePool(options), logged.layer)
      yield* sql`create table t as select 1 as a`
      assert.deepInclude(yield* failure(sql.unsafe(slowSql(8_000_000))), { reason: "StatementTimeoutError" })
      const calls: ReadonlyArray<Effect.Effect<unknown, SqlError.SqlError>> = [
        sql`select a from t`,
        sql`insert into t values (2)`,
        sql.withTransaction(sql`select a from t`),
        Stream.runCollect(sql`select a from t`.stream)
      ]
      const exits = yield* Effect.forEach(calls, Effect.exit, { concurrency: "unbounded" })
      yield* Effect.forEach(exits.filter(Exit.isFailure), failure)
      // All of it or nothing: no statement meets an empty database in the place of the one that was there.
      assert.include([0, 4], exits.filter(Exit.isSuccess).length)
      assert.notInclude(logged.lines.join(), "is replaced")
    }))

  it.scopedLive("whose thread dies is not said to be replaced", () =>
    Effect.gen(function*() {
      const logged = yield* logs
      const { alive, sql } = yield* Effect.provide(openWatched({ filename: ":memory:" }), logged.layer)
      yield* Effect.forEach(Array.from(alive), (worker) => Effect.promise(() => worker.terminate()))
      assert.deepInclude(yield* failure(sql`select 1`), { reason: "ConnectionError" })
      assert.lengthOf(logged.lines, 1)
      assert.notInclude(logged.lines.join(), "is replaced")
    }))
})

/** What the fixture found in a process of its own, which is killed after four minutes: a timeout of vitest cannot end a blocked event loop. */
const child = (mode: string, count: number) =>
  Effect.flatMap(temporaryFile("pool.sqlite"), (file) =>
    Effect.async<Readonly<Record<string, number>>>((resume) => {
      const fixture = fileURLToPath(new URL("fixtures/pool-hostile.mjs", import.meta.url))
      const args = ["--expose-gc", fixture, mode, file, String(count)]
      const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] })
      let output = ""
      child.stdout.setEncoding("utf8").on("data", (text: string) => output += text)
      child.once("close", (code, signal) => {
        clearTimeout(timer)
        resume(code === 0 ? Effect.succeed(JSON.parse(output)) : Effect.die(`it ended with ${signal ?? code}`))
      })
      const timer = setTimeout(() => child.kill("SIGKILL"), 240_000)
      return Effect.sync(() => child.kill("SIGKILL"))
    }))

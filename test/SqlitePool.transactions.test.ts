import { SqlError } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import type { Scope } from "effect"
import { Deferred, Duration, Effect, Exit, Fiber, Ref, Stream } from "effect"
import { DatabaseError } from "effect-avatars"
import type { SqlitePool } from "effect-avatars"
import type { YieldWrap } from "effect/Utils"
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { makePool } from "./pool.js"

describe("sibling nested transactions", () => {
  for (const first of ["good", "bad"]) {
    for (const slow of ["good", "bad"]) {
      claim(`keep the good one's rows and lose the bad one's: ${first} begins first, ${slow} is slow`, function*(sql) {
        const isOpen = yield* Deferred.make<void>()
        const child = (name: string) =>
          sql.withTransaction(Effect.gen(function*() {
            yield* insert(sql, `${name} 1`)
            yield* Deferred.succeed(isOpen, undefined)
            yield* Effect.sleep(name === slow ? 40 : 1)
            yield* insert(sql, `${name} 2`)
            yield* name === "bad" ? Effect.fail("bad" as const) : Effect.void
          }))
        const parent = Effect.zipRight(Deferred.await(isOpen), insert(sql, "parent"))
        const exits = yield* sql.withTransaction(Effect.all([
          Effect.exit(child(first)),
          Effect.exit(child(first === "good" ? "bad" : "good")),
          Effect.exit(parent)
        ], { concurrency: "unbounded" }))
        assert.deepStrictEqual<unknown>(exits[first === "bad" ? 0 : 1], Exit.fail("bad"))
        assert.lengthOf(exits.filter(Exit.isSuccess), 2)
        assert.deepStrictEqual((yield* names(sql)).toSorted(), ["good 1", "good 2", "parent"])
      })
    }
  }

  claim("keep, of 40 random trees, the rows of those that succeeded with all that contain them", function*(sql) {
    let seed = 1
    const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below
    const expected: Array<string> = []
    const grow = (name: string, depth: number, isKept: boolean): Effect.Effect<void, "bad" | SqlError.SqlError> => {
      const isBad = random(3) === 0
      const kept = isKept && !isBad
      expected.push(...(kept ? [`${name} a`, `${name} z`] : []))
      const children = Array.from(
        { length: depth === 3 ? 0 : random(4) },
        (_, i) => Effect.ignore(grow(`${name}.${i}`, depth + 1, kept))
      )
      return sql.withTransaction(Effect.gen(function*() {
        yield* insert(sql, `${name} a`)
        yield* Effect.all([...children, insert(sql, `${name} z`)], { concurrency: "unbounded", discard: true })
        yield* isBad ? Effect.fail("bad" as const) : Effect.void
      }))
    }
    const trees = Array.from({ length: 40 }, (_, i) => Effect.ignore(grow(`${i}`, 0, true)))
    yield* Effect.all(trees, { concurrency: "unbounded" })
    assert.isAbove(expected.length, 40)
    assert.deepStrictEqual((yield* names(sql)).toSorted(), expected.toSorted())
  })

  claim("leave the next one its turn when they are interrupted at the moment at which they get it", function*(sql) {
    for (let yields = 0; yields < 40; yields++) {
      yield* sql.withTransaction(Effect.gen(function*() {
        const first = yield* Effect.fork(sql.withTransaction(insert(sql, "first")))
        yield* Effect.repeatN(Effect.yieldNow(), yields)
        yield* Fiber.interrupt(first)
        yield* sql.withTransaction(insert(sql, "second"))
      }))
    }
    assert.lengthOf((yield* names(sql)).filter((name) => name === "second"), 40)
  }, { acquireTimeout: "2 seconds" })

  claim("leave the next one its turn when they are interrupted, waiting or open", function*(sql) {
    yield* sql.withTransaction(Effect.gen(function*() {
      const first = yield* opened((open) => sql.withTransaction(Effect.all([insert(sql, "x"), open, Effect.never])))
      const second = yield* Effect.fork(sql.withTransaction(insert(sql, "never")))
      const statement = yield* Effect.fork(insert(sql, "never"))
      yield* Effect.sleep(5)
      yield* Fiber.interrupt(statement)
      yield* Fiber.interrupt(second)
      yield* Fiber.interrupt(first)
      yield* sql.withTransaction(insert(sql, "next"))
    }))
    assert.deepStrictEqual(yield* names(sql), ["next"])
  })
})

describe("a transaction that SQLite ended by itself", () => {
  const culprits = {
    "INSERT OR ROLLBACK": (sql: SqlitePool.SqlitePool) => sql`insert or rollback into t values ('taken')`,
    "RAISE(ROLLBACK)": (sql: SqlitePool.SqlitePool) => sql`insert into t values ('raise')`,
    "ON CONFLICT ROLLBACK": (sql: SqlitePool.SqlitePool) => sql`insert into strict values (1), (1)`,
    "a full disk": (sql: SqlitePool.SqlitePool) => sql`insert into plain values (zeroblob(1000000))`
  }
  for (const [name, culprit] of Object.entries(culprits)) {
    claim(`refuses everything, typed, and nothing autocommits, after ${name}`, function*(sql) {
      yield* sql`create table strict (n unique on conflict rollback)`
      yield* sql`create table plain (n)`
      yield* sql`create trigger raises before insert on t when new.name = 'raise' begin
          select raise(rollback, 'raised'); end`
      yield* insert(sql, "taken")
      const exit = yield* Effect.exit(sql.withTransaction(Effect.gen(function*() {
        yield* insert(sql, "lost")
        yield* failure(culprit(sql))
        yield* failure(insert(sql, "alone"))
        yield* failure(sql`select 1`)
        yield* failure(sql`create table autocommitted (n)`)
        yield* failure(sql.withTransaction(insert(sql, "nested")))
      })))
      assert.strictEqual((yield* failure(exit)).code, "SQLITE_ABORT_ROLLBACK")
      assert.deepStrictEqual(yield* names(sql), ["taken"])
      yield* failure(sql`select * from autocommitted`)
      yield* sql.withTransaction(insert(sql, "next"))
      assert.deepStrictEqual(yield* names(sql), ["taken", "next"])
    }, { pragmas: ["max_page_count = 20"] })
  }

  claim("does so also when it happened two levels below", function*(sql) {
    yield* insert(sql, "taken")
    const inner = sql.withTransaction(sql`insert or rollback into t values ('taken')`)
    const outer = Effect.zipRight(Effect.ignore(sql.withTransaction(inner)), Effect.ignore(insert(sql, "alone")))
    yield* failure(sql.withTransaction(outer))
    assert.deepStrictEqual(yield* names(sql), ["taken"])
  })
})

describe("a failing", () => {
  claim("COMMIT (a deferred foreign key) is typed, rolled back, and harms no later transaction", function*(sql) {
    yield* sql`create table parent (name primary key)`
    yield* sql`create table child (name references parent deferrable initially deferred)`
    for (let i = 0; i < 20; i++) {
      const orphan = Effect.zipRight(insert(sql, `lost ${i}`), sql`insert into child values ('nobody')`)
      const error = yield* failure(sql.withTransaction(orphan))
      assert.deepInclude(error, { reason: "ConstraintError", code: "SQLITE_CONSTRAINT_FOREIGNKEY" })
      yield* sql.withTransaction(insert(sql, `kept ${i}`))
    }
    assert.lengthOf(yield* names(sql), 20)
    assert.deepStrictEqual(yield* sql`select * from child`, [])
  })

  claim("COMMIT after a full disk that nobody looked at is typed, rolled back, and harms no later one", function*(sql) {
    const fills = Effect.zipRight(insert(sql, "lost"), Effect.ignore(sql`insert into t values (zeroblob(1000000))`))
    yield* failure(sql.withTransaction(fills))
    yield* sql.withTransaction(insert(sql, "kept"))
    assert.deepStrictEqual(yield* names(sql), ["kept"])
  }, { pragmas: ["max_page_count = 20"] })

  claim("BEGIN (another process holds the lock) is typed and retryable, and its retry succeeds", function*(sql) {
    const release = yield* lock(sql.config.filename)
    const body = yield* Ref.make(0)
    const transaction = sql.withTransaction(Effect.zipRight(Ref.update(body, (n) => n + 1), insert(sql, "there")))
    const error = yield* failure(transaction)
    assert.deepInclude(error, { reason: "LockTimeoutError", isRetryable: true })
    assert.strictEqual(yield* body, 0)
    assert.strictEqual((yield* failure(insert(sql, "refused"))).reason, "LockTimeoutError")
    assert.deepStrictEqual(yield* names(sql), [])
    yield* Effect.fork(Effect.delay(release, 100))
    yield* Effect.retry(transaction, { while: (error) => DatabaseError.fromSqlError(error).isRetryable })
    assert.deepStrictEqual(yield* names(sql), ["there"])
  }, { busyTimeout: "50 millis" })
})

describe("a timeout of 50 ms while waiting for the writer takes about 50 ms", () => {
  const timeouts = (sql: SqlitePool.SqlitePool) =>
    Effect.forEach(
      [sql.withTransaction(insert(sql, "late")), insert(sql, "late")],
      (waiting) =>
        Effect.gen(function*() {
          const [duration, outcome] = yield* Effect.timed(Effect.timeoutOption(waiting, 50))
          assert.strictEqual(outcome._tag, "None")
          assert.isBelow(Duration.toMillis(duration), 200)
        }),
      { concurrency: "unbounded" }
    )

  claim("while a transaction has it", function*(sql) {
    const long = yield* opened((open) => sql.withTransaction(Effect.zipRight(open, Effect.sleep(600))))
    yield* timeouts(sql)
    yield* Fiber.join(long)
    assert.deepStrictEqual(yield* names(sql), [])
  })

  claim("while another process holds the lock", function*(sql) {
    const release = yield* lock(sql.config.filename)
    yield* timeouts(sql)
    yield* timeouts(sql)
    yield* release
    yield* sql.withTransaction(insert(sql, "next"))
    assert.deepStrictEqual(yield* names(sql), ["next"])
  })
})

describe("a transaction", () => {
  claim("that is interrupted, at any moment, is rolled back as a whole, and the next one works", function*(sql) {
    const exits = yield* Effect.forEach(Array.from({ length: 300 }, (_, i) => i), (i) =>
      Effect.gen(function*() {
        const twice = Effect.zipRight(insert(sql, `${i}`), Effect.zipRight(Effect.yieldNow(), insert(sql, `${i}`)))
        const fiber = yield* Effect.fork(sql.withTransaction(twice))
        yield* Effect.sleep((i * 7) % 60)
        return [i, yield* Fiber.interrupt(fiber)] as const
      }), { concurrency: "unbounded" })
    const stored = yield* names(sql)
    for (const [i, exit] of exits) {
      const count = stored.filter((name) => name === `${i}`).length
      assert.include(Exit.isSuccess(exit) ? [2] : [0, 2], count)
    }
    assert.isAbove(exits.filter(([, exit]) => Exit.isInterrupted(exit)).length, 0)
    yield* sql.withTransaction(insert(sql, "next"))
    yield* Fiber.interrupt(
      yield* opened((open) => sql.withTransaction(Effect.all([insert(sql, "x"), open, Effect.never])))
    )
    assert.strictEqual((yield* names(sql)).at(-1), "next")
  })

  it.scopedLive("leaves the statements and transactions of a second pool to the second, at any depth", () =>
    Effect.gen(function*() {
      const one = yield* makeTable()
      const two = yield* makeTable()
      yield* Effect.ignore(one.withTransaction(Effect.gen(function*() {
        yield* insert(one, "one")
        yield* insert(two, "two")
        yield* insert(two.withoutTransforms() as typeof two, "two plain")
        yield* two.withTransaction(Effect.zipRight(insert(two, "two inner"), insert(one, "one inner")))
        assert.deepStrictEqual(yield* names(one), ["one", "one inner"])
        return yield* Effect.fail("undo the first")
      })))
      assert.deepStrictEqual(yield* names(one), [])
      assert.deepStrictEqual(yield* names(two), ["two", "two plain", "two inner"])
    }))

  claim("that holds the writer for 1 s delays no read, and no read sees what it has not committed", function*(sql) {
    const isOver = yield* Ref.make(false)
    const hold = Effect.zipRight(Effect.sleep(1_000), Ref.set(isOver, true))
    const long = yield* opened((open) => sql.withTransaction(Effect.all([insert(sql, "new"), open, hold])))
    let slowest = 0
    while (!(yield* isOver)) {
      const reads = Effect.all(Array.from({ length: 20 }, () => names(sql)), { concurrency: 20 })
      const [duration, seen] = yield* Effect.timed(reads)
      slowest = Math.max(slowest, Duration.toMillis(duration))
      assert.isTrue((yield* isOver) || seen.flat().length === 0)
    }
    yield* Fiber.join(long)
    assert.isBelow(slowest, 500)
    assert.deepStrictEqual(yield* names(sql), ["new"])
  })
})

describe("outside a lease", () => {
  const refusals = {
    "sql.withTransaction": ["BEGIN", "begin immediate", "COMMIT", "END", "ROLLBACK", "/* x */ BEGIN", "-- x\n;BEGIN"]
      .concat(["SAVEPOINT a", "RELEASE a"]),
    "sql.reserve": ["ATTACH ':memory:' AS other", "detach other"],
    "`pragmas`": ["foreign_keys = OFF", "foreign_keys(0)", "main.cache_size = 5", "busy_timeout=1", "temp_store=2"]
      .concat(["\"main\".cache_size = 5", "/* x */ query_only = ON", "query_only/**/= ON", "query_only -- x\n = OFF"])
      .map((pragma) => `PRAGMA ${pragma}`)
      .concat(["PRAGMA/**/query_only = ON", "-- pragma user_version\nPRAGMA query_only = ON"])
  }
  for (const [hint, texts] of Object.entries(refusals)) {
    claim(`what needs one is refused with a sentence that names ${hint}`, function*(sql) {
      const answers = yield* Effect.forEach(texts.map((text) => sql.unsafe(text)), (statement) => {
        const { raw, stream, unprepared, values } = statement
        const runs = [statement, raw, unprepared, values, Stream.runDrain(stream)]
        return Effect.forEach(runs, (run) => Effect.either(failure(run)))
      })
      const sentence = new RegExp(`^[A-Z][^;]*${hint}.*\\.$`)
      const isRefused = (answer: (typeof answers)[number][number]) =>
        answer._tag === "Right" && answer.right.reason === "SqlSyntaxError" && sentence.test(answer.right.message)
      assert.deepStrictEqual(texts.filter((_, i) => !answers[i]!.every(isRefused)), [])
      yield* Effect.zipRight(insert(sql, "works"), sql.withTransaction(insert(sql, "works")))
      assert.lengthOf(yield* names(sql), 2)
    })
  }
})

describe("a reserved connection", () => {
  const changes = {
    "PRAGMA": ["pragma foreign_keys = off", "pragma cache_size = 17"],
    "a TEMP table": ["create temp table leftover (n)", "insert into leftover values (1)"],
    "ATTACH": ["attach ':memory:' as leftover", "create table leftover.leftover (n)"],
    "an open transaction": ["begin", "create table leftover (n)", "insert into t values ('lost')"]
  }
  const questions = ["pragma foreign_keys", "pragma cache_size", "select * from temp.sqlite_schema"]
    .concat("select name from pragma_database_list where name <> 'temp'")
  for (const [name, texts] of Object.entries(changes)) {
    claim(`that is given back after ${name} leaves nothing to the next`, function*(sql) {
      const state = Effect.flatMap(
        sql.reserve,
        (connection) => Effect.forEach(questions, (text) => connection.execute(text, [], undefined))
      ).pipe(Effect.scoped)
      const before = yield* state
      for (let i = 0; i < 5; i++) {
        yield* Effect.scoped(
          Effect.flatMap(
            sql.reserve,
            (connection) => Effect.forEach(texts, (text) => connection.execute(text, [], undefined))
          )
        )
        yield* failure(sql`select * from leftover`)
        yield* failure(sql`insert into leftover values (2)`)
        assert.deepStrictEqual(yield* state, before)
      }
      yield* sql.withTransaction(insert(sql, "next"))
      assert.deepStrictEqual(yield* names(sql), ["next"])
    })
  }
})

describe("a snapshot", () => {
  for (const filename of [undefined, ":memory:"]) {
    claim(`refuses writes and nested transactions, and harms nothing (${filename ?? "file"})`, function*(sql) {
      yield* failure(sql.snapshot(insert(sql, "x")))
      yield* failure(sql.snapshot(sql`insert into t values ('x') returning *`))
      yield* failure(sql.snapshot(sql`create table x (n)`))
      yield* failure(sql.snapshot(sql.withTransaction(names(sql))))
      yield* sql.withTransaction(insert(sql, "next"))
      assert.deepStrictEqual(yield* sql.snapshot(names(sql)), ["next"])
    }, filename === undefined ? {} : { filename })
  }

  claim("is one moment, that of its beginning, while writes go on", function*(sql) {
    const writer = yield* Effect.fork(Effect.forever(insert(sql, "new")))
    for (let i = 0; i < 30; i++) {
      const acknowledged = (yield* names(sql)).length
      const counts = yield* sql.snapshot(Effect.replicateEffect(Effect.delay(names(sql), 1), 10))
      assert.isAtLeast(counts[0]!.length, acknowledged)
      assert.lengthOf(new Set(counts.map((rows) => rows.length)), 1)
    }
    yield* Fiber.interrupt(writer)
  })
})

/** A test on a table of its own. */
function claim(
  name: string,
  body: (sql: SqlitePool.SqlitePool) => Generator<YieldWrap<Effect.Effect<unknown, unknown, Scope.Scope>>, void, never>,
  config: Partial<SqlitePool.SqlitePoolConfig> = {}
) {
  it.scopedLive(name, () => Effect.flatMap(makeTable(config), (sql) => Effect.gen(() => body(sql))))
}

const makeTable = (config: Partial<SqlitePool.SqlitePoolConfig> = {}) =>
  Effect.tap(makePool(config), (sql) =>
    sql`create table t (name text)`.pipe(
      Effect.zipRight(sql`create unique index taken on t (name) where name = 'taken'`)
    ))

const insert = (sql: SqlitePool.SqlitePool, name: string) => Effect.asVoid(sql`insert into t values (${name})`)

const names = (sql: SqlitePool.SqlitePool) =>
  Effect.map(sql<{ readonly name: string }>`select name from t order by rowid`, (rows) => rows.map(({ name }) => name))

/** What it failed with: it does fail, and with a `SqlError`. */
const failure = (outcome: Effect.Effect<unknown, unknown>) =>
  Effect.map(Effect.flip(outcome), (error) => {
    assert.instanceOf(error, SqlError.SqlError)
    return DatabaseError.fromSqlError(error)
  })

/** A fiber that has come to where it said `open`. */
const opened = <A, E>(make: (open: Effect.Effect<boolean>) => Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const isOpen = yield* Deferred.make<void>()
    const fiber = yield* Effect.fork(make(Deferred.succeed(isOpen, undefined)))
    yield* Deferred.await(isOpen)
    return fiber
  })

/** Locks a file from another process until what it answers is run, or the scope ends. */
const lock = (filename: string) =>
  Effect.gen(function*() {
    const fixture = fileURLToPath(new URL("fixtures/lockDatabase.mjs", import.meta.url))
    const child = spawn(process.execPath, [fixture, filename, "60000"], { stdio: ["ignore", "pipe", "inherit"] })
    const end = Effect.async<void>((resume) => {
      child.once("exit", () => resume(Effect.void))
      child.kill("SIGKILL")
    })
    yield* Effect.addFinalizer(() => child.exitCode === null && child.signalCode === null ? end : Effect.void)
    yield* Effect.promise(() => createInterface({ input: child.stdout })[Symbol.asyncIterator]().next())
    return end
  })

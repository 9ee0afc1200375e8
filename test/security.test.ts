/** What a connection to SQLite lets nobody do: not a stranger's file, not the text of a statement. */
import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { AvatarRepository, Database, DatabaseError, type SqlitePool } from "effect-avatars"
import { Effect, Exit, Layer, Stream } from "effect"
import * as fs from "node:fs"
import { temporaryFile } from "./layers.js"
import { failure, makePool, openWatched } from "./pool.js"

const write = (sql: SqlitePool.SqlitePool) => Effect.zipRight(sql`create table t (a)`, sql`insert into t values (1)`)

/** What a query answers on the writer, on each reader, and on connections that were reserved, one of them after it was opened anew. */
const onEach = (sql: SqlitePool.SqlitePool, query: string) =>
  Effect.gen(function*() {
    const readers = sql.config.minReaders ?? 1
    const meeting = yield* Effect.makeLatch()
    let count = 0
    const meet = Effect.suspend(() => ++count === readers ? meeting.open : meeting.await)
    const reader = sql.snapshot(Effect.tap(sql.unsafe(query).values, () => meet))
    const reserved = Effect.scoped(Effect.flatMap(sql.reserve, (one) => one.executeValues(query, [])))
    return [
      yield* sql.withTransaction(sql.unsafe(query).values),
      ...(yield* Effect.all(Array.from({ length: readers }, () => reader), { concurrency: "unbounded" })),
      yield* reserved,
      yield* Effect.zipRight(
        Effect.scoped(Effect.flatMap(sql.reserve, (one) => one.executeRaw("PRAGMA recursive_triggers = ON", []))),
        reserved
      )
    ].map((rows) => JSON.stringify(rows))
  })

const kinds = {
  "a file": { minReaders: 3 },
  "a file without WAL": { disableWAL: true },
  "memory": { filename: ":memory:" }
}

describe("every connection", () => {
  const trusts = "select trusted_schema from pragma_trusted_schema"

  for (const [name, config] of Object.entries(kinds)) {
    it.scopedLive(`to ${name} trusts no schema, unless \`pragmas\` says so`, () =>
      Effect.gen(function*() {
        const sql = yield* makePool({ ...config, initialSql: ["select 1"] })
        const answers = yield* onEach(sql, trusts)
        assert.deepStrictEqual(answers, answers.map(() => "[[0]]"))
        const trusting = yield* makePool({ ...config, pragmas: ["trusted_schema = ON"] })
        const trusted = yield* onEach(trusting, trusts)
        assert.deepStrictEqual(trusted, trusted.map(() => "[[1]]"))
      }))

    it.scopedLive(`to ${name} is defensive: no schema is written as a table, no shadow table, and the journal stays on`, () =>
      Effect.gen(function*() {
        const sql = yield* makePool({
          ...config,
          pragmas: ["writable_schema = ON"],
          initialSql: ["PRAGMA writable_schema = ON"]
        })
        yield* sql`create virtual table f using fts5(a)`
        yield* sql`insert into f values ('one')`
        const attacks = ["update sqlite_schema set sql = 'x'", "delete from f_data", "update f_content set c0 = 'two'"]
        const refused = Effect.forEach(
          attacks,
          (text) =>
            Effect.map(failure(sql.unsafe(text)), ({ reason }) => assert.strictEqual(reason, "SqlSyntaxError", text))
        )
        yield* refused
        // A cursor is why it is not so for a while.
        yield* sql.withTransaction(Effect.gen(function*() {
          yield* Stream.runForEach(sql`select * from f`.stream, () => sql`insert into f values ('three')`)
          yield* failure(sql.unsafe(attacks[0]!))
        }))
        yield* Stream.runDrain(sql`select * from f`.stream)
        yield* refused
        const journals = yield* Effect.scoped(Effect.flatMap(sql.reserve, (one) =>
          Effect.zipRight(
            Effect.forEach(
              ["PRAGMA writable_schema = ON", "PRAGMA journal_mode = OFF"],
              (text) => Effect.exit(one.executeRaw(text, []))
            ),
            Effect.zipRight(
              failure(one.executeRaw(attacks[0]!, [])),
              one.executeValues("select journal_mode from pragma_journal_mode", [])
            )
          )))
        assert.notDeepEqual(journals, [["off"]])
        assert.deepStrictEqual(yield* sql`select * from f`, [{ a: "one" }, { a: "three" }])
      }))

    it.scopedLive(`to ${name} loads no extension that a statement names`, () =>
      Effect.gen(function*() {
        const sql = yield* makePool(config)
        const query = "select load_extension('libm.so.6')"
        const reserved = Effect.scoped(Effect.flatMap(sql.reserve, (one) => one.execute(query, [], undefined)))
        for (
          const statement of [
            sql.unsafe(query),
            sql.snapshot(sql.unsafe(query)),
            sql.withTransaction(sql.unsafe(query)),
            reserved
          ]
        ) {
          const error = yield* Effect.flip(statement)
          assert.match(String(error.cause), /not authorized/)
        }
      }))
  }

  it.scopedLive("that replaces one that died trusts no schema either, and makes no file anew", () =>
    Effect.gen(function*() {
      const { alive, sql } = yield* openWatched()
      yield* write(sql)
      yield* Effect.promise(() => Promise.all([...alive].map((worker) => worker.terminate())))
      yield* Effect.retry(sql`insert into t values (2)`, { times: 3 })
      const answers = yield* sql.withTransaction(sql.unsafe(trusts).values)
      assert.deepStrictEqual(answers, [[0]])
      assert.deepStrictEqual(yield* sql`select a from t`, [{ a: 1 }, { a: 2 }])
    }))
})

describe("a file of a stranger", () => {
  /** A database that somebody else has made, with whatever he likes in its schema. */
  const strange = (...statements: ReadonlyArray<string>) =>
    Effect.map(temporaryFile("strange.sqlite"), (filename) => {
      const db = new Sqlite(filename)
      statements.forEach((statement) => db.exec(statement))
      db.close()
      return filename
    })

  it.scopedLive("whose table users is a view of this machine's paths tells none, which it would with trusted_schema", () =>
    Effect.gen(function*() {
      const filename = yield* strange(
        "create view users (login, name, forname) as select 'yoen', file, '' from pragma_database_list"
      )
      const url = `sqlite:${encodeURIComponent(filename)}`
      const lookUp = Effect.flatMap(AvatarRepository.AvatarRepository, (users) => users.getUserAvatar("yoen" as never))
      const error = yield* Effect.flip(
        Effect.provide(lookUp, Layer.provide(AvatarRepository.layer, Database.layer(url, { readonly: true })))
      )
      assert(error instanceof DatabaseError.DatabaseError)
      assert.notInclude(error.message, filename)
      const trusting = yield* makePool({ filename, pragmas: ["trusted_schema = ON"] })
      assert.deepStrictEqual(yield* trusting`select name from users`, [{ name: filename }])
    }))

  it.scopedLive("whose trigger reads what is not of the database fails the statement, and changes nothing", () =>
    Effect.gen(function*() {
      const filename = yield* strange(
        "create table users (login text primary key, name text, forname text)",
        `create trigger steal after insert on users begin
           update users set name = (select file from pragma_database_list) where login = new.login;
         end`
      )
      const sql = yield* makePool({ filename })
      assert.strictEqual((yield* failure(sql`insert into users values ('yoen', '', '')`)).reason, "SqlSyntaxError")
      assert.deepStrictEqual(yield* sql`select * from users`, [])
    }))

  it.scopedLive("uses full texts, R-trees, JSON, dates and mathematics in its schema as before", () =>
    Effect.gen(function*() {
      const filename = yield* strange(
        `create table t (
           id integer primary key, body text, x real default (round(pi(), 2)), at text default (date('now')),
           word text as (body ->> '$.word'), check (json_valid(body))
         )`,
        "create index words on t (lower(word))",
        "create virtual table f using fts5(word, content='t', content_rowid='id')",
        "create virtual table g using fts4(word)",
        "create virtual table r using rtree(id, x0, x1)",
        `create trigger added after insert on t begin
           insert into f(rowid, word) values (new.id, new.word);
           insert into g(rowid, word) values (new.id, new.word);
           insert into r values (new.id, new.x, new.x + 1);
         end`,
        `create trigger gone after delete on t begin
           insert into f(f, rowid, word) values ('delete', old.id, old.word);
           delete from r where id = old.id;
         end`,
        "create view found as select t.id, e.value from t, json_each(t.body) as e where t.id in (select rowid from f('two'))"
      )
      const sql = yield* makePool({ filename })
      yield* sql`insert into t (id, body) values (1, '{"word":"one two"}'), (2, '{"word":"three"}')`
      assert.deepStrictEqual(yield* sql`select * from found`, [{ id: 1, value: "one two" }])
      assert.deepStrictEqual(yield* sql`select rowid as id from g where g match 'three'`, [{ id: 2 }])
      yield* sql`delete from t where id = 1`
      assert.deepStrictEqual(yield* sql`select id from r`, [{ id: 2 }])
      assert.deepStrictEqual(yield* sql`select * from found`, [])
    }))
})

describe("a pool that is readonly", () => {
  it.scopedLive("writes nothing, whatever a statement on a connection of its own says", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile("pool.sqlite")
      yield* Effect.scoped(Effect.flatMap(makePool({ filename }), write))
      const before = fs.readFileSync(filename)
      const sql = yield* makePool({ filename, readonly: true, initialSql: ["PRAGMA query_only = OFF"] })
      const inserts = ["insert into t values (2)", "insert into t values (2) returning a"]
      const attempts = (one: Effect.Effect.Success<typeof sql.reserve>, text: string) => [
        one.execute(text, [], undefined),
        one.executeRaw(text, []),
        one.executeValues(text, []),
        one.executeUnprepared(text, [], undefined),
        Stream.runDrain(one.executeStream(text, [], undefined))
      ]
      const exits = yield* Effect.scoped(Effect.gen(function*() {
        const one = yield* sql.reserve
        yield* Effect.forEach(["PRAGMA query_only = OFF", "PRAGMA query_only(0)"], (text) =>
          Effect.exit(one.executeRaw(text, [])))
        return yield* Effect.forEach(
          inserts.flatMap((text) =>
            attempts(one, text)
          ),
          (attempt) => Effect.exit(attempt as Effect.Effect<unknown, unknown>)
        )
      }))
      assert.deepStrictEqual(exits.map(Exit.isFailure), exits.map(() => true))
      assert.isTrue(before.equals(fs.readFileSync(filename)))
      assert.deepStrictEqual(yield* sql`select a from t`, [{ a: 1 }])
    }))
})

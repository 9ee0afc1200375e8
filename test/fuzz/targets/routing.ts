/** Where a statement runs, against what SQLite does with it: no statement that may run on anybody's connection changes that connection. */
import Sqlite from "better-sqlite3"
import * as assert from "node:assert/strict"
import type { Route } from "../../../src/internal/sqlitePool/routing.js"
import { remember, routeOf } from "../../../src/internal/sqlitePool/routing.js"
import { bytesOf, textOf } from "./text.js"

type RouteOf = (sql: string) => Route

export const real: RouteOf = routeOf

/** What PRAGMAs set on one connection, as far as they can be asked for. */
const settings = [
  "analysis_limit, automatic_index, busy_timeout, cache_size, cache_spill, cell_size_check, checkpoint_fullfsync",
  "defer_foreign_keys, foreign_keys, fullfsync, ignore_check_constraints, journal_mode, journal_size_limit",
  "legacy_alter_table, locking_mode, max_page_count, query_only, read_uncommitted, recursive_triggers",
  "reverse_unordered_selects, secure_delete, synchronous, temp_store, trusted_schema, writable_schema"
].join(", ").split(", ")

interface Scratch {
  readonly db: Sqlite.Database
  readonly state: () => unknown
  uses: number
}

const open = (): Scratch => {
  const db = new Sqlite(":memory:")
  db.exec(`
    create table t (a, b unique);
    insert into t values (1, 'x'), (2, 'y');
    create index i on t (a);
    attach ':memory:' as "a$b";
  `)
  const columns = settings.filter((name) => db.prepare(`pragma ${name}`).reader)
  // The writer's temporary tables are documented.
  const databases = "(select group_concat(name) from pragma_database_list where name <> 'temp')"
  const asked = db.prepare(`
    select ${[databases, ...columns.map((name) => `(select * from pragma_${name})`)].join(", ")}
  `).raw()
  return { db, state: () => [db.inTransaction, ...asked.get() as Array<unknown>], uses: 0 }
}

let scratch: Scratch | undefined

const reopen = () => {
  scratch?.db.close()
  scratch = undefined
}

/** What would write another file, or work for long. */
const isCostly = (sql: string) => /\binto\b.*['"].*\/|vacuum.*into|recursive|\d{6}|\de\d|\d\.?e|0x|zeroblob/is.test(sql)

export const claim = (routeOf: RouteOf) => (sql: string): void => {
  const route = routeOf(sql)
  assert.equal(route === "none", sql.includes("\0"))
  if (route === "none" || route === "connection" || route === "transaction" || isCostly(sql)) {
    return
  }
  scratch ??= open()
  const { db, state } = scratch
  const before = state()
  try {
    run(db, sql, route)
  } catch (error) {
    assert.ok(!(error instanceof assert.AssertionError), error as Error)
  }
  assert.deepEqual(state(), before, `the connection is another after what runs as ${route}`)
  scratch.uses += 1
  if (scratch.uses > 100 || /create|drop|alter/i.test(sql)) {
    reopen()
  }
}

/** As the pool does. */
const run = (db: Sqlite.Database, sql: string, route: Route): unknown => {
  const statement = db.prepare(sql)
  if (statement.readonly && statement.reader) {
    let rows = 0
    for (const _ of statement.iterate()) {
      if (rows++ === 100) {
        break
      }
    }
    return rows
  }
  const text = { id: 0, sql, route, usedAt: 0, isForgotten: false }
  if (route === "read") {
    remember(text)
  }
  if (text.route !== "grouped") {
    return execute(statement)
  }
  db.exec("begin immediate")
  try {
    execute(statement)
    assert.ok(db.inTransaction, "a statement that shares a transaction ended it")
  } finally {
    if (db.inTransaction) {
      db.exec("rollback")
    }
  }
  return undefined
}

const execute = (statement: Sqlite.Statement): unknown => statement.reader ? statement.all() : statement.run()

/** A finding leaves the connection as it is. */
const forget = (check: (sql: string) => void) => (sql: string) => {
  try {
    check(sql)
  } catch (error) {
    reopen()
    throw error
  }
}

/** Of which statements are made, and what stands between. */
export const words = [
  ..."pragma|foreign_keys|cache_size|user_version|optimize|main|temp|a$b|\"a$b\"|[main]|.|=|(|)|0|1|on|t|a|b|'x'|,|*|;"
    .split("|"),
  ..."explain|query plan|begin|immediate|commit|end|rollback|to|savepoint|release|attach|detach|database|as".split("|"),
  ..."select|from|where|with|values|insert into|replace into|update|set|delete from|or rollback|returning".split("|"),
  ..."create|table|index|view|trigger|drop|alter|rename|vacuum|reindex|analyze|if not exists|':memory:'".split("|"),
  ..."/**/|/*|*/|--|\n|\t|\f|\ufeff|\u00a0|\v|é|\"|'|[|]|`|$|?|:a|end;".split("|")
]

const sqlOf = (data: Buffer): string =>
  (data[0] ?? 0) % 2 === 0
    ? textOf(data)
    : Array.from(data.subarray(1), (byte) => (words[byte >> 1] ?? "") + (byte % 2 === 0 ? "" : " ")).join("")

export const fuzz = (data: Buffer): void => forget(claim(real))(sqlOf(data))

/** Takes what begins with a semicolon for a read. */
export const naive: RouteOf = (sql) => /^\s*;/.test(sql) && !sql.includes("\0") ? "read" : routeOf(sql)

export const planted = (data: Buffer): void => forget(claim(naive))(sqlOf(data))

export const seeds = [
  "select * from t where a = 1",
  "with x as (select 1 as a) insert into t select a, a + 5 from x",
  "insert or rollback into t values (1, 'x') returning a",
  "pragma main . cache_size = 5",
  "explain query plan pragma foreign_keys(1)",
  "-- a\n begin immediate",
  "pragma \"a$b\".user_version = 1",
  "pragma a$b.user_version",
  "pragma main.foreign_keys = 0",
  "savepoint a",
  "vacuum",
  "create temp table u (a)",
  "attach ':memory:' as c"
].map(bytesOf)

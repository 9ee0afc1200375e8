import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { SqlitePool } from "effect-avatars"
import { makePool } from "./pool.js"

for (const filename of [undefined, ":memory:"]) {
  describe(`on shared connections (${filename ?? "file"})`, () => {
    const sets = ["foreign_keys = off", "locking_mode = exclusive", "case_sensitive_like = on"]
    const families = {
      "EXPLAIN of a PRAGMA": sets.flatMap((set) => [`EXPLAIN PRAGMA ${set}`, `explain query plan pragma ${set}`])
        .concat("/* x */ ; EXPLAIN /* y */ PRAGMA foreign_keys(0)"),
      "a PRAGMA whose name is quoted": [
        `PRAGMA"foreign_keys"=off`,
        "PRAGMA[foreign_keys]=off",
        "PRAGMA`foreign_keys`(0)"
      ]
        .concat(["PRAGMA 'foreign_keys' = off", "PRAGMA main.'foreign_keys' = off", "PRAGMA 'main'.foreign_keys = off"])
    }
    const state = (sql: SqlitePool.SqlitePool) =>
      Effect.forEach(
        ["pragma foreign_keys", "pragma locking_mode", "select foreign_keys from pragma_foreign_keys"]
          .concat(["select locking_mode from pragma_locking_mode", "select 'a' like 'A' as l"]),
        (text) => sql.unsafe(text)
      )
    for (const [name, texts] of Object.entries(families)) {
      it.scopedLive(`${name} sets nothing, and on a reserved one leaves nothing`, () =>
        Effect.gen(function*() {
          // What a connection in memory was told cannot be undone by opening it anew.
          const uses = [(sql: SqlitePool.SqlitePool, text: string) => Effect.asVoid(sql.unsafe(text))].concat(
            filename === undefined
              ? [(sql, text) => Effect.scoped(Effect.flatMap(sql.reserve, (one) => one.executeRaw(text, [])))]
              : []
          )
          const culprits: Array<string> = []
          for (const [i, use] of uses.entries()) {
            for (const text of texts) {
              const sql = yield* makePool({
                ...(filename === undefined ? {} : { filename }),
                pragmas: ["foreign_keys = on"]
              })
              const before = JSON.stringify(yield* state(sql))
              yield* Effect.exit(use(sql, text))
              culprits.push(
                ...(JSON.stringify(yield* state(sql)) === before ? [] : [`${["shared", "reserved"][i]}: ${text}`])
              )
            }
          }
          assert.deepStrictEqual(culprits, [])
        }))
    }

    it.scopedLive("a PRAGMA of an attached database of whatever name sets nothing", () =>
      Effect.gen(function*() {
        const names = ["a$b", "é", "\"a\"\"b\"", "'a''b'", "`a``b`", "[a b]", "user_version$"]
        const sql = yield* makePool({
          ...(filename === undefined ? {} : { filename }),
          initialSql: names.map((name) => `attach ':memory:' as ${name}`)
        })
        yield* sql`create table t (a)`
        for (const name of names) {
          yield* Effect.exit(sql.unsafe(`pragma ${name}.query_only = 1`))
          yield* sql.unsafe(`pragma ${name}.user_version = 1`)
        }
        yield* sql`insert into t values (1)`
      }))

    it.scopedLive("EXPLAIN answers rows and runs nothing; comments and semicolons before a statement change nothing", () =>
      Effect.gen(function*() {
        const sql = yield* makePool(filename === undefined ? {} : { filename })
        yield* sql`create table t (a)`
        const texts = ["select * from t", "insert into t values (1)", "create table u (a)", "begin immediate", "vacuum"]
        for (const text of texts) {
          assert.isAbove((yield* sql.unsafe(`/* x */ ;; -- y\n explain ${text}`)).length, 0, text)
        }
        assert.include(JSON.stringify(yield* sql.unsafe("explain query plan select * from t")), "SCAN t")
        yield* sql.unsafe("; -- x\n/* y */; insert into t values (2)")
        assert.deepStrictEqual(yield* sql.unsafe("/* x; */ ; select a from t"), [{ a: 2 }])
        assert.deepStrictEqual(yield* sql`select name from sqlite_schema`, [{ name: "t" }])
      }))
  })
}

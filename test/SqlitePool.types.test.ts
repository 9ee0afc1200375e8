/** What a program without types, a configuration or a library hands over. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { SqlitePool } from "effect-avatars"
import { failure, makePool } from "./pool.js"

describe("an option of a wrong type", () => {
  const wrong: Record<string, ReadonlyArray<unknown>> = {
    filename: [undefined, null, 5, Symbol("s"), {}],
    readonly: ["yes", 1, {}],
    disableWAL: ["no", 0],
    minReaders: [2n, "2", Symbol("s"), Object.create(null)],
    maxReaders: [9n, {}],
    maxQueue: ["many"],
    prepareCacheSize: [[]],
    pragmas: [5, "foreign_keys = on", [5], [() => "a"]],
    initialSql: [{}, [Symbol("s")]],
    extensions: [5, "a.so", new Set()],
    poolName: [5, Symbol("s")],
    spanAttributes: [5, "a"],
    transformQueryNames: ["camel"],
    transformResultNames: [5]
  }
  for (const [option, values] of Object.entries(wrong)) {
    it.scopedLive(`is a typed failure that names it: ${option}`, () =>
      Effect.forEach(
        values,
        (value) =>
          Effect.map(failure(makeAnyhow({ filename: ":memory:", [option]: value })), ({ message, operation }) => {
            assert.strictEqual(operation, "connect")
            assert.match(message, new RegExp(`: ${option} is (a|true) `))
          })
      ))
  }
})

describe("a value that cannot cross to a thread", () => {
  const cyclic: Record<string, unknown> = { a: 1 }
  cyclic["itself"] = cyclic
  const transferred = new Uint8Array(8)
  structuredClone(transferred, { transfer: [transferred.buffer] })
  const refused = {
    "an object that holds itself": cyclic,
    "bytes that were transferred": transferred,
    "a proxy of a function": new Proxy(() => 1, {}),
    "a proxy of an array": new Proxy([1], {}),
    "a promise": Promise.resolve(1)
  }
  for (const [name, value] of Object.entries(refused)) {
    it.scopedLive(`is refused typed, and harms no other: ${name}`, () =>
      Effect.gen(function*() {
        const sql = yield* makePool()
        const select = (value: unknown) => sql.unsafe("select ? as a", [value])
        for (const run of [select(value), select({ a: value }), sql.withTransaction(select(value))]) {
          const [error, rows] = yield* Effect.all([failure(run), select(1)], { concurrency: "unbounded" })
          assert.strictEqual(error.reason, "SqlSyntaxError")
          assert.deepStrictEqual(rows, [{ a: 1 }])
        }
      }))
  }

  it.scopedLive("is copied where it is a proxy of values by name", () =>
    Effect.gen(function*() {
      const sql = yield* makePool()
      assert.deepStrictEqual(yield* sql.unsafe("select :a as a, :b as b", [new Proxy({ a: 1, b: "two" }, {})]), [
        { a: 1, b: "two" }
      ])
    }))
})

const makeAnyhow = (config: unknown) => Effect.scoped(makePool(config as SqlitePool.SqlitePoolConfig))

/** URLs that are opened, of files in a directory of their own and of servers that are not there. */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, FastCheck, Layer, Option } from "effect"
import { Database, DatabaseError } from "effect-avatars"
import * as path from "node:path"
import { temporaryFile } from "../layers.js"
import { trials } from "../trials.js"
import { counterexample, holds } from "./claims.js"
import { encoded, mutated, query } from "./inputs.js"
import { secret } from "./targets/urls.js"

type Open = (url: string) => Layer.Layer<SqlClient.SqlClient, unknown>

/** It opens and answers, or fails with a `DatabaseError` that does not show the password. */
const isToldOf = (open: Open) => (url: string) =>
  Effect.gen(function*() {
    const answered = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select 1 as a`.values)
    const exit = yield* Effect.exit(Effect.provide(answered, Layer.fresh(open(url))))
    if (Exit.isSuccess(exit)) {
      return assert.deepStrictEqual(exit.value, [[1]])
    }
    const error = Option.getOrUndefined(Cause.failureOption(exit.cause))
    const isTyped = error instanceof DatabaseError.DatabaseError || (error as { _tag?: string })._tag === "SqlError"
    assert.isTrue(isTyped && Cause.defects(exit.cause).length === 0, Cause.pretty(exit.cause))
    assert.notInclude(Cause.pretty(exit.cause) + JSON.stringify(exit), secret)
  })

/** Nothing leads out of the directory. */
const tail = mutated(FastCheck.tuple(encoded, query).map((parts) => parts.join(""))).filter(
  (tail) => !/\/|%2f|\\|%5c|\.\.|^\.?\?|^\.?$/i.test(tail) && tail.length < 200
)

const server = FastCheck.record({
  scheme: FastCheck.constantFrom("postgres", "mysql"),
  user: encoded,
  rest: mutated(FastCheck.tuple(encoded, query).map((parts) => parts.join(""))).filter((rest) =>
    !/host|socket|rootcert/.test(rest)
  )
}).map(({ rest, scheme, user }) => `${scheme}://${user}:${secret}@127.0.0.1:1/${rest}`)

describe("a URL", () => {
  const few = 300
  it.scopedLive("of a file opens it or is refused typed", () =>
    Effect.gen(function*() {
      const directory = encodeURIComponent(path.dirname(yield* temporaryFile()))
      const urls = tail.map((tail) => `sqlite:${directory}/${tail}`)
      yield* trials("fuzz opened files", { few: 50, many: 500 }, (seed, count) =>
        holds(
          urls,
          isToldOf((url) => Database.layer(url)),
          seed,
          count
        ))
    }))

  it.live("of a server that is not there is refused typed, without its password", () =>
    trials(
      "fuzz absent servers",
      { few, many: 10 * few },
      (seed, count) => holds(server, isToldOf((url) => Database.layer(url)), seed, count)
    ))

  it.live("of a server that is not there finds a refusal that shows the URL", () =>
    Effect.gen(function*() {
      const showing: Open = (url) =>
        Layer.catchAll(Database.layer(url), (error) => Layer.fail(Object.assign(error, { url })))
      assert.isDefined(yield* counterexample(server, isToldOf(showing), few))
    }))
})

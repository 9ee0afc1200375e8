import { SqlClient, Statement } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Layer, Option, Ref } from "effect"
import { AvatarRepository, Database } from "effect-avatars"
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { temporaryFile } from "./layers.js"

describe("1 000 000 users", () => {
  const million = Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`
      insert into users with recursive n(i) as (select 0 union all select i + 1 from n where i < 999999)
      select printf('user%07d', i), 'Name of ' || i, 'Forname of ' || i from n
    `
  })

  it.live("a page at row 900 000 is one search of the index, without a sort", () =>
    Effect.gen(function*() {
      const users = yield* AvatarRepository.AvatarRepository
      const sql = yield* SqlClient.SqlClient
      const compiled = yield* Ref.make<Option.Option<readonly [string, ReadonlyArray<unknown>]>>(Option.none())
      const page = yield* Statement.withTransformer(
        users.list({ after: "user0900000", limit: 2 }),
        (statement) => Effect.as(Ref.set(compiled, Option.some(statement.compile())), statement)
      )
      assert.deepStrictEqual(page.map((user) => Either.merge(user).login), ["user0900001", "user0900002"])
      const [text, params] = yield* Effect.flatten(Ref.get(compiled))
      const plan = yield* sql.unsafe<{ readonly detail: string }>(`explain query plan ${text}`, params)
      assert.deepStrictEqual(
        plan.map(({ detail }) => detail),
        ["SEARCH users USING INDEX sqlite_autoindex_users_1 (login>?)"]
      )
    }).pipe(
      (test) => Effect.zipRight(million, test),
      Effect.provide(Layer.provideMerge(AvatarRepository.layer, Database.layer("sqlite::memory:")))
    ))

  it.live("streaming them adds less than 100 MB to the resident memory", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile()
      yield* Effect.provide(million, Database.layer(`sqlite:${encodeURIComponent(file)}`))
      const script = new URL("./fixtures/stream-memory.mjs", import.meta.url)
      const { stdout } = yield* Effect.promise(() => promisify(execFile)(process.execPath, [script.pathname, file]))
      const { count, growth } = JSON.parse(stdout) as { readonly count: number; readonly growth: number }
      assert.strictEqual(count, 1_000_000)
      assert.isBelow(growth, 100 * 1024 * 1024)
    }).pipe(Effect.scoped), 60_000)
})

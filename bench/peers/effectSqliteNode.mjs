/**
 * `@effect/sql-sqlite-node`, Effect's own client: one synchronous connection, by the three ways of `@effect/sql` to
 * look up.
 */
import { SqlClient, SqlResolver, SqlSchema } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Effect, ManagedRuntime, Schema } from "effect"
import { Avatar } from "effect-avatars"

const open = async (file, makeLookUp) => {
  const runtime = ManagedRuntime.make(SqliteClient.layer({ filename: file }))
  const { lookUp, sql } = await runtime.runPromise(Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`PRAGMA synchronous = FULL`
    return { sql, lookUp: yield* makeLookUp(sql) }
  }))
  return {
    lookUp: (logins, concurrency) =>
      runtime.runPromise(Effect.forEach(logins, lookUp, { concurrency, batching: true })),
    create: (avatars, concurrency) =>
      runtime.runPromise(Effect.forEach(
        avatars,
        ({ forname, login, name }) => sql`insert into users ${sql.insert({ login, name, forname })}`,
        { concurrency, discard: true }
      )),
    query: (text) => runtime.runPromise(sql.unsafe(text)),
    close: () => runtime.dispose()
  }
}

export const template = (file) =>
  open(
    file,
    (sql) =>
      Effect.succeed((login) =>
        Effect.map(sql`select login, name, forname from users where login = ${login}`, ([row]) => row)
      )
  )

export const findOne = (file) =>
  open(file, (sql) => {
    const find = SqlSchema.findOne({
      Request: Schema.String,
      Result: Avatar.Avatar,
      execute: (login) => sql`select login, name, forname from users where login = ${login}`
    })
    return Effect.succeed((login) => Effect.flatten(find(login)))
  })

export const findById = (file) =>
  open(file, (sql) =>
    Effect.map(
      SqlResolver.findById("UserByLogin", {
        Id: Schema.String,
        Result: Avatar.Avatar,
        ResultId: ({ login }) => login,
        execute: (logins) => sql`select login, name, forname from users where ${sql.in("login", logins)}`
      }),
      (resolver) => (login) => Effect.flatten(resolver.execute(login))
    ))

import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Option } from "effect"
import { sizeOf } from "./model.commands.js"
import { type Db, engines } from "./model.engines.js"
import { explore } from "./model.explore.js"

/** A repository that breaks its word, and how many commands show it at most. */
interface Bug {
  readonly name: string
  readonly on: "SQLite file" | "SQLite in memory"
  readonly most: number
  readonly wrap: (db: Db) => Db
}

const bugs: ReadonlyArray<Bug> = [
  {
    name: "loses the third update or upsert after an interruption",
    on: "SQLite in memory",
    // Whether a moment is that of an interruption is for chance to say, also while it is shrunk.
    most: 10,
    wrap: ({ sql, users }) => {
      // Those of the sequence that the last interruption was in: each is to fail by itself.
      let updates = 0
      let interrupted: string | undefined
      const sequenceOf = (login: string) => login.split(".")[0]
      const watched = <A, E>(login: string, effect: Effect.Effect<A, E>) =>
        Effect.onInterrupt(effect, () =>
          Effect.sync(() => {
            updates = 0
            interrupted = sequenceOf(login)
          }))
      const counted = <E>(login: string, write: Effect.Effect<void, E>) =>
        Effect.suspend(() => sequenceOf(login) === interrupted && ++updates === 3 ? Effect.void : watched(login, write))
      return {
        sql,
        users: {
          ...users,
          getUserAvatar: (login) => watched(login, users.getUserAvatar(login)),
          findUserAvatar: (login) => watched(login, users.findUserAvatar(login)),
          upsert: (avatar) => counted(avatar.login, users.upsert(avatar)),
          update: (avatar) => counted(avatar.login, users.update(avatar))
        }
      }
    }
  },
  {
    name: "answers in a transaction with what was there before it",
    on: "SQLite file",
    most: 3,
    wrap: ({ sql, users }) => ({
      sql,
      users: {
        ...users,
        getUserAvatar: (login) =>
          Effect.mapInputContext(
            users.getUserAvatar(login),
            (context: Context.Context<never>) =>
              Context.omit(SqlClient.TransactionConnection)(
                context as Context.Context<SqlClient.TransactionConnection>
              ) as Context.Context<never>
          )
      }
    })
  },
  {
    name: "keeps what a nested transaction wrote that is rolled back",
    on: "SQLite in memory",
    most: 4,
    wrap: ({ sql, users }) => ({
      users,
      sql: Object.assign((...args: Parameters<SqlClient.SqlClient>) => sql!(...args), sql, {
        withTransaction: <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.flatMap(
            Effect.serviceOption(SqlClient.TransactionConnection),
            (outer) => Option.isSome(outer) ? effect : sql!.withTransaction(effect)
          )
      }) as SqlClient.SqlClient
    })
  }
]

describe("the model finds a repository that", () => {
  for (const { most, name, on, wrap } of bugs) {
    it.scopedLive(`${name}, by at most ${most} commands`, () =>
      Effect.gen(function*() {
        const engine = engines.find(({ name }) => name === on)!
        // Threads that die would only make it longer.
        const able = { ...engine.able, dies: false, reopens: false }
        const { found } = yield* explore({ ...engine, able }, {
          seed: 7,
          runs: 1_000,
          wrap: (db) => Effect.sync(() => wrap(db))
        })
        assert.isTrue(found.failed)
        const [program] = found.counterexample!
        assert.isAtMost(sizeOf(program), most, JSON.stringify(program))
      }))
  }
})

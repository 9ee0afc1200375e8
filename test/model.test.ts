import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Option } from "effect"
import { type Abilities, sizeOf } from "./model.commands.js"
import { type Db, engines } from "./model.engines.js"
import { explore, holds } from "./model.explore.js"

const runs = 40

describe("random commands, transactions, streams and interruptions", () => {
  for (const engine of engines) {
    it.scopedLive(`are answered on ${engine.name} as a model in memory allows, in ${runs} sequences`, (ctx) => {
      ctx.skip(engine.missing !== undefined, engine.missing)
      return holds(engine, { seed: Date.now() % 1_000_000, runs })
    })
  }
})

/** A repository that breaks its word, and how many commands show it at most. */
interface Bug {
  readonly name: string
  readonly most: number
  readonly wrap: (db: Db) => Db
}

const bugs: ReadonlyArray<Bug> = [
  {
    name: "loses the third update after an interruption",
    most: 6,
    wrap: ({ sql, users }) => {
      let updates = Number.NaN
      const watched = <A, E>(effect: Effect.Effect<A, E>) =>
        Effect.onInterrupt(effect, () => Effect.sync(() => void (updates = 0)))
      return {
        sql,
        users: {
          ...users,
          getUserAvatar: (login) => watched(users.getUserAvatar(login)),
          findUserAvatar: (login) => watched(users.findUserAvatar(login)),
          upsert: (avatar) => watched(users.upsert(avatar)),
          update: (avatar) => Effect.suspend(() => ++updates === 3 ? Effect.void : watched(users.update(avatar)))
        }
      }
    }
  },
  {
    name: "answers in a transaction with what was there before it",
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
  const file = engines[0]!
  // Threads that die by chance would only make it longer.
  const able: Abilities = { ...file.able, dies: false, reopens: false }
  for (const { most, name, wrap } of bugs) {
    it.scopedLive(`${name}, by at most ${most} commands`, () =>
      Effect.gen(function*() {
        const { found } = yield* explore({ ...file, able }, {
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

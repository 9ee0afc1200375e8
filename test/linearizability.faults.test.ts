/** Clients with a defect, which the check of linearizability has to find: a check that never fails says nothing. */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { type Avatar, type AvatarRepository, Database } from "effect-avatars"
import { Effect, type Option } from "effect"
import { repositoryOver } from "./engines.js"
import { begin, type Client, contradictions, record } from "./histories.js"
import { makePool } from "./pool.js"

type Find = AvatarRepository.Service["findUserAvatar"]

const withUsers = ({ sql, users }: Client, changed: Partial<AvatarRepository.Service>): Client => ({
  sql,
  users: { ...users, ...changed }
})

const withTransaction = (
  { sql, users }: Client,
  transaction: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, unknown, R>
): Client => ({
  sql: Object.assign((...args: [never]) => sql(...args), sql, { withTransaction: transaction }) as never,
  users
})

/** Whose lookups are answered late, as over a network. */
const distant = (client: Client): Client =>
  withUsers(client, {
    findUserAvatar: (login) => Effect.zipLeft(client.users.findUserAvatar(login), Effect.sleep(4))
  })

const planted: ReadonlyArray<readonly [defect: string, plant: (client: Client) => Client, shows?: RegExp]> = [
  ["a lookup that is served from a cache for 5 ms", (client) => {
    const cache = new Map<string, readonly [found: Option.Option<Avatar.Avatar>, at: number]>()
    const findUserAvatar: Find = (login) =>
      Effect.suspend(() => {
        const cached = cache.get(login)
        return cached !== undefined && performance.now() < cached[1] + 5
          ? Effect.succeed(cached[0])
          : Effect.tap(client.users.findUserAvatar(login), (found) => cache.set(login, [found, performance.now()]))
      })
    return withUsers(client, { findUserAvatar })
  }],
  ["a lookup that joins one which was sent before it was asked for", (client) => {
    const { users } = distant(client)
    const underWay = new Map<string, ReturnType<Find>>()
    const findUserAvatar: Find = (login) => {
      const sent = Effect.ensuring(users.findUserAvatar(login), Effect.sync(() => underWay.delete(login)))
      const send = Effect.tap(Effect.cached(sent), (joined) => underWay.set(login, joined))
      return Effect.suspend(() => underWay.get(login) ?? Effect.flatten(send))
    }
    return withUsers(client, { findUserAvatar })
  }],
  [
    "a write that is acknowledged before it is stored",
    (client) => withUsers(client, { upsert: (avatar) => Effect.asVoid(Effect.forkDaemon(client.users.upsert(avatar))) })
  ],
  ["a write that is made again after it was made", (client) =>
    withUsers(client, {
      upsert: (avatar) => Effect.zipRight(client.users.upsert(avatar), Effect.delay(client.users.upsert(avatar), 3))
    })],
  [
    "a transaction that is made again after it was committed",
    (client) =>
      withTransaction(
        client,
        (effect) => Effect.zipRight(client.sql.withTransaction(effect), client.sql.withTransaction(effect))
      )
  ],
  ["a transaction that is none", (client) => withTransaction(client, (effect) => effect)],
  [
    "a transfer of which a half is seen",
    (client) => withTransaction(client, (effect) => effect),
    /-accounts'.*[^]*read saw=.*<- cannot be$/m
  ]
]

/** Records histories until one contradicts itself so. */
const search = (plant: (client: Client) => Client, shows: RegExp, most: number) =>
  Effect.gen(function*() {
    const sql = yield* makePool()
    yield* Effect.provideService(Database.migrate, SqlClient.SqlClient, sql)
    const sound: Client = { sql, users: yield* repositoryOver(sql) }
    const client = plant(sound)
    for (let i = 0; i < most; i++) {
      yield* begin(sound, `h${i}`)
      const history = yield* record({ clients: [client], name: `h${i}`, by: "here", fibers: 16, calls: 20 })
      const found = contradictions(history).find((text) => shows.test(text))
      if (found !== undefined) {
        return found
      }
    }
    return undefined
  })

describe("the check of linearizability", () => {
  for (const [defect, plant, shows = /<- cannot be$/m] of planted) {
    it.scopedLive(`finds ${defect}`, () => Effect.map(search(plant, shows, 20), (found) => assert.isDefined(found)))
  }

  it.scopedLive("finds nothing where lookups are only answered late", () =>
    Effect.map(search(distant, /./, 10), (found) => assert.isUndefined(found)))
})

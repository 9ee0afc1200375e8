import { SqlClient } from "@effect/sql"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { AvatarRepository, Database, DatabaseError } from "effect-avatars"
import { Effect, Exit, Layer, Scope } from "effect"
import { type Cluster, makeCluster, missing } from "./cluster.js"
import { contract } from "./contract.js"
import { execute } from "./engines.js"
import { connect } from "./faults.js"
import { assertKept, show, underLoad } from "./load.js"
import { start } from "./programs.js"

const writers = 64
const readers = 64
const counters = 16

const scope = Effect.runSync(Scope.make())
let cluster: Cluster

beforeAll(async () => {
  if (missing === undefined) {
    cluster = await Effect.runPromise(Scope.extend(makeCluster, scope))
  }
})

afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

const database = Layer.unwrapScoped(
  Effect.map(Effect.suspend(() => cluster.database), (url) => Database.layer(url))
)

contract(["a Galera cluster", Layer.provide(AvatarRepository.layer, database), missing])

describe("a Galera cluster of three nodes", () => {
  it.scopedLive("has its table made by eight processes that open it at once, ten times", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(missing !== undefined, missing)
      const url = yield* cluster.database
      const numbers = Array.from({ length: 8 }, (_, i) => i)
      const processes = yield* Effect.all(numbers.map(() => start("openDatabase.mjs")))
      yield* Effect.forEach(processes, ({ line }) => line)
      for (let round = 0; round < 10; round++) {
        yield* Effect.forEach(processes, ({ say }) => say(url))
        const answers = yield* Effect.forEach(processes, ({ line }) => line)
        assert.deepStrictEqual(answers, numbers.map(() => "opened"), `round ${round}`)
        yield* execute(url, "drop table users")
      }
    }))

  it.scopedLive("of which one is killed with -9 under load, and later comes back, loses nothing", (ctx) =>
    Effect.gen(function*() {
      ctx.skip(missing !== undefined, missing)
      const url = yield* cluster.database
      const { sql, users } = yield* connect(`${url}?maxConnections=32`)
      yield* sql`create table counters (id int primary key, n int not null)`
      yield* sql`insert into counters values (0, 0), (1, 0), (2, 0), (3, 0)`
      const counted = { acknowledged: 0, unknown: 0 }
      const increment = (id: number) =>
        Database.transaction(sql`update counters set n = n + 1 where id = ${id}`).pipe(
          Effect.provideService(SqlClient.SqlClient, sql),
          Effect.mapBoth({
            onSuccess: () => counted.acknowledged++,
            onFailure: (error) => {
              const typed = error._tag === "SqlError" ? DatabaseError.fromSqlError(error) : error
              counted.unknown += typed.outcome === "unknown" ? 1 : 0
              return typed
            }
          })
        )
      const others = Array.from({ length: counters }, (_, i) => increment(i % 4))
      const dying = cluster.nodes[2]!

      const killed = yield* underLoad(users, { writers, readers, others, prefix: "killed" }, () => dying.kill)
      show("A node is killed", killed)
      const back = yield* underLoad(users, { writers, readers, others, prefix: "back" }, () => dying.start)
      show("It comes back", back)

      yield* assertKept(users, killed)
      yield* assertKept(users, back)
      // What every node has, asked past the proxy.
      for (const node of cluster.nodes) {
        const [row] = yield* execute<{ readonly n: number; readonly users: number }>(
          new URL(new URL(url).pathname, node.url).href,
          "select (select sum(n) from counters) as n, (select count(*) from users) as users"
        )
        assert.isAtLeast(Number(row!.n), counted.acknowledged)
        assert.isAtMost(Number(row!.n), counted.acknowledged + counted.unknown)
        assert.isAtLeast(row!.users, killed.acknowledged.length + back.acknowledged.length)
      }
      console.log(`Increments: ${JSON.stringify(counted)}`)
    }))
})

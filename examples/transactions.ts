/**
 * Transactions: what is done together is done whole or not at all, and is done again where it lost against another transaction. The repository's
 * methods and statements of one's own share the transaction.
 *
 * Prints
 *
 *     swapped: ada is now Hopper, grace is now Lovelace
 *     failed: No user has the login 'nobody'.
 *     after it: ada is still Hopper
 *     counted 100 of 100
 */
import { SqlClient } from "@effect/sql"
import { Console, Effect, Layer } from "effect"
import { Avatar, AvatarRepository, Database } from "effect-avatars"

const login = (text: string) => Avatar.Login.make(text)
const nameOf = (text: string) =>
  Effect.flatMap(
    AvatarRepository.AvatarRepository,
    (users) => Effect.map(users.getUserAvatar(login(text)), ({ name }) => name)
  )

/** `Database.transaction` may run this several times: it does nothing but statements. */
const swapNames = (one: string, other: string) =>
  Database.transaction(Effect.gen(function*() {
    const users = yield* AvatarRepository.AvatarRepository
    const first = yield* users.getUserAvatar(login(one))
    yield* users.update(Avatar.Avatar.make({ ...first, name: yield* nameOf(other) }))
    const second = yield* users.getUserAvatar(login(other))
    yield* users.update(Avatar.Avatar.make({ ...second, name: first.name }))
  }))

const program = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const users = yield* AvatarRepository.AvatarRepository
  yield* users.create(Avatar.Avatar.make({ login: login("ada"), name: "Lovelace", forname: "Ada" }))
  yield* users.create(Avatar.Avatar.make({ login: login("grace"), name: "Hopper", forname: "Grace" }))

  yield* swapNames("ada", "grace")
  yield* Console.log(`swapped: ada is now ${yield* nameOf("ada")}, grace is now ${yield* nameOf("grace")}`)

  // The first update is rolled back when the second user is not there.
  yield* Effect.catchTag(swapNames("ada", "nobody"), "UserNotFound", (error) => Console.log(`failed: ${error.message}`))
  yield* Console.log(`after it: ada is still ${yield* nameOf("ada")}`)

  // A hundred fibers read and write the same row: none is lost.
  yield* sql`create table visits (n integer not null)`
  yield* sql`insert into visits values (0)`
  const visit = Database.transaction(Effect.gen(function*() {
    const [row] = yield* sql<{ readonly n: number }>`select n from visits`
    yield* sql`update visits set n = ${row!.n + 1}`
  }))
  yield* Effect.replicateEffect(visit, 100, { concurrency: "unbounded", discard: true })
  const [row] = yield* sql<{ readonly n: number }>`select n from visits`
  yield* Console.log(`counted ${row!.n} of 100`)
})

const Users = Layer.provideMerge(AvatarRepository.layer, Database.layer("sqlite::memory:"))

await Effect.runPromise(Effect.provide(program, Users))

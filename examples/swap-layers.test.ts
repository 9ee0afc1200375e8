/**
 * One program, three databases: in a test the layer is swapped, and nothing else changes. Run by vitest with @effect/vitest.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Avatar, AvatarRepository, Database, DatabaseError } from "effect-avatars"

const yoen = Avatar.Avatar.make({ login: Avatar.Login.make("yoen"), name: "Van der Veld", forname: "Yoen" })

/** What is tested: it answers a line for each user, whatever becomes of the database. */
const lineOf = (login: Avatar.Login) =>
  Effect.gen(function*() {
    const users = yield* AvatarRepository.AvatarRepository
    return (yield* users.getUserAvatar(login)).render()
  }).pipe(Effect.catchAll((error) => Effect.succeed(error.message)))

const seeded = Layer.effectDiscard(Effect.flatMap(AvatarRepository.AvatarRepository, ({ create }) => create(yoen)))

for (
  const [name, Users] of [
    ["memory", AvatarRepository.layerMemory([yoen])],
    [
      "SQLite",
      Layer.provideMerge(seeded, Layer.provide(AvatarRepository.layer, Database.layer("sqlite::memory:")))
    ]
  ] as const
) {
  layer(Users)(`over ${name}`, (it) => {
    it.effect("a user is a line", () =>
      Effect.map(
        lineOf(yoen.login),
        (line) => assert.strictEqual(line, "Mr 'Yoen Van der Veld' is connected under 'yoen'")
      ))

    it.effect("nobody is a sentence", () =>
      Effect.map(
        lineOf(Avatar.Login.make("nobody")),
        (line) => assert.strictEqual(line, "No user has the login 'nobody'.")
      ))
  })
}

describe("where the database is down", () => {
  // Only what the test needs: any other method would die, naming itself.
  const Broken = Layer.mock(AvatarRepository.AvatarRepository, {
    getUserAvatar: () =>
      new DatabaseError.DatabaseError({
        reason: "ConnectionError",
        operation: "acquireConnection",
        message: "The database is not there."
      })
  })

  it.effect("a user is a sentence", () =>
    Effect.map(
      Effect.provide(lineOf(yoen.login), Broken),
      (line) => assert.strictEqual(line, "The database is not there.")
    ))
})

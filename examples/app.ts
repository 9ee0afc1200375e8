/**
 * An app over the repository: a service of its own that needs `AvatarRepository`, composed with a database at the edge.
 *
 * Prints
 *
 *     Welcome back, Yoen! Welcome back, Estebán! Who is nobody?
 */
import { Console, Context, Effect, Layer } from "effect"
import { Avatar, AvatarRepository, Database } from "effect-avatars"

/** Knows only the repository's interface: which database there is, is chosen below. */
class Greeter extends Context.Tag("app/Greeter")<Greeter, {
  readonly greet: (login: string) => Effect.Effect<string, AvatarRepository.MalformedUser>
}>() {
  static readonly layer = Layer.effect(
    Greeter,
    Effect.map(AvatarRepository.AvatarRepository, (users) => ({
      greet: (login) =>
        users.getUserAvatar(Avatar.Login.make(login)).pipe(
          Effect.map(({ forname }) => `Welcome back, ${forname}!`),
          Effect.catchTags({
            UserNotFound: (error) => Effect.succeed(`Who is ${error.login}?`),
            // What the database does on a bad day concerns the operators, not the guest.
            DatabaseError: (error) => Effect.as(Effect.logError(error.reason, error.message), "Welcome!")
          })
        )
    }))
  )
}

const program = Effect.gen(function*() {
  const { greet } = yield* Greeter
  const greetings = yield* Effect.forEach(["yoen", "esteban", "nobody"], greet, { concurrency: 16 })
  yield* Console.log(greetings.join(" "))
})

/** Two users, for this example alone. */
const Seed = Layer.effectDiscard(Effect.gen(function*() {
  const users = yield* AvatarRepository.AvatarRepository
  yield* users.upsert(Avatar.Avatar.make({ login: Avatar.Login.make("yoen"), name: "Van der Veld", forname: "Yoen" }))
  yield* users.upsert(
    Avatar.Avatar.make({ login: Avatar.Login.make("esteban"), name: "Garcia Marquez", forname: "Estebán" })
  )
}))

// Constants: each is built once, whoever asks for it.
const Users = Layer.provide(AvatarRepository.layer, Database.layer("sqlite::memory:"))
const App = Greeter.layer.pipe(Layer.provide(Seed), Layer.provide(Users))

await Effect.runPromise(Effect.provide(program, App))

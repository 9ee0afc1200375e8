/**
 * The program: looks avatars up, several at once, and prints a line for each.
 *
 *     npm start                                                         the original's three users, in a temporary database
 *     npm start -- --database sqlite:./users.sqlite yoen nobody         users of one's own; or DATABASE_URL=sqlite:./users.sqlite
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as FileSystem from "@effect/platform/FileSystem"
import { defaultTeardown } from "@effect/platform/Runtime"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { parseArgs } from "node:util"
import { Avatar, Login } from "./Avatar.js"
import * as AvatarRepository from "./AvatarRepository.js"
import * as Database from "./Database.js"

const users = [
  Avatar.make({ login: Login.make("yoen"), name: "Van der Veld", forname: "Yoen" }),
  Avatar.make({ login: Login.make("esteban"), name: "Garcia Marquez", forname: "Estebán" }),
  Avatar.make({ login: Login.make("mohamed"), name: "Al Ghâlib", forname: "Mohamed" })
]

const lookUp = Effect.fn(function*(logins: ReadonlyArray<string>) {
  const avatars = yield* AvatarRepository.AvatarRepository
  const answers = yield* Effect.forEach(
    logins,
    (text) =>
      Schema.decode(Login)(text).pipe(
        Effect.mapError(({ message }) => ({ message: `${JSON.stringify(text)} is no login: ${message}` })),
        Effect.flatMap(avatars.getUserAvatar),
        Effect.either
      ),
    { concurrency: 16 }
  )
  yield* Effect.forEach(
    answers,
    Either.match({ onLeft: fail, onRight: (avatar) => Console.log(printable(avatar.render())) }),
    { discard: true }
  )
})

const demonstration = Layer.unwrapScoped(Effect.gen(function*() {
  const directory = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped({ prefix: "effect-avatars-" })
  const seed = Effect.flatMap(
    AvatarRepository.AvatarRepository,
    ({ create }) => Effect.forEach(users, create, { concurrency: "unbounded" })
  )
  return Layer.effectDiscard(seed).pipe(
    Layer.provideMerge(AvatarRepository.layer),
    // Three users need one thread, and what is removed at the end need not survive the loss of power.
    Layer.provide(
      Database.layer(`sqlite:${encodeURIComponent(directory)}/users.sqlite?disableWAL=true&synchronous=off`)
    )
  )
}))

const program = Effect.gen(function*() {
  const { positionals: logins, values: { database } } = yield* Effect.try({
    try: () => parseArgs({ options: { database: { type: "string" } }, allowPositionals: true }),
    catch: (error) => ({ message: (error as Error).message })
  })
  const url = yield* database === undefined
    ? Config.option(Config.redacted("DATABASE_URL"))
    : Effect.succeedSome(Redacted.make(database))
  if (logins.length === 0 && database === undefined) {
    yield* Effect.provide(lookUp(users.map(({ login }) => login)), demonstration)
  } else if (database !== undefined && hasPassword.test(database)) {
    yield* fail({ message: "A password in --database is shown to everybody by `ps`: give the URL in DATABASE_URL." })
  } else if (logins.length === 0) {
    yield* fail({
      message: "Name the logins to look up, for example: npm start -- --database sqlite:./users.sqlite yoen"
    })
  } else if (Option.isNone(url)) {
    yield* Console.error("No database was named by --database or DATABASE_URL: these are the demonstration's users.")
    yield* Effect.provide(lookUp(logins), demonstration)
  } else {
    const database = Database.layer(url.value, { readonly: true })
    yield* Effect.provide(lookUp(logins), Layer.provide(AvatarRepository.layer, database))
  }
}).pipe(Effect.catchAll((error) => fail(error)), Effect.provide(NodeFileSystem.layer))

/** Also one in what is no URL: any ':' but a scheme's and a port's, and an '@' after it. */
const hasPassword = /^(?!sqlite:)[^]*:(?!\/\/|\d*[/?])[^]*@/i

/** What a database holds might otherwise forge a line, or command the terminal. */
const printable = (text: string) => text.replace(/\p{Cc}/gu, "\uFFFD")

/** One sentence on stderr; the rest goes on, and the process ends with 1. */
const fail = (error: { readonly message: string }) =>
  Effect.zipRight(Console.error(printable(error.message)), Effect.sync(() => void (process.exitCode = 1)))

NodeRuntime.runMain(program, {
  teardown: (exit, onExit) => Exit.isInterrupted(exit) ? onExit(130) : defaultTeardown(exit, onExit)
})

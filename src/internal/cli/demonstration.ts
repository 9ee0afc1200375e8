/** The original's three users, in a temporary database that goes with the scope. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Avatar, Login } from "../../Avatar.js"
import * as AvatarRepository from "../../AvatarRepository.js"
import * as Database from "../../Database.js"
import type { DatabaseError } from "../../DatabaseError.js"

export const users = [
  Avatar.make({ login: Login.make("yoen"), name: "Van der Veld", forname: "Yoen" }),
  Avatar.make({ login: Login.make("esteban"), name: "Garcia Marquez", forname: "Estebán" }),
  Avatar.make({ login: Login.make("mohamed"), name: "Al Ghâlib", forname: "Mohamed" })
]

export const demonstration: Layer.Layer<
  AvatarRepository.AvatarRepository,
  AvatarRepository.LoginTaken | DatabaseError | PlatformError
> = Layer.unwrapScoped(Effect.gen(function*() {
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
})).pipe(Layer.provide(NodeFileSystem.layer))

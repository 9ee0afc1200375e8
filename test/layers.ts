/**
 * The databases that the suites run on, by name: each a layer of the repository and, where there is one, of its `SqlClient`.
 * Each build of a layer begins with an empty table.
 */
import { FileSystem } from "@effect/platform"
import { NodeFileSystem } from "@effect/platform-node"
import type { SqlClient } from "@effect/sql"
import { AvatarRepository, Database } from "effect-avatars"
import type { DatabaseError } from "effect-avatars"
import { Effect, Layer } from "effect"

/** A path in a directory of its own, which goes with the scope. */
export const temporaryFile = (name = "users.sqlite") =>
  Effect.gen(function*() {
    const directory = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()
    return `${directory}/${name}`
  }).pipe(Effect.provide(NodeFileSystem.layer), Effect.orDie)

const sqliteFile = Layer.unwrapScoped(
  Effect.map(temporaryFile(), (file) => Database.layer(`sqlite:${encodeURIComponent(file)}`))
)

/** The databases with transactions. */
export const databases: ReadonlyArray<
  readonly [name: string, layer: Layer.Layer<SqlClient.SqlClient, DatabaseError.DatabaseError>]
> = [
  ["SQLite file", sqliteFile],
  ["SQLite in memory", Database.layer("sqlite::memory:")]
]

export const repositories: ReadonlyArray<
  readonly [name: string, layer: Layer.Layer<AvatarRepository.AvatarRepository, DatabaseError.DatabaseError>]
> = [
  ["memory", AvatarRepository.layerMemory()],
  ...databases.map(([name, database]) => [name, Layer.provide(AvatarRepository.layer, database)] as const)
]

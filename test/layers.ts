/**
 * The databases that the suites run on, by name: each a layer of the repository and, where there is one, of its `SqlClient`.
 * Each build of a layer begins with an empty table.
 */
import { FileSystem } from "@effect/platform"
import { NodeFileSystem } from "@effect/platform-node"
import { SqlClient } from "@effect/sql"
import { AvatarRepository, Database } from "effect-avatars"
import type { DatabaseError } from "effect-avatars"
import { Effect, Layer } from "effect"
import { servers, temporaryDatabase } from "./servers.js"

/** A path in a directory of its own, which goes with the scope. */
export const temporaryFile = (name = "users.sqlite") =>
  Effect.gen(function*() {
    const directory = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()
    return `${directory}/${name}`
  }).pipe(Effect.provide(NodeFileSystem.layer), Effect.orDie)

const sqliteFile = Layer.unwrapScoped(
  Effect.map(temporaryFile(), (file) => Database.layer(`sqlite:${encodeURIComponent(file)}`))
)

export type Named<A> = readonly [
  name: string,
  layer: Layer.Layer<A, DatabaseError.DatabaseError>,
  /** Why it cannot be tested here. */
  missing?: string | undefined
]

/** The databases with transactions. */
export const databases: ReadonlyArray<Named<SqlClient.SqlClient>> = [
  ["SQLite file", sqliteFile],
  ["SQLite in memory", Database.layer("sqlite::memory:")],
  ...servers.map((server): Named<SqlClient.SqlClient> => [
    server.name,
    Layer.unwrapScoped(Effect.map(temporaryDatabase(server), (url) => Database.layer(url))),
    server.missing
  ])
]

export const repositories: ReadonlyArray<Named<AvatarRepository.AvatarRepository>> = [
  ["memory", AvatarRepository.layerMemory()],
  ...databases.map(([name, database, missing]): Named<AvatarRepository.AvatarRepository> => [
    name,
    Layer.provide(AvatarRepository.layer, database),
    missing
  ]),
  ...servers.map((server): Named<AvatarRepository.AvatarRepository> => [
    `${server.name} by the stock client`,
    Layer.unwrapScoped(
      Effect.map(
        temporaryDatabase(server),
        (url) =>
          Layer.provideMerge(AvatarRepository.layer, Layer.effectDiscard(Database.migrate)).pipe(
            Layer.provide(Layer.scoped(SqlClient.SqlClient, server.adminOf(url)))
          )
      )
    ),
    server.missing
  ])
]

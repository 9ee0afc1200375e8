/**
 * A streaming export: all users as a file of JSON lines, in constant memory however many there are. One malformed row hides no other.
 *
 * Prints
 *
 *     1 of 10001 is no avatar: The user 'user05000x' is malformed: its name is NULL.
 *     {"login":"user00000","name":"Name 0","forname":"Forname 0"}
 *     10000 lines
 */
import { FileSystem } from "@effect/platform"
import { NodeFileSystem } from "@effect/platform-node"
import { SqlClient } from "@effect/sql"
import { Chunk, Console, Effect, Either, Layer, Stream } from "effect"
import { AvatarRepository, Database } from "effect-avatars"

const exportTo = Effect.fn(function*(file: string) {
  const users = yield* AvatarRepository.AvatarRepository
  const { sink } = yield* FileSystem.FileSystem
  const total = yield* users.count
  yield* users.stream.pipe(
    Stream.tap(Either.match({
      onLeft: (malformed) => Console.log(`1 of ${total} is no avatar: ${malformed.message}`),
      onRight: () => Effect.void
    })),
    Stream.filterMap(Either.getRight),
    Stream.map(({ forname, login, name }) => `${JSON.stringify({ login, name, forname })}\n`),
    // A write a page.
    Stream.chunks,
    Stream.map(Chunk.join("")),
    Stream.filter((text) => text !== ""),
    Stream.encodeText,
    Stream.run(sink(file))
  )
})

const program = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const files = yield* FileSystem.FileSystem
  yield* sql`
    insert into users with recursive n(i) as (select 0 union all select i + 1 from n where i < 9999)
    select printf('user%05d', i), 'Name ' || i, 'Forname ' || i from n
  `
  const file = yield* files.makeTempFileScoped()
  yield* exportTo(file)
  const lines = (yield* files.readFileString(file)).trimEnd().split("\n")
  yield* Console.log(lines[0])
  yield* Console.log(`${lines.length} lines`)
}).pipe(Effect.scoped)

/** As tables of older programs are, it lets a name be NULL. */
const Old = Layer.effectDiscard(Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.all([
    sql`drop table users`,
    sql`create table users (login text unique, name text, forname text)`,
    sql`insert into users values ('user05000x', null, 'x')`
  ])))

const Users = AvatarRepository.layer.pipe(
  Layer.provideMerge(Old),
  Layer.provideMerge(Database.layer("sqlite::memory:")),
  Layer.merge(NodeFileSystem.layer)
)

await Effect.runPromise(Effect.provide(program, Users))

import { assert, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect, Layer, Stream } from "effect"
import { AvatarRepository, Database, DatabaseError } from "effect-avatars"
import * as fs from "node:fs"
import { temporaryFile } from "./layers.js"

const pageSize = 512

/** Users whose index has, where the page of the login stands, the page of the first logins once more. */
const makeLoop = (file: string, login: string) => {
  const db = new Sqlite(file)
  db.exec(`
    pragma page_size = ${pageSize};
    create table users (login text not null primary key, name text not null, forname text not null);
    with recursive n(i) as (select 0 union all select i + 1 from n where i < 3399)
    insert into users select printf('user%05d', i), '', '' from n;
  `)
  db.close()
  const bytes = fs.readFileSync(file)
  const indexLeaf = 10
  const leafOf = (login: string) => {
    for (let start = pageSize; start < bytes.length; start += pageSize) {
      if (bytes[start] === indexLeaf && bytes.subarray(start, start + pageSize).includes(login)) {
        return start
      }
    }
    throw new Error(`${login} is not in a leaf`)
  }
  const first = leafOf("user00001")
  bytes.copy(bytes, leafOf(login), first, first + pageSize)
  fs.writeFileSync(file, bytes)
}

it.scopedLive("a stream over a damaged index that leads back ends, and fails typed", () =>
  Effect.gen(function*() {
    const file = yield* temporaryFile()
    makeLoop(file, "user01999")
    const users = yield* Effect.provide(
      AvatarRepository.AvatarRepository,
      yield* Layer.build(Layer.provide(AvatarRepository.layer, Database.layer(`sqlite:${encodeURIComponent(file)}`)))
    )
    let count = 0
    const seen = Stream.runForEach(users.stream, () => Effect.sync(() => void count++))
    const error = yield* Effect.flip(seen)
    assert.instanceOf(error, DatabaseError.DatabaseError)
    assert.match(error.message, /^The database answered users out of their order: .*\?$/)
    assert.strictEqual(count, 1_000)
  }))

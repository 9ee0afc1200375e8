import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Context, Effect, Either, Layer, Stream } from "effect"
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

const open = (file: string) =>
  Effect.map(
    Layer.build(Layer.provide(AvatarRepository.layer, Database.layer(`sqlite:${encodeURIComponent(file)}`))),
    (context) => Context.get(context, AvatarRepository.AvatarRepository)
  )

describe("an index that leads back", () => {
  // One that repeats what is on the same page, and one that repeats an earlier page.
  for (const login of ["user01500", "user01999"]) {
    it.scopedLive(`at ${login} fails the stream that comes there, and that page, typed`, () =>
      Effect.gen(function*() {
        const file = yield* temporaryFile()
        makeLoop(file, login)
        const users = yield* open(file)
        let count = 0
        const stream = Stream.runForEach(users.stream, () => Effect.sync(() => void count++))
        for (const call of [stream, users.list({ after: "user01400", limit: 1_000 })]) {
          const error = yield* Effect.flip<unknown, unknown, never>(call)
          assert.instanceOf(error, DatabaseError.DatabaseError)
          assert.match(error.message, /^The database answered users out of their order: .*\.$/)
        }
        assert.strictEqual(count, 1_000)
        assert.lengthOf(yield* users.list({ after: "user02100", limit: 1_000 }), 1_000)
      }))
  }
})

it.scopedLive("a database in another encoding than UTF-8 is listed and streamed as a whole, in its own order", () =>
  Effect.gen(function*() {
    const file = yield* temporaryFile()
    const db = new Sqlite(file)
    db.exec("pragma encoding = 'UTF-16le'; create table users (login text unique, name text, forname text)")
    const logins = Array.from({ length: 2_500 }, (_, i) => String.fromCodePoint(0x100 + 3 * i))
    const insert = db.prepare("insert into users values (?, '', '')")
    db.transaction(() => logins.forEach((login) => insert.run(login)))()
    db.close()
    const users = yield* open(file)
    const loginsOf = Stream.map(users.stream, (avatar) => Either.merge(avatar).login)
    assert.sameMembers(Array.from(yield* Stream.runCollect(loginsOf)), logins)
    assert.lengthOf(yield* users.list({ limit: 2_500 }), 2_500)
  }))

/** Logins that are asked for at once are told apart as exactly as one alone is, whatever they hold and whatever the table is. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Layer, Schema } from "effect"
import { Avatar, AvatarRepository } from "effect-avatars"
import * as fs from "node:fs/promises"
import { temporaryFile } from "./layers.js"
import { ask, avatar, claimOn, clients, concurrently, did, legacyTable, login, nameIn, numbers } from "./lookups.js"

const special = [
  ..."%_'\"\\/`?*[]{}()<>,;:.=+-~ \u00a0\u2028\u2029\u200b\u200d\u00ad\ufeff\ufffd\ufffe\uffff\ue000\u0301",
  ..."[]|{}|[\"a\"]|{\"a\":1}|null|true|\"\"|\\u0041|\\\"|\\\\|\\n|$1|?1|:a|@a|%s|${a}|a'; drop table users; --|/*|--|%%"
    .split("|"),
  ..."1|01|1.0|1e0|0x1|-1|+1|1 | 1|9007199254740993|9223372036854775808|NaN|Infinity|1n".split("|"),
  ..."a|A|a |aa|á|a\u0301|ß|ss|ẞ|ı|i|İ|I|ﬁ|fi|Å|\u212b|K|\u212a".split("|"),
  ..."\u{1f469}|\u{1f469}\u200d\u{1f469}\u200d\u{1f467}|\u{10ffff}|\u{10000}|\u{1d49c}|漢|～|محمد".split("|"),
  "__proto__",
  "constructor",
  "x".repeat(255),
  "\u{1f469}".repeat(255)
].filter((text, i, all) => all.indexOf(text) === i)

/** A code point in every 211, none of which is a surrogate or a control character. */
const allOfUnicode = numbers(0x110000 / 211).map((i) => i * 211).filter((point) =>
  !(point >= 0xd800 && point <= 0xdfff)
)
  .map(
    (point) => String.fromCodePoint(point)
  ).filter(Avatar.isLogin)

const expected = Schema.decodeUnknownSync(Schema.parseJson(Schema.Struct({
  avatars: Schema.Record({ key: Schema.String, value: Schema.Struct({ ...Avatar.Avatar.fields }) }),
  malformed: Schema.Array(Schema.String),
  absent: Schema.Array(Schema.String)
})))(await fs.readFile(new URL("./fixtures/legacy.expected.json", import.meta.url), "utf8"))

for (const client of clients) {
  const claim = claimOn(client)

  describe(`logins at once on ${client.name}`, () => {
    claim("with metacharacters of every kind are created and looked up exactly", function*({ users }) {
      const here = special.filter((_, i) => i % 2 === 0)
      const created = yield* concurrently(here, (text) => did(users.create(avatar(text))))
      assert.deepStrictEqual(new Set(created), new Set(["done"]))
      const expected = special.map((text, i) => i % 2 === 0 ? `Name of ${text}` : "UserNotFound")
      assert.deepStrictEqual(yield* concurrently(special, (text) => ask(users, text)), expected)
      const found = yield* users.getUserAvatars(special.map((text) => login(text)))
      assert.deepStrictEqual(special.map((text) => nameIn(found, text) ?? "UserNotFound"), expected)
      yield* concurrently(special, (text) => users.upsert(avatar(text, "other")))
      assert.deepStrictEqual(yield* concurrently(special, (text) => ask(users, text)), special.map(() => "other"))
    })

    claim("of all of Unicode are created and looked up exactly", function*({ users }) {
      assert.isAbove(allOfUnicode.length, 5_000)
      const created = yield* concurrently(allOfUnicode, (text) => did(users.create(avatar(text))))
      assert.deepStrictEqual(new Set(created), new Set(["done"]))
      const answers = yield* concurrently(allOfUnicode, (text) => ask(users, text))
      assert.isTrue(answers.every((answer, i) => answer === `Name of ${allOfUnicode[i]}`))
      const found = yield* users.getUserAvatars(allOfUnicode.map((text) => login(text)))
      assert.isTrue(Array.from(found.keys()).every((text, i) => text === allOfUnicode[i]))
      assert.strictEqual(found.size, allOfUnicode.length)
    })

    claim("that were forced to be logins are UserNotFound, and harm no other", function*({ users }) {
      yield* users.create(avatar("yoen"))
      yield* users.create(avatar("\ufffd"))
      const forced = ["", "\ud800", "yoen\u0000", "\u0000", "yoen\ud800", "x".repeat(1_000_000), "tab\t"]
      const asked = numbers(100).map((i) =>
        i % 4 === 0 ? forced[(i / 4) % forced.length]! : i % 4 === 1 ? "\ufffd" : "yoen"
      )
      assert.deepStrictEqual(
        yield* concurrently(asked, (text) => ask(users, text)),
        asked.map((text) => forced.includes(text) ? "UserNotFound" : `Name of ${text}`)
      )
      const found = yield* users.getUserAvatars(asked.map((text) => text as Avatar.Login))
      assert.deepStrictEqual(Array.from(found.keys()), [login("\ufffd"), login("yoen")])
    })
  })

  if (client.isFile) {
    it.scopedLive(`a database of the original, after years of use, is answered at once as expected, on ${client.name}`, () =>
      Effect.gen(function*() {
        const file = yield* temporaryFile()
        yield* Effect.promise(() => fs.copyFile(new URL("./fixtures/legacy.sqlite", import.meta.url), file))
        const users = yield* Effect.map(
          Layer.build(Layer.provide(AvatarRepository.layer, client.open(file))),
          (context) => context.unsafeMap.get(AvatarRepository.AvatarRepository.key) as AvatarRepository.Service
        )
        const once = [...Object.keys(expected.avatars), ...expected.malformed, ...expected.absent]
        const asked = numbers(3).flatMap(() => once)
        const answers = yield* concurrently(asked, (text) => Effect.either(users.getUserAvatar(login(text))))
        answers.forEach((answer, i) => {
          const fields = expected.avatars[asked[i]!]
          assert.deepStrictEqual(
            Either.match(answer, { onLeft: ({ _tag }) => _tag as unknown, onRight: (avatar) => avatar }),
            fields !== undefined
              ? new Avatar.Avatar(fields)
              : expected.malformed.includes(asked[i]!)
              ? "MalformedUser"
              : "UserNotFound"
          )
        })
      }))
  }
}

// The kinds of columns that only SQLite has.
for (const client of clients.filter(({ isSqlite }) => isSqlite)) {
  const claim = claimOn(client)

  describe(`a table that somebody else made, on ${client.name},`, () => {
    for (const collation of ["nocase", "rtrim"]) {
      claim(
        `with a login of collation ${collation} answers each of those that it takes for equal`,
        function*({ sql, users }) {
          yield* legacyTable(sql, `login text collate ${collation}`)
          yield* sql`create unique index exact on users (login collate binary)`
          const [here, absent] = collation === "nocase"
            ? [["yoen", "YOEN"], ["Yoen"]]
            : [["yoen", "yoen "], ["yoen  "]]
          yield* concurrently(here!, (text) => sql`insert into users values (${text}, ${`Name of ${text}`}, '')`)
          const asked = numbers(60).map((i) => [...here!, ...absent!][i % 3]!)
          const expected = asked.map((text) => here!.includes(text) ? `Name of ${text}` : "UserNotFound")
          assert.deepStrictEqual(yield* concurrently(asked, (text) => ask(users, text)), expected)
          const found = yield* users.getUserAvatars(asked.map((text) => login(text)))
          assert.deepStrictEqual(Array.from(found.keys()), here!.map((text) => login(text)))
          assert.deepStrictEqual(asked.map((text) => nameIn(found, text) ?? "UserNotFound"), expected)
        }
      )
    }

    for (
      const [affinity, isText] of [["text", true], ["", true], ["blob", true], ["integer", false], ["real", false]]
    ) {
      claim(
        `with a login of affinity '${affinity}' answers those that look like numbers exactly`,
        function*({ sql, users }) {
          yield* legacyTable(sql, `login ${affinity} unique`)
          for (const text of ["7", "010", "1e2", "yoen"]) {
            yield* sql`insert into users values (${text}, ${`Name of ${text}`}, '')`
          }
          const asked = ["7", "07", "7.0", "010", "10", "10.0", "1e2", "100", "100.0", "yoen", "0"]
          const here = isText ? ["7", "010", "1e2", "yoen"] : ["yoen"]
          const expected = asked.map((text) => here.includes(text) ? `Name of ${text}` : "UserNotFound")
          assert.deepStrictEqual(yield* concurrently(asked, (text) => ask(users, text)), expected)
          const found = yield* users.getUserAvatars(asked.map((text) => login(text)))
          assert.deepStrictEqual(asked.map((text) => nameIn(found, text) ?? "UserNotFound"), expected)
        }
      )
    }

    claim("with logins that are no text or not UTF-8 gives nobody another's row", function*({ sql, users }) {
      yield* legacyTable(sql, "login unique")
      yield* sql`insert into users values (cast(x'61ff' as text), 'bad', ''), (x'62', 'blob', ''), (7, 'number', ''),
        (null, 'null', ''), (null, 'null', ''), ('c', 'Name of c', '')`
      const asked = ["a\ufffd", "b", "7", "7.0", "null", "c", "a"]
      const expected = asked.map((text) => text === "c" ? "Name of c" : "UserNotFound")
      assert.deepStrictEqual(yield* concurrently(asked, (text) => ask(users, text)), expected)
      yield* sql`insert into users values (${"a\ufffd"}, 'good', '')`
      assert.deepStrictEqual(yield* concurrently(["a\ufffd", "c"], (text) => ask(users, text)), ["good", "Name of c"])
    })

    claim("with columns in another case and with further ones answers its users", function*({ sql, users }) {
      yield* sql`drop table users`
      yield* sql`create table users (id integer primary key, "LOGIN" text unique, "Name" text, forname text, value, key)`
      yield* sql`insert into users values (1, 'a', 'Name of a', '', 'v', 'k'), (2, 'b', 'Name of b', '', 'v', 'k')`
      assert.deepStrictEqual(yield* concurrently(["a", "b", "c"], (text) => ask(users, text)), [
        "Name of a",
        "Name of b",
        "UserNotFound"
      ])
    })
  })
}

/** What every repository promises, whatever it is on. */
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Either, FastCheck, Layer, Option, Schema, Stream } from "effect"
import { Avatar, AvatarRepository } from "effect-avatars"
import type { Named } from "./layers.js"

const login = Avatar.Login.make
const avatar = (name: string, suffix = "") =>
  new Avatar.Avatar({ login: login(name), name: `Name of ${name}${suffix}`, forname: `Forname of ${name}${suffix}` })

const { AvatarRepository: Repository } = AvatarRepository

/** Greek and Han are in the basic plane, U+FF5E above the surrogates in UTF-16, 👩 above them in code points. */
const inCodePointOrder = ["'", "A", "Z", "a", "a ", "aa", "a\u0301", "z", "é", "λ", "漢", "～", "👩", "👩‍👩‍👧"]

export const contract = ([name, layer, missing]: Named<AvatarRepository.AvatarRepository>): void => {
  /** Each test has users of its own. */
  const claim = (
    text: string,
    effect: Effect.Effect<void, unknown, AvatarRepository.AvatarRepository>
  ) =>
    it.live(text, (context) => {
      context.skip(missing !== undefined, missing)
      return Effect.provide(effect, Layer.fresh(layer))
    })

  describe(`AvatarRepository on ${name}`, () => {
    claim(
      "a created avatar is found as it was, by value",
      Effect.gen(function*() {
        const users = yield* Repository
        yield* users.create(avatar("yoen"))
        assert.deepStrictEqual(yield* users.getUserAvatar(login("yoen")), avatar("yoen"))
        assert.deepStrictEqual(yield* users.findUserAvatar(login("yoen")), Option.some(avatar("yoen")))
        assert.instanceOf(yield* users.getUserAvatar(login("yoen")), Avatar.Avatar)
      })
    )

    claim(
      "an absent login is UserNotFound, None, or absent from the map",
      Effect.gen(function*() {
        const users = yield* Repository
        yield* users.create(avatar("yoen"))
        const error = yield* Effect.flip(users.getUserAvatar(login("nobody")))
        assert.deepStrictEqual([error._tag, error._tag === "UserNotFound" && error.login], ["UserNotFound", "nobody"])
        assert.strictEqual(error.message, "No user has the login 'nobody'.")
        assert.deepStrictEqual(yield* users.findUserAvatar(login("nobody")), Option.none())
        assert.deepStrictEqual(Array.from(yield* users.getUserAvatars([login("nobody")])), [])
      })
    )

    claim(
      "a bulk lookup answers each login once, in the order asked, without the absent ones",
      Effect.gen(function*() {
        const users = yield* Repository
        yield* Effect.forEach(["a", "b", "c"], (name) => users.create(avatar(name)))
        const found = yield* users.getUserAvatars(["c", "x", "a", "c", "b"].map((text) => login(text)))
        assert.deepStrictEqual(
          Array.from(found.entries()) as ReadonlyArray<unknown>,
          ["c", "a", "b"].map((name) => [login(name), Either.right(avatar(name))])
        )
        assert.deepStrictEqual(Array.from(yield* users.getUserAvatars([])), [])
      })
    )

    claim(
      "2 000 logins in one bulk lookup are all answered",
      Effect.gen(function*() {
        const users = yield* Repository
        const names = Array.from({ length: 2_000 }, (_, i) => `user${i}`)
        yield* Effect.forEach(names.slice(0, 1_000), (name) => users.create(avatar(name)))
        const found = yield* users.getUserAvatars(names.map((text) => login(text)))
        assert.deepStrictEqual(Array.from(found.keys()), names.slice(0, 1_000).map((text) => login(text)))
      })
    )

    claim(
      "logins that differ by case, accent, normal form or trailing space are different users",
      Effect.gen(function*() {
        const users = yield* Repository
        const names = [
          "yoen",
          "Yoen",
          "yoen ",
          " yoen",
          "Jos\u00e9",
          "Jose\u0301",
          "Jose",
          "jose",
          "o'brien; --",
          "%",
          "_"
        ]
        yield* Effect.forEach(names, (name) => users.create(avatar(name)))
        assert.deepStrictEqual(
          yield* Effect.forEach(names, (name) => users.getUserAvatar(login(name))),
          names.map((name) => avatar(name))
        )
        yield* Effect.flip(users.getUserAvatar(login("YOEN")))
        yield* Effect.flip(users.getUserAvatar(login("yoen\u00a0")))
      })
    )

    claim(
      "creating a taken login is LoginTaken and changes nothing",
      Effect.gen(function*() {
        const users = yield* Repository
        yield* users.create(avatar("yoen"))
        const error = yield* Effect.flip(users.create(avatar("yoen", " again")))
        assert.deepStrictEqual([error._tag, error._tag === "LoginTaken" && error.login], ["LoginTaken", "yoen"])
        assert.strictEqual(error.message, "The login 'yoen' is taken.")
        assert.deepStrictEqual(yield* users.getUserAvatar(login("yoen")), avatar("yoen"))
      })
    )

    claim(
      "of 50 concurrent creators of one login exactly one succeeds, and its avatar is kept",
      Effect.gen(function*() {
        const users = yield* Repository
        const created = yield* Effect.forEach(
          Array.from({ length: 50 }, (_, i) => avatar("yoen", ` ${i}`)),
          (avatar) => Effect.either(Effect.as(users.create(avatar), avatar)),
          { concurrency: "unbounded" }
        )
        const winners = created.filter(Either.isRight).map(({ right }) => right)
        assert.strictEqual(winners.length, 1)
        assert.strictEqual(created.filter(Either.isLeft).filter(({ left }) => left._tag === "LoginTaken").length, 49)
        assert.deepStrictEqual(yield* users.getUserAvatar(login("yoen")), winners[0])
      })
    )

    claim(
      "update and remove change one user, and are UserNotFound for an absent one",
      Effect.gen(function*() {
        const users = yield* Repository
        yield* Effect.forEach(["a", "b"], (name) => users.create(avatar(name)))
        yield* users.update(avatar("a", " changed"))
        yield* users.remove(login("b"))
        assert.deepStrictEqual(yield* users.getUserAvatar(login("a")), avatar("a", " changed"))
        for (const absent of [users.getUserAvatar(login("b")), users.update(avatar("b")), users.remove(login("b"))]) {
          const error = yield* Effect.flip<unknown, AvatarRepository.UserNotFound | { readonly _tag: string }, never>(
            absent
          )
          assert.deepStrictEqual([error._tag, "login" in error && error.login], ["UserNotFound", "b"])
        }
        assert.strictEqual(yield* users.count, 1)
      })
    )

    claim(
      "upsert adds and replaces",
      Effect.gen(function*() {
        const users = yield* Repository
        yield* users.upsert(avatar("a"))
        yield* users.upsert(avatar("a", " changed"))
        assert.deepStrictEqual(yield* users.getUserAvatar(login("a")), avatar("a", " changed"))
        assert.strictEqual(yield* users.count, 1)
      })
    )

    claim(
      "pages follow one another in code-point order, and miss and repeat nobody at any size",
      Effect.gen(function*() {
        const users = yield* Repository
        yield* Effect.forEach(inCodePointOrder.toReversed(), (name) => users.create(avatar(name)))
        for (const limit of [1, 2, 3, inCodePointOrder.length, 10_000]) {
          const pages = yield* Stream.runCollect(
            Stream.paginateEffect(
              undefined as string | undefined,
              (after) =>
                Effect.map(users.list({ after, limit }), (page) =>
                  [
                    page,
                    Option.map(Option.fromNullable(page.at(-1)), (last) => Either.merge(last).login)
                  ] as const)
            )
          )
          const logins = Chunk.toReadonlyArray(pages).flat().map((user) => Either.merge(user).login)
          assert.deepStrictEqual(logins, inCodePointOrder.map((text) => login(text)))
          assert.isAtMost(Math.max(...Chunk.toReadonlyArray(pages).map((page) => page.length)), limit)
        }
        assert.deepStrictEqual(yield* users.list({ after: "👩‍👩‍👧", limit: 5 }), [])
        assert.deepStrictEqual(yield* users.list({ after: "no login: \u0000 \ud800", limit: 1 }), [
          Either.right(avatar("z"))
        ])
      })
    )

    claim(
      "a page of less than 1, more than 10 000 or a broken number of users is a ConstraintError",
      Effect.gen(function*() {
        const users = yield* Repository
        for (const limit of [0, -1, 10_001, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
          const error = yield* Effect.flip(users.list({ limit }))
          assert.strictEqual(error.reason, "ConstraintError")
          assert.strictEqual(error.message, `A page has 1 to 10000 users, not ${limit}.`)
        }
      })
    )

    claim(
      "the stream shows everybody once, in the order of the pages, over several pages",
      Effect.gen(function*() {
        const users = yield* Repository
        const names = Array.from({ length: 2_500 }, (_, i) => `user${String(i).padStart(4, "0")}`)
        yield* Effect.forEach(names, (name) => users.create(avatar(name)))
        const everybody = yield* Stream.runCollect(users.stream)
        assert.deepStrictEqual(Chunk.toReadonlyArray(everybody), names.map((name) => Either.right(avatar(name))))
        assert.strictEqual(yield* users.count, 2_500)
        assert.strictEqual(Chunk.size(yield* Stream.runCollect(Stream.take(users.stream, 3))), 3)
      })
    )

    claim(
      "an empty table has nobody",
      Effect.gen(function*() {
        const users = yield* Repository
        assert.deepStrictEqual(yield* users.list({ limit: 10 }), [])
        assert.strictEqual(Chunk.size(yield* Stream.runCollect(users.stream)), 0)
        assert.strictEqual(yield* users.count, 0)
      })
    )

    claim(
      "any avatar comes back as it was",
      Effect.gen(function*() {
        const users = yield* Repository
        const text = FastCheck.fullUnicodeString({ minLength: 1, maxLength: 40 })
        const avatars = FastCheck.record({ login: text, name: text, forname: text }).map((fields) =>
          Schema.decodeUnknownOption(Avatar.Avatar)(fields)
        ).filter(Option.isSome).map(({ value }) => value)
        for (const avatar of FastCheck.sample(avatars, 200)) {
          yield* users.upsert(avatar)
          assert.deepStrictEqual(yield* users.getUserAvatar(avatar.login), avatar)
        }
      })
    )

    claim(
      "a text that was forced to be a login is UserNotFound, no defect",
      Effect.gen(function*() {
        const users = yield* Repository
        yield* users.create(avatar("yoen"))
        for (const text of ["", "\ud800", "yoen\u0000", "x".repeat(1_000_000), "' or ''='"]) {
          assert.strictEqual((yield* Effect.flip(users.getUserAvatar(text as Avatar.Login)))._tag, "UserNotFound")
          assert.strictEqual((yield* Effect.flip(users.remove(text as Avatar.Login)))._tag, "UserNotFound")
        }
      })
    )
  })
}

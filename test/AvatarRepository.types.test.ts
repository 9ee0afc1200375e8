/** What the compiler says: `tsc -b`, which runs before the tests, fails where a claim here is false. */
import type { SqlClient } from "@effect/sql"
import { describe, expect, expectTypeOf, it } from "@effect/vitest"
import type { ConfigError, Either, Option, Redacted, Stream } from "effect"
import { Effect, Layer, Schema } from "effect"
import { Avatar, AvatarRepository, Database, type DatabaseError } from "effect-avatars"

type Login = Avatar.Login
type Fails = DatabaseError.DatabaseError
type NotFound = AvatarRepository.UserNotFound
type Taken = AvatarRepository.LoginTaken
type Malformed = AvatarRepository.MalformedUser
type Service = AvatarRepository.Service
type Tag = AvatarRepository.AvatarRepository

declare const login: Login

/** What a method answers; a claim about the whole type also says that it needs nothing. */
type Answer<Method extends keyof Service> = Service[Method] extends (...args: never) => infer A ? A : Service[Method]

describe("each method has exactly these errors, and needs nothing", () => {
  it("getUserAvatar", () => {
    expectTypeOf<Service["getUserAvatar"]>().parameters.toEqualTypeOf<[login: Login]>()
    expectTypeOf<Answer<"getUserAvatar">>().toEqualTypeOf<
      Effect.Effect<Avatar.Avatar, NotFound | Malformed | Fails, never>
    >()
  })

  it("findUserAvatar", () => {
    expectTypeOf<Service["findUserAvatar"]>().parameters.toEqualTypeOf<[login: Login]>()
    expectTypeOf<Answer<"findUserAvatar">>().toEqualTypeOf<
      Effect.Effect<Option.Option<Avatar.Avatar>, Malformed | Fails, never>
    >()
  })

  it("getUserAvatars", () => {
    expectTypeOf<Service["getUserAvatars"]>().parameters.toEqualTypeOf<[logins: Iterable<Login>]>()
    expectTypeOf<Answer<"getUserAvatars">>().toEqualTypeOf<
      Effect.Effect<ReadonlyMap<Login, Either.Either<Avatar.Avatar, Malformed>>, Fails, never>
    >()
  })

  it("create, update and upsert", () => {
    expectTypeOf<Service["create" | "update" | "upsert"]>().parameters.toEqualTypeOf<[avatar: Avatar.Avatar]>()
    expectTypeOf<Answer<"create">>().toEqualTypeOf<Effect.Effect<void, Taken | Fails, never>>()
    expectTypeOf<Answer<"update">>().toEqualTypeOf<Effect.Effect<void, NotFound | Fails, never>>()
    expectTypeOf<Answer<"upsert">>().toEqualTypeOf<Effect.Effect<void, Fails, never>>()
  })

  it("remove", () => {
    expectTypeOf<Service["remove"]>().parameters.toEqualTypeOf<[login: Login]>()
    expectTypeOf<Answer<"remove">>().toEqualTypeOf<Effect.Effect<void, NotFound | Fails, never>>()
  })

  it("list", () => {
    expectTypeOf<Service["list"]>().parameters.toEqualTypeOf<
      [options: { readonly after?: string | undefined; readonly limit: number }]
    >()
    expectTypeOf<Answer<"list">>().toEqualTypeOf<
      Effect.Effect<ReadonlyArray<Either.Either<Avatar.Avatar, Malformed>>, Fails, never>
    >()
  })

  it("stream and count", () => {
    expectTypeOf<Answer<"stream">>().toEqualTypeOf<
      Stream.Stream<Either.Either<Avatar.Avatar, Malformed>, Fails, never>
    >()
    expectTypeOf<Answer<"count">>().toEqualTypeOf<Effect.Effect<number, Fails, never>>()
  })

  it("and there is no other", () => {
    expectTypeOf<keyof Service>().toEqualTypeOf<
      | "getUserAvatar"
      | "findUserAvatar"
      | "getUserAvatars"
      | "create"
      | "update"
      | "upsert"
      | "remove"
      | "list"
      | "stream"
      | "count"
    >()
    expectTypeOf(AvatarRepository.AvatarRepository.pipe(Effect.map((service) => service))).toEqualTypeOf<
      Effect.Effect<Service, never, Tag>
    >()
  })
})

describe("layers", () => {
  it("the repository needs a SqlClient and nothing else, and cannot fail to build", () => {
    expectTypeOf(AvatarRepository.layer).toEqualTypeOf<Layer.Layer<Tag, never, SqlClient.SqlClient>>()
    expectTypeOf(AvatarRepository.make).toEqualTypeOf<Effect.Effect<Service, never, SqlClient.SqlClient>>()
  })

  it("the repository in memory needs nothing", () => {
    expectTypeOf(AvatarRepository.layerMemory).returns.toEqualTypeOf<Layer.Layer<Tag, never, never>>()
    expectTypeOf(AvatarRepository.layerMemory).parameters.toEqualTypeOf<
      [avatars?: Iterable<Avatar.Avatar> | undefined]
    >()
  })

  it("a database fails with a DatabaseError, one of the configuration also with a ConfigError", () => {
    expectTypeOf(Database.layer).returns.toEqualTypeOf<Layer.Layer<SqlClient.SqlClient, Fails, never>>()
    expectTypeOf(Database.layer).parameters.toEqualTypeOf<
      [url: string | Redacted.Redacted, options?: { readonly readonly?: boolean | undefined } | undefined]
    >()
    expectTypeOf(Database.layerConfig).toEqualTypeOf<
      Layer.Layer<SqlClient.SqlClient, Fails | ConfigError.ConfigError, never>
    >()
    expectTypeOf(Database.migrate).toEqualTypeOf<Effect.Effect<void, Fails, SqlClient.SqlClient>>()
    expectTypeOf(Database.transaction<1, "own", Tag>).returns.toEqualTypeOf<
      Effect.Effect<1, "own" | Fails, Tag | SqlClient.SqlClient>
    >()
  })

  it("composed, they leave one error and no requirement", () => {
    const layer = AvatarRepository.layer.pipe(Layer.provide(Database.layer("sqlite::memory:")))
    expectTypeOf(layer).toEqualTypeOf<Layer.Layer<Tag, Fails, never>>()
    const found = AvatarRepository.AvatarRepository.pipe(
      Effect.flatMap(({ getUserAvatar }) => getUserAvatar(Avatar.Login.make("yoen"))),
      Effect.provide(layer)
    )
    expectTypeOf(found).toEqualTypeOf<Effect.Effect<Avatar.Avatar, NotFound | Malformed | Fails, never>>()
  })
})

describe("values", () => {
  it("a text is no Login, a Login is a text", () => {
    expectTypeOf<string>().not.toExtend<Login>()
    expectTypeOf<"yoen">().not.toExtend<Login>()
    expectTypeOf<Login>().toExtend<string>()
    expectTypeOf(Avatar.Login.make).returns.toEqualTypeOf<Login>()
    expectTypeOf(Schema.decodeUnknownSync(Avatar.Login)).returns.toEqualTypeOf<Login>()
    const lookUp = (service: Service) => [
      service.getUserAvatar(login),
      // @ts-expect-error a text is no Login
      service.getUserAvatar("yoen"),
      // @ts-expect-error nor is it among many
      service.getUserAvatars(["yoen"])
    ]
    expectTypeOf(lookUp).toBeFunction()
  })

  it("an Avatar has a Login and two texts, none of which can be assigned", () => {
    expectTypeOf<Pick<Avatar.Avatar, "login" | "name" | "forname">>().toEqualTypeOf<
      { readonly login: Login; readonly name: string; readonly forname: string }
    >()
    expectTypeOf<typeof Avatar.Avatar.Encoded>().toEqualTypeOf<
      { readonly login: string; readonly name: string; readonly forname: string }
    >()
    expectTypeOf<Avatar.Avatar["render"]>().toEqualTypeOf<() => string>()
    expectTypeOf<{ login: Login; name: string; forname: string }>().not.toExtend<Avatar.Avatar>()
  })

  it("errors say what they are about", () => {
    expectTypeOf<NotFound>().toExtend<Error & { readonly _tag: "UserNotFound"; readonly login: Login }>()
    expectTypeOf<Taken>().toExtend<Error & { readonly _tag: "LoginTaken"; readonly login: Login }>()
    expectTypeOf<Malformed>().toExtend<
      Error & { readonly _tag: "MalformedUser"; readonly login: string; readonly issue: string }
    >()
    expectTypeOf<Fails>().toExtend<Error & { readonly _tag: "DatabaseError"; readonly isRetryable: boolean }>()
    expectTypeOf<Fails["reason"]>().toEqualTypeOf<DatabaseError.Reason>()
    expectTypeOf<Fails["code"]>().toEqualTypeOf<string | number | undefined>()
    expectTypeOf<Fails["outcome"]>().toEqualTypeOf<"unknown" | undefined>()
    expectTypeOf<DatabaseError.Reason>().toEqualTypeOf<
      | "ConnectionError"
      | "AuthenticationError"
      | "AuthorizationError"
      | "SqlSyntaxError"
      | "UniqueViolation"
      | "ConstraintError"
      | "DeadlockError"
      | "SerializationError"
      | "LockTimeoutError"
      | "StatementTimeoutError"
      | "UnknownError"
    >()
  })
})

describe("handling", () => {
  const yoen = Avatar.Login.make("yoen")
  const found = Effect.flatMap(AvatarRepository.AvatarRepository, ({ getUserAvatar }) => getUserAvatar(yoen))
  const run = <A>(effect: Effect.Effect<A, never, Tag>) =>
    Effect.runSync(Effect.provide(effect, AvatarRepository.layerMemory()))

  it("after each error of getUserAvatar is caught by its tag none is left", () => {
    const withoutNotFound = Effect.catchTag(found, "UserNotFound", ({ login }) => Effect.succeed(`no ${login}`))
    expectTypeOf(withoutNotFound).toEqualTypeOf<Effect.Effect<Avatar.Avatar | string, Malformed | Fails, Tag>>()
    const withoutMalformed = Effect.catchTag(withoutNotFound, "MalformedUser", ({ issue }) => Effect.succeed(issue))
    expectTypeOf(withoutMalformed).toEqualTypeOf<Effect.Effect<Avatar.Avatar | string, Fails, Tag>>()
    const total = Effect.catchTag(withoutMalformed, "DatabaseError", ({ reason }) => Effect.succeed(reason))
    expectTypeOf(total).toEqualTypeOf<Effect.Effect<Avatar.Avatar | string, never, Tag>>()
    expect(run(total)).toBe("no yoen")
  })

  it("catchTags with a case for each is total, and a case for another error does not compile", () => {
    const total = Effect.catchTags(found, {
      UserNotFound: () => Effect.succeed(1 as const),
      MalformedUser: () => Effect.succeed(2 as const),
      DatabaseError: () => Effect.succeed(3 as const)
    })
    expectTypeOf(total).toEqualTypeOf<Effect.Effect<Avatar.Avatar | 1 | 2 | 3, never, Tag>>()
    // @ts-expect-error a lookup cannot fail with LoginTaken
    const another = Effect.catchTag(found, "LoginTaken", () => Effect.void)
    expectTypeOf(another).not.toBeNever()
    expect(run(total)).toBe(1)
  })
})

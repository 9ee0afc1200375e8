/** Programs of few operations over logins that somebody may take for the same: a database answers as the repository in memory does. */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Context, Effect, Either, FastCheck, Layer, Option, Stream } from "effect"
import { Avatar, AvatarRepository, Database } from "effect-avatars"
import { temporaryFile } from "../layers.js"
import { trials } from "../trials.js"
import { counterexample, holds } from "./claims.js"
import { alike, anyText, text } from "./inputs.js"

type Users = AvatarRepository.Service

const operations = [
  ...["create", "create", "create", "create", "update", "upsert", "remove"] as const,
  ...["get", "get", "get", "find", "getMany", "list", "stream", "count"] as const
]

interface Step {
  readonly operation: (typeof operations)[number]
  readonly login: string
  readonly others: ReadonlyArray<string>
  readonly name: string
  readonly forname: string
  readonly limit: number
}

const program: FastCheck.Arbitrary<ReadonlyArray<Step>> = FastCheck.tuple(text, text).chain(([one, other]) => {
  const login = FastCheck.constantFrom(...alike(one), other)
  return FastCheck.array(
    FastCheck.record({
      operation: FastCheck.constantFrom(...operations),
      login,
      others: FastCheck.array(login, { maxLength: 5 }),
      name: anyText,
      forname: text,
      limit: FastCheck.oneof(
        FastCheck.integer({ min: 1, max: 5 }),
        FastCheck.constantFrom(0, -1, 1.5, Number.NaN, 10_001)
      )
    }),
    { minLength: 4, maxLength: 16 }
  )
})

const fields = ({ forname, login, name }: Avatar.Avatar) => ({ login, name, forname })

const plain = (avatar: Either.Either<Avatar.Avatar, AvatarRepository.MalformedUser>) =>
  Either.match(avatar, { onLeft: ({ issue, login }) => ({ login, issue }), onRight: fields })

/** What a step answers, as data. A login that is none is forced through where one is only looked up. */
const answer = (users: Users, { forname, limit, login, name, operation, others }: Step): Effect.Effect<unknown> => {
  const forced = login as Avatar.Login
  const writes = operation === "create" || operation === "update" || operation === "upsert"
  if (writes && !(Avatar.isLogin(login) && Avatar.isName(name) && Avatar.isName(forname))) {
    // The boundary: what is no avatar cannot be made.
    return Effect.sync(() =>
      assert.throws(() => new Avatar.Avatar({ login: forced, name, forname }), /is 1 to|name is/)
    )
  }
  const run = (): Effect.Effect<unknown, unknown> => {
    switch (operation) {
      case "get":
        return Effect.map(users.getUserAvatar(forced), fields)
      case "find":
        return Effect.map(users.findUserAvatar(forced), Option.match({ onNone: () => "none", onSome: fields }))
      case "getMany":
        return Effect.map(
          users.getUserAvatars(others as Array<Avatar.Login>),
          (found) => Array.from(found, ([login, avatar]) => [login, plain(avatar)])
        )
      case "create":
      case "update":
      case "upsert":
        return users[operation](new Avatar.Avatar({ login: forced, name, forname }))
      case "remove":
        return users.remove(forced)
      case "list":
        return Effect.map(users.list({ limit, after: others[0] }), (page) => page.map(plain))
      case "stream":
        return Effect.map(Stream.runCollect(users.stream), (all) => Chunk.toReadonlyArray(all).map(plain))
      case "count":
        return users.count
    }
  }
  return Effect.match(run(), { onFailure: (error) => ({ ...error as object }), onSuccess: (value) => value })
}

const inMemory = Effect.map(
  Effect.scoped(Layer.build(Layer.fresh(AvatarRepository.layerMemory()))),
  (context) => Context.get(context, AvatarRepository.AvatarRepository)
)

class Target extends Context.Tag("test/fuzz/Target")<
  Target,
  { readonly users: Users; readonly empty: Effect.Effect<unknown, unknown> }
>() {}

const sameAnswers = (alter: (users: Users) => Users) => (steps: ReadonlyArray<Step>) =>
  Effect.gen(function*() {
    const { empty, users } = yield* Target
    yield* empty
    const model = yield* inMemory
    const altered = alter(users)
    for (const step of steps) {
      assert.deepStrictEqual(
        yield* answer(altered, step),
        yield* answer(model, step),
        JSON.stringify(step).slice(0, 500)
      )
    }
  })

const over = (database: Layer.Layer<SqlClient.SqlClient, unknown>) =>
  Layer.effect(
    Target,
    Effect.map(
      Effect.all([AvatarRepository.AvatarRepository, SqlClient.SqlClient]),
      ([users, sql]) => ({ users, empty: sql`delete from users` })
    )
  ).pipe(Layer.provide(Layer.provideMerge(AvatarRepository.layer, database)), Layer.orDie)

const databases = {
  "SQLite in memory": over(Database.layer("sqlite::memory:")),
  "an SQLite file": over(Layer.unwrapScoped(
    Effect.map(temporaryFile(), (file) => Database.layer(`sqlite:${encodeURIComponent(file)}?synchronous=off`))
  ))
}

const trimming = (users: Users): Users => ({
  ...users,
  getUserAvatar: (login) => users.getUserAvatar(login.trim() as Avatar.Login)
})

const composing = (users: Users): Users => ({
  ...users,
  create: (avatar) => users.create(new Avatar.Avatar({ ...avatar, login: avatar.login.normalize() as Avatar.Login }))
})

const folding = (users: Users): Users => ({
  ...users,
  getUserAvatars: (logins) =>
    Effect.map(
      users.getUserAvatars(Array.from(logins, (login) => login.toLowerCase() as Avatar.Login)),
      (found) =>
        new Map(
          Array.from(logins).flatMap((login) => {
            const avatar = found.get(login.toLowerCase() as Avatar.Login)
            return avatar === undefined ? [] : [[login, avatar]]
          })
        )
    )
})

describe("a program over logins of all of Unicode", () => {
  const few = 1_000
  for (const [name, database] of Object.entries(databases)) {
    it.live(`answers on ${name} as in memory`, () =>
      trials(
        `fuzz programs on ${name}`,
        { few, many: 10 * few },
        (seed, count) => holds(program, sameAnswers((users) => users), seed, count)
      ).pipe(Effect.provide(database)))
  }

  const bugs = { "trims a login": trimming, "composes characters": composing, "folds case": folding }
  for (const [bug, alter] of Object.entries(bugs)) {
    it.live(`finds a repository that ${bug}`, () =>
      Effect.map(counterexample(program, sameAnswers(alter), few), (found) => assert.isDefined(found)).pipe(
        Effect.provide(databases["SQLite in memory"])
      ))
  }
})

const bulk = FastCheck.uniqueArray(
  FastCheck.record({ login: text.filter(Avatar.isLogin), name: text.filter(Avatar.isName) }),
  { minLength: 400, maxLength: 400, selector: ({ login }) => login, size: "max" }
)

/** All of them are created, looked up and listed at once. */
const areKept =
  (alter: (users: Users) => Users) => (wanted: ReadonlyArray<{ readonly login: string; readonly name: string }>) =>
    Effect.gen(function*() {
      const { empty, users: unaltered } = yield* Target
      const users = alter(unaltered)
      yield* empty
      const avatars = wanted.map(({ login, name }) =>
        new Avatar.Avatar({ login: Avatar.Login.make(login), name, forname: login })
      )
      const wantedFields = avatars.map(fields)
      const all = { concurrency: "unbounded" } as const
      yield* Effect.forEach(avatars, (avatar) => users.create(avatar), all)
      const found = yield* Effect.forEach(avatars, ({ login }) => users.getUserAvatar(login), all)
      assert.deepStrictEqual(found.map(fields), wantedFields)
      const many = yield* users.getUserAvatars(avatars.map(({ login }) => login))
      assert.deepStrictEqual(Array.from(many.values(), plain), wantedFields)
      const sorted = wantedFields.toSorted((one, other) =>
        Buffer.compare(Buffer.from(one.login), Buffer.from(other.login))
      )
      assert.deepStrictEqual((yield* users.list({ limit: 10_000 })).map(plain), sorted)
    })

describe("logins of all of Unicode that are created at once", () => {
  const few = 25
  for (const [name, database] of Object.entries(databases)) {
    it.live(`are found exactly on ${name}`, () =>
      trials(
        `fuzz bulk on ${name}`,
        { few, many: 10 * few },
        (seed, count) => Effect.as(holds(bulk, areKept((users) => users), seed, count), { inputs: 400 * count })
      ).pipe(
        Effect.provide(database)
      ))
  }

  it.live("find a repository that composes characters", () =>
    Effect.map(counterexample(bulk, areKept(composing), few), (found) => assert.isDefined(found)).pipe(
      Effect.provide(databases["SQLite in memory"])
    ))
})

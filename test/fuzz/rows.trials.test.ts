/** Rows of all types in a table `users` without types: each is answered as what it is, and hides no other. */
import { assert, describe, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Chunk, Context, Effect, Either, FastCheck, Layer, Stream } from "effect"
import { Avatar, AvatarRepository, Database } from "effect-avatars"
import { temporaryFile } from "../layers.js"
import { trials } from "../trials.js"
import { counterexample, holds } from "./claims.js"
import { alike, anyText, number, text } from "./inputs.js"

/** A value, and how it gets into the table. */
interface Cell {
  readonly value: null | number | bigint | string | Uint8Array
  /** Its bytes are taken for text, whatever they are. */
  readonly isText: boolean
}

const utf8 = (text: string) => Buffer.from(text)

const value: FastCheck.Arbitrary<Cell["value"]> = FastCheck.oneof(
  FastCheck.constant(null),
  number.filter((number) => !Number.isNaN(number)),
  FastCheck.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  text.map((text) => text.toWellFormed()),
  FastCheck.uint8Array({ maxLength: 12 })
)

const cellOf = (texts: FastCheck.Arbitrary<string>): FastCheck.Arbitrary<Cell> =>
  FastCheck.oneof(
    { weight: 3, arbitrary: texts.map((text) => ({ value: text.toWellFormed(), isText: true })) },
    { weight: 1, arbitrary: value.map((value) => ({ value, isText: false })) },
    { weight: 1, arbitrary: FastCheck.uint8Array({ maxLength: 6 }).map((value) => ({ value, isText: true })) }
  )

interface Line {
  readonly login: Cell
  readonly name: Cell
  readonly forname: Cell
}

/** Logins that are like each other, as text and as blobs. */
const lines: FastCheck.Arbitrary<ReadonlyArray<Line>> = FastCheck.tuple(text, text).chain(([one, other]) => {
  const near = FastCheck.constantFrom(...alike(one), ...alike(other))
  const asBlob = near.map((text): Cell => ({ value: utf8(text.toWellFormed()), isText: false }))
  const name = cellOf(FastCheck.oneof(text, text, anyText))
  return FastCheck.array(
    FastCheck.record({ login: FastCheck.oneof(cellOf(near), cellOf(near), asBlob), name, forname: name }),
    { minLength: 1, maxLength: 12 }
  )
})

/** What stands in the table: text by its bytes, anything else as it is. */
const bytesOf = ({ isText, value }: Cell): Buffer | undefined =>
  typeof value === "string" ? utf8(value) : isText && value instanceof Uint8Array ? Buffer.from(value) : undefined

const isUtf8 = (bytes: Buffer) => utf8(bytes.toString()).equals(bytes)

const isNameCell = (cell: Cell) => {
  const bytes = bytesOf(cell)
  return bytes !== undefined && Avatar.isName(bytes.toString())
}

/** `[login, name, forname]`, or the login of who is malformed. */
const expected = ({ forname, login, name }: Line): unknown => {
  const text = bytesOf(login)!.toString()
  return Avatar.isLogin(text) && isNameCell(name) && isNameCell(forname)
    ? [text, bytesOf(name)!.toString(), bytesOf(forname)!.toString()]
    : text
}

const shown = (avatar: Either.Either<Avatar.Avatar, AvatarRepository.MalformedUser>): unknown =>
  Either.match(avatar, { onLeft: ({ login }) => login, onRight: ({ forname, login, name }) => [login, name, forname] })

class Target extends Context.Tag("test/fuzz/rows/Target")<
  Target,
  { readonly users: AvatarRepository.Service; readonly db: Sqlite.Database }
>() {}

const target = Layer.unwrapScoped(Effect.gen(function*() {
  const file = yield* temporaryFile()
  const db = yield* Effect.acquireRelease(
    Effect.sync(() => new Sqlite(file).exec("create table users (login unique, name, forname)")),
    (db) => Effect.sync(() => db.close())
  )
  db.pragma("synchronous = off")
  return Layer.effect(Target, Effect.map(AvatarRepository.AvatarRepository, (users) => ({ users, db }))).pipe(
    Layer.provide(AvatarRepository.layer),
    Layer.provide(Database.layer(`sqlite:${encodeURIComponent(file)}?synchronous=off`))
  )
})).pipe(Layer.orDie)

const fill = (db: Sqlite.Database, lines: ReadonlyArray<Line>): ReadonlyArray<Line> => {
  db.exec("delete from users")
  const bound = ({ isText, value }: Cell) => isText && value instanceof Uint8Array ? Buffer.from(value) : value
  const sql = ({ isText, value }: Cell) => isText && value instanceof Uint8Array ? "cast(? as text)" : "?"
  return lines.filter(({ forname, login, name }) => {
    const cells = [login, name, forname]
    const statement = db.prepare(`insert into users values (${cells.map(sql).join(", ")}) on conflict do nothing`)
    return statement.run(cells.map(bound)).changes > 0
  })
}

const areAnswered =
  (alter: (users: AvatarRepository.Service) => AvatarRepository.Service) => (lines: ReadonlyArray<Line>) =>
    Effect.gen(function*() {
      const { db, users: unaltered } = yield* Target
      const users = alter(unaltered)
      const stored = fill(db, lines)
      const texts = stored.filter(({ login }) => bytesOf(login) !== undefined)
      const somebody = texts
        .filter(({ login }) => isUtf8(bytesOf(login)!))
        .toSorted((one, other) => Buffer.compare(bytesOf(one.login)!, bytesOf(other.login)!))
      assert.strictEqual(yield* users.count, texts.length)
      const all = somebody.map(expected)
      assert.deepStrictEqual((yield* users.list({ limit: 100 })).map(shown), all)
      assert.deepStrictEqual(Chunk.toReadonlyArray(yield* Stream.runCollect(users.stream)).map(shown), all)
      const wanted = stored.map(({ login }) => bytesOf(login)?.toString() ?? String(login.value)) as Array<Avatar.Login>
      const isStored = (login: string) => somebody.find((line) => bytesOf(line.login)!.equals(utf8(login)))
      const answers = Array.from(new Set(wanted), (login) => {
        const line = isStored(login)
        return [login, line === undefined ? "nobody" : expected(line)] satisfies [Avatar.Login, unknown]
      })
      const each = yield* Effect.forEach(answers, ([login]) =>
        Effect.match(users.getUserAvatar(login), {
          onFailure: (error) =>
            error._tag === "UserNotFound" ? "nobody" : "login" in error ? error.login : error.reason,
          onSuccess: (avatar) => shown(Either.right(avatar))
        }), { concurrency: "unbounded" })
      assert.deepStrictEqual(each, answers.map(([, answer]) => answer))
      const many = yield* users.getUserAvatars(wanted)
      assert.deepStrictEqual(
        Array.from(many, ([login, avatar]) => [login, shown(avatar)] satisfies [Avatar.Login, unknown]),
        answers.filter(([, answer]) => answer !== "nobody")
      )
      // A login that can be one makes a row whole again, or leaves it alone.
      for (const [login, answer] of answers.filter(([login]) => Avatar.isLogin(login)).slice(0, 3)) {
        const renamed = yield* Effect.either(users.update(new Avatar.Avatar({ login, name: "n", forname: "f" })))
        assert.strictEqual(Either.isRight(renamed), answer !== "nobody")
        const removed = yield* Effect.either(users.remove(login))
        assert.strictEqual(Either.isRight(removed), answer !== "nobody")
      }
      const gone = answers.filter(([login]) => Avatar.isLogin(login)).slice(0, 3).filter(([, answer]) =>
        answer !== "nobody"
      )
      assert.strictEqual(yield* users.count, texts.length - gone.length)
    })

const hiding = (users: AvatarRepository.Service): AvatarRepository.Service => ({
  ...users,
  list: (options) => Effect.map(users.list(options), (page) => page.filter(Either.isRight))
})

const merging = (users: AvatarRepository.Service): AvatarRepository.Service => ({
  ...users,
  getUserAvatar: (login) => users.getUserAvatar(login.normalize() as Avatar.Login)
})

describe("rows of wrong types", () => {
  const few = 800
  it.live("are answered each as what it is, and hide no other", () =>
    Effect.provide(
      trials("fuzz rows", { few, many: 10 * few }, (seed, count) =>
        holds(
          lines,
          areAnswered((users) => users),
          seed,
          count
        )),
      target
    ))

  const bugs = { "hides malformed users": hiding, "gives another's row for the same text in another form": merging }
  for (const [bug, alter] of Object.entries(bugs)) {
    it.live(`find a repository that ${bug}`, () =>
      Effect.map(counterexample(lines, areAnswered(alter), few), (found) => assert.isDefined(found)).pipe(
        Effect.provide(target)
      ))
  }
})

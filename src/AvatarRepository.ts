/**
 * The users of a database as `Avatar`s: one typed interface over any client of `@effect/sql`, and one in memory for tests.
 *
 * Every failure is in a method's type. A row that is no avatar (a NULL name, a blob) is a `MalformedUser` and never hides
 * another row; everything else that the database can do is a `DatabaseError`. Reads are tried again when the database says that
 * this may help, with jittered backoff and at most five times; writes, and everything inside a transaction, are tried once.
 *
 * Inside `sql.withTransaction` every method runs in that transaction: it sees its writes, and is undone with it.
 *
 * Lookups are coalesced: those that are asked for at the same time, by any fibers, leave as few statements, each login once, and so do
 * creates. Nothing is remembered, and a lookup joins only a statement that has not been sent yet: every answer was read after it was
 * asked for, so that a fiber sees its own acknowledged writes. A lookup that finds nothing under way leaves at once. Inside a transaction
 * each is a statement of its own. Whoever is interrupted harms no other; a create that was sent is awaited.
 *
 * Every method is a span. Those of lookups and creates are made only where a tracer other than Effect's own is provided, and are linked with
 * the span of the batch that served them, under which its statement stands.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Arr from "effect/Array"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Avatar, isLogin, isName, Login } from "./Avatar.js"
import { DatabaseError } from "./DatabaseError.js"
import { byCodePoint } from "./internal/codePoints.js"
import { makeCreates, makeLookups } from "./internal/lookups.js"
import type { Row } from "./internal/row.js"
import { makeUsers } from "./internal/users.js"

/**
 * No user has this login.
 *
 * @since 0.1.0
 * @category errors
 */
export class UserNotFound extends Schema.TaggedError<UserNotFound>("effect-avatars/UserNotFound")("UserNotFound", {
  login: Login
}) {
  override get message(): string {
    return `No user has the login '${this.login}'.`
  }
}

/**
 * A user has this login already.
 *
 * @since 0.1.0
 * @category errors
 */
export class LoginTaken extends Schema.TaggedError<LoginTaken>("effect-avatars/LoginTaken")("LoginTaken", {
  login: Login
}) {
  override get message(): string {
    return `The login '${this.login}' is taken.`
  }
}

/**
 * The users table holds a row that is no avatar. `login` is what stands in the row, which need not be a `Login`; `issue` says
 * what is wrong with the row, without showing what is in it.
 *
 * @since 0.1.0
 * @category errors
 */
export class MalformedUser extends Schema.TaggedError<MalformedUser>("effect-avatars/MalformedUser")("MalformedUser", {
  login: Schema.String,
  issue: Schema.String
}) {
  override get message(): string {
    return `The user '${this.login.replace(/\p{Cc}/gu, "\uFFFD")}' is malformed: ${this.issue}.`
  }
}

/**
 * What the repository does.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** The avatar of a login. Fails with `UserNotFound` where no user has it. */
  readonly getUserAvatar: (login: Login) => Effect.Effect<Avatar, UserNotFound | MalformedUser | DatabaseError>

  /** The avatar of a login, or `None` where no user has it. */
  readonly findUserAvatar: (login: Login) => Effect.Effect<Option.Option<Avatar>, MalformedUser | DatabaseError>

  /**
   * The avatars of many logins: each found one once, in the order in which they were asked for first; a login that no user has
   * is absent from the map. The answers need not be of one moment: ask inside a transaction where that matters.
   */
  readonly getUserAvatars: (
    logins: Iterable<Login>
  ) => Effect.Effect<ReadonlyMap<Login, Either.Either<Avatar, MalformedUser>>, DatabaseError>

  /**
   * Adds a user. Fails with `LoginTaken` where the login has one; a transaction around it stays usable then, on every engine.
   * Of several at once for the same login exactly one succeeds.
   */
  readonly create: (avatar: Avatar) => Effect.Effect<void, LoginTaken | DatabaseError>

  /** Gives the user of `avatar.login` this name and forname, also where the row was malformed. */
  readonly update: (avatar: Avatar) => Effect.Effect<void, UserNotFound | DatabaseError>

  /** Adds the user, or updates it where the login is taken. */
  readonly upsert: (avatar: Avatar) => Effect.Effect<void, DatabaseError>

  /** Removes the user of a login. */
  readonly remove: (login: Login) => Effect.Effect<void, UserNotFound | DatabaseError>

  /**
   * One page of users, in code-point order of their logins (`'Z' < 'a' < 'é' < '👩'`): at most `limit` (1 to 10 000) of those
   * whose login comes after `after`; from the first where it is absent. The next page begins after the login of the last item,
   * also where that is a `MalformedUser`; a page with fewer than `limit` items is the last. Users that are added or removed
   * meanwhile move no other one. A row without a login, or whose login is not text (in SQLite also: not UTF-8), is nobody.
   *
   * Fails with a `ConstraintError` where `limit` is out of bounds.
   */
  readonly list: (
    options: { readonly after?: string | undefined; readonly limit: number }
  ) => Effect.Effect<ReadonlyArray<Either.Either<Avatar, MalformedUser>>, DatabaseError>

  /**
   * All users, in the order of `list`, in constant memory: read page by page, each when the consumer asks for it, so that no
   * connection is held between two pages. It shows what each page's moment held; run it inside a transaction for one moment.
   *
   * For those that are avatars only: `Stream.filterMap(stream, Either.getRight)`. To fail at the first malformed one:
   * `Stream.mapEffect(stream, identity)`, or by chunks `Stream.mapChunksEffect(stream, Effect.all)`.
   */
  readonly stream: Stream.Stream<Either.Either<Avatar, MalformedUser>, DatabaseError>

  /** How many users `stream` would show, and those whose login is not UTF-8. Reads the whole table. */
  readonly count: Effect.Effect<number, DatabaseError>
}

/**
 * The tag of the repository. `layer` and `layerMemory` provide it; `Layer.mock` makes a partial one for a test.
 *
 * @since 0.1.0
 * @category tags
 */
export class AvatarRepository extends Context.Tag("effect-avatars/AvatarRepository")<AvatarRepository, Service>() {}

/**
 * The repository over a client of `@effect/sql` and its table `users(login, name, forname)`, which must exist
 * (`Database.migrate` makes it; `Database.layer` has done so). Further columns are left alone. `login` needs a unique index.
 *
 * A client's name transforms do not apply, and its `SafeIntegers` makes no difference. `@effect/sql` knows one current transaction, whatever
 * the client: inside `withTransaction` of a stock client, the repository of another stock client runs in that transaction.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, SqlClient.SqlClient> = Effect.map(SqlClient.SqlClient, (client) => {
  const users = makeUsers(client)
  const look = makeLookups(users)
  const create = makeCreates(users)

  const list: Service["list"] = ({ after, limit }) =>
    Effect.zipRight(
      checkLimit(limit),
      Effect.map(Effect.suspend(() => users.page(after?.toWellFormed(), limit)), (rows) => rows.map(fromRow))
    )

  return {
    findUserAvatar: (wanted) =>
      look(
        "AvatarRepository.findUserAvatar",
        wanted,
        (row) => row === undefined ? Effect.succeedNone : Either.map(fromRow(row), Option.some)
      ),
    getUserAvatar: (wanted) =>
      look(
        "AvatarRepository.getUserAvatar",
        wanted,
        (row): Effect.Effect<Avatar, UserNotFound | MalformedUser> =>
          row === undefined ? new UserNotFound({ login: wanted }, trusted) : fromRow(row)
      ),
    getUserAvatars: Effect.fn("AvatarRepository.getUserAvatars")(function*(logins) {
      const wanted = Array.from(new Set(logins))
      // A chunk's avatars are made while the next one's rows are read.
      const found = yield* Effect.forEach(
        Arr.chunksOf(wanted, bulkSize),
        (chunk) =>
          Effect.map(users.findMany(chunk), (rows) => rows.map((row) => row === undefined ? undefined : fromRow(row))),
        { concurrency: bulkUnderWay }
      )
      const avatars = new Map<Login, Either.Either<Avatar, MalformedUser>>()
      found.flat().forEach((avatar, i) => {
        if (avatar !== undefined) {
          avatars.set(wanted[i]!, avatar)
        }
      })
      return avatars
    }),
    create: (avatar) =>
      create(
        "AvatarRepository.create",
        avatar,
        (isStored) => isStored ? Exit.void : Exit.fail(new LoginTaken({ login: avatar.login }, trusted))
      ),
    update: (avatar) =>
      Effect.withSpan(
        Effect.flatMap(users.update(avatar), (isFound) =>
          isFound ? Effect.void : new UserNotFound({ login: avatar.login }, trusted)),
        "AvatarRepository.update",
        { captureStackTrace: false }
      ),
    upsert: (avatar) => Effect.withSpan(users.upsert(avatar), "AvatarRepository.upsert", { captureStackTrace: false }),
    remove: (gone) =>
      Effect.withSpan(
        Effect.flatMap(users.remove(gone), (isFound) =>
          isFound ? Effect.void : new UserNotFound({ login: gone }, trusted)),
        "AvatarRepository.remove",
        { captureStackTrace: false }
      ),
    list: (options) => Effect.withSpan(list(options), "AvatarRepository.list", { captureStackTrace: false }),
    // One span for all pages: those of each would keep them in memory until the next full collection.
    stream: Stream.withSpan(pages(list), "AvatarRepository.stream", { captureStackTrace: false }),
    count: Effect.withSpan(users.count, "AvatarRepository.count", { captureStackTrace: false })
  }
})

/** So many of a bulk lookup's logins are asked for by one statement: lookups of others find a reader between two. */
const bulkSize = 500

/** So many of its statements are asked for at once: while one is answered the next is read, and another waits to be. */
const bulkUnderWay = 3

/**
 * The repository over the `SqlClient` that is provided to it. See {@link make}.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<AvatarRepository, never, SqlClient.SqlClient> = Layer.effect(AvatarRepository, make)

/**
 * A repository in memory for tests, which begins with the given avatars (of equal logins the last). Each build of the layer
 * has users of its own.
 *
 * It answers as the one over a database does, but it knows no transaction: what is done to it stays done.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerMemory = (avatars: Iterable<Avatar> = []): Layer.Layer<AvatarRepository> => {
  const first = Array.from(avatars, (avatar) => [avatar.login, avatar] as const)
  return Layer.sync(AvatarRepository, () => {
    const users = new Map(first)
    const find = (login: Login) => Option.fromNullable(users.get(login))
    const put = (avatar: Avatar) => Effect.sync(() => void users.set(avatar.login, avatar))
    const list: Service["list"] = ({ after, limit }) =>
      Effect.map(checkLimit(limit), () =>
        Array.from(users.values())
          .filter(({ login }) => after === undefined || byCodePoint(login, after.toWellFormed()) > 0)
          .toSorted((one, other) => byCodePoint(one.login, other.login))
          .slice(0, limit)
          .map(Either.right))
    return {
      findUserAvatar: (login) => Effect.sync(() => find(login)),
      getUserAvatar: (login) => Effect.suspend(() => orNotFound(login)(find(login))),
      getUserAvatars: (logins) =>
        Effect.sync(() =>
          new Map(
            Array.from(logins).flatMap((login) => Option.toArray(find(login))).map((avatar) => [
              avatar.login,
              Either.right(avatar)
            ])
          )
        ),
      create: (avatar) =>
        Effect.suspend(() => users.has(avatar.login) ? new LoginTaken({ login: avatar.login }, trusted) : put(avatar)),
      update: (avatar) =>
        Effect.suspend(() =>
          users.has(avatar.login) ? put(avatar) : new UserNotFound({ login: avatar.login }, trusted)
        ),
      upsert: put,
      remove: (login) => Effect.suspend(() => users.delete(login) ? Effect.void : new UserNotFound({ login }, trusted)),
      list,
      stream: pages(list),
      count: Effect.sync(() => users.size)
    }
  })
}

/** A login that was typed as one is not checked again: whoever forced another text through gets `UserNotFound`, no defect. */
const trusted = { disableValidation: true }

/** By hand, since Schema would take several times as long for each row. */
const fromRow = (row: Row): Either.Either<Avatar, MalformedUser> => {
  const issue = issueOf("login", row.login, isLogin) ?? issueOf("name", row.name, isName) ??
    issueOf("forname", row.forname, isName)
  return issue === undefined
    ? Either.right(new Avatar(row as Avatar, trusted))
    : Either.left(new MalformedUser({ login: String(row.login), issue }, trusted))
}

const issueOf = (column: string, value: unknown, isValid: (text: string) => boolean): string | undefined =>
  value === null
    ? `its ${column} is NULL`
    : typeof value !== "string"
    ? `its ${column} is not text`
    : isValid(value)
    ? undefined
    : `its ${column} holds characters that are not allowed or is too long`

const orNotFound = (login: Login) => (found: Option.Option<Avatar>): Effect.Effect<Avatar, UserNotFound> =>
  Option.match(found, { onNone: () => new UserNotFound({ login }, trusted), onSome: Effect.succeed })

const checkLimit = (limit: number): Effect.Effect<void, DatabaseError> =>
  Number.isInteger(limit) && limit >= 1 && limit <= maxPage ? Effect.void : new DatabaseError({
    reason: "ConstraintError",
    operation: "execute",
    message: `A page has 1 to ${maxPage} users, not ${limit}.`
  })

const maxPage = 10_000

const streamPage = 1_000

const pages = (list: Service["list"]): Service["stream"] =>
  Stream.paginateChunkEffect(
    undefined as string | undefined,
    (after) =>
      Effect.map(list({ after, limit: streamPage }), (page) => {
        const last = page.length < streamPage ? undefined : page.at(-1)
        return [Chunk.unsafeFromArray(page), Option.map(Option.fromNullable(last), (last) => Either.merge(last).login)]
      })
  )

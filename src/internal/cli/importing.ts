/** Stores the users of a file. */
import * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as Chunk from "effect/Chunk"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Avatar } from "../../Avatar.js"
import { type DatabaseError, fromSqlError } from "../../DatabaseError.js"
import { makeUsers } from "../users.js"
import { appender, sizeOf } from "./files.js"
import { makeProgress } from "./progress.js"
import { type Columns, type Format, records, type Reject, type User } from "./records.js"
import { Failed, printable } from "./terminal.js"

export type OnConflict = "fail" | "skip" | "update"

export interface Options {
  readonly file: string
  readonly format: Format
  readonly columns: Columns
  readonly delimiter: string
  /** What to do with a user whose login is taken, in the database or earlier in the file. */
  readonly onConflict: OnConflict
  /** Everything is stored, or nothing. */
  readonly isAtomic: boolean
  /** Where what is no user goes: it is made when there is something. */
  readonly rejects: string
}

/** What became of the users. */
export interface Counts {
  readonly stored: number
  readonly updated: number
  readonly skipped: number
  readonly rejected: number
}

/**
 * Stores group by group, each in a transaction of its own, while what follows is read: what was stored stays, whatever happens then. Fails at the first
 * taken login where `onConflict` is `"fail"`: the lines before it are stored, and no other.
 */
export const importUsers = (
  options: Options
): Effect.Effect<Counts, Failed | DatabaseError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const users = makeUsers(sql)
    const progress = makeProgress(yield* sizeOf(options.file))
    const append = appender(options.rejects)
    const insert = (wanted: ReadonlyArray<User>): Effect.Effect<Inserted, DatabaseError> =>
      users.insertMany(wanted as unknown as ReadonlyArray<Avatar>).pipe(
        Effect.catchIf(isOfOneRow, () => Effect.succeed(undefined)),
        Effect.flatMap((logins) =>
          logins === undefined
            ? oneByOne(wanted)
            : Effect.succeed<Inserted>({ taken: without(wanted, logins), refused: [], count: logins.length })
        )
      )

    /** The same where one of them cannot be stored, so that the others are. */
    const oneByOne: typeof insert = Effect.fnUntraced(function*(wanted) {
      const taken: Array<User> = []
      const refused: Array<Reject> = []
      for (const user of wanted) {
        const isStored = yield* sql.withTransaction(users.insert(user as unknown as Avatar)).pipe(
          Effect.mapError(typed),
          Effect.catchIf(isOfOneRow, ({ message }) =>
            Effect.sync(() =>
              void refused.push({ line: user.line, reason: message, text: JSON.stringify(user) })
            ))
        )
        if (isStored === false) {
          taken.push(user)
        }
      }
      return { taken, refused, count: wanted.length - taken.length - refused.length }
    })

    /** The same without those that are taken, in less time. */
    const insertUnnamed: typeof insert = (wanted) =>
      users.countInserted === undefined
        ? insert(wanted)
        : users.countInserted(wanted as unknown as ReadonlyArray<Avatar>).pipe(
          Effect.map((count): Inserted => ({ taken: [], refused: [], count })),
          Effect.catchIf(isOfOneRow, () => oneByOne(wanted))
        )

    /** Up to the first taken login, which it answers. */
    const storeFree = Effect.fnUntraced(function*(wanted: ReadonlyArray<User>, group: Group) {
      const repeated = firstOf(byLogin(wanted, "first").others)
      const isBefore = (end: User | undefined) => ({ line }: User) => end === undefined || line < end.line
      const candidates = wanted.filter(isBefore(repeated))
      const all = (by: typeof insert) =>
        sql.withTransaction(Effect.flatMap(by(candidates), (inserted) =>
          inserted.count + inserted.refused.length < candidates.length
            ? Effect.fail(new Taken(firstOf(inserted.taken)))
            : Effect.succeed(inserted)))
      const named = Effect.catchTag(all(insertUnnamed), "Taken", () =>
        all(insert))
      const [inserted, taken] = yield* Effect.matchEffect(Effect.mapError(named, typed), {
        onSuccess: (inserted) =>
          Effect.succeed([inserted, repeated] as const),
        onFailure: (error) =>
          error._tag !== "Taken"
            ? Effect.fail(error)
            : Effect.map(insert(candidates.filter(isBefore(error.user))), (inserted) => [inserted, error.user] as const)
      })
      group.stored += inserted.count
      group.refused.push(...inserted.refused)
      return taken
    })

    const store = Effect.fnUntraced(function*(wanted: ReadonlyArray<User>, group: Group) {
      const isUpdate = options.onConflict === "update"
      const { others, unique } = byLogin(wanted, isUpdate ? "last" : "first")
      const inserted = yield* (isUpdate ? insert : insertUnnamed)(unique)
      group.stored += inserted.count
      group.refused.push(...inserted.refused)
      if (isUpdate) {
        const upsert = (user: User) => users.upsert(user as unknown as Avatar)
        yield* Effect.forEach(inserted.taken, upsert, { concurrency: "unbounded", discard: true })
        group.updated += inserted.taken.length + others.length
      } else {
        group.skipped += unique.length - inserted.count - inserted.refused.length + others.length
      }
      return undefined
    })

    // Some blocks are stored while others are read, one by one: the thread that reads is the one that hears what was stored.
    const read = records(options.file, options.format, options.columns, options.delimiter)
    const pull = yield* Stream.toPull(Stream.grouped(Stream.buffer(read, { capacity: 2 * together }), together))

    /** Stores the next blocks, and answers what became of them: whether there are more, and whose login is taken. */
    const storeNext = Effect.gen(function*() {
      const group: Group = { stored: 0, updated: 0, skipped: 0, refused: [], hasMore: true, taken: undefined }
      for (let count = 0; count < groupSize && group.hasMore && group.taken === undefined;) {
        const blocks = yield* Effect.catchAll(
          pull,
          Option.match({ onNone: () => Effect.succeed(Chunk.empty()), onSome: (failed) => Effect.fail(failed) })
        )
        group.hasMore = Chunk.isNonEmpty(blocks)
        for (const several of blocks) {
          const users = Chunk.toReadonlyArray(several).flatMap(({ users }) => users)
          group.refused.push(...Chunk.toReadonlyArray(several).flatMap(({ rejects }) => rejects))
          if (users.length > 0 && group.taken === undefined) {
            group.taken = yield* (options.onConflict === "fail" ? storeFree : store)(users, group)
          }
          count += users.length
          progress.advance(Chunk.reduce(several, 0, (sum, { bytes }) => sum + bytes), users.length)
        }
      }
      return group
    })

    const transaction = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>) =>
      Effect.mapError(sql.withTransaction(effect), typed)

    const counts = { stored: 0, updated: 0, skipped: 0, rejected: 0 }
    const storeAll = (store: typeof storeNext) =>
      Effect.iterate(true, {
        while: (hasMore) => hasMore,
        body: () =>
          Effect.flatMap(store, ({ hasMore, refused, skipped, stored, taken, updated }) => {
            counts.stored += stored
            counts.updated += updated
            counts.skipped += skipped
            counts.rejected += refused.length
            const rest = options.isAtomic ? "Nothing is stored" : "What stands before it is stored, the rest is not"
            return Effect.zipRight(
              append(refused.map((one) => `${JSON.stringify(one)}\n`)),
              taken === undefined
                ? Effect.succeed(hasMore)
                : Effect.fail(
                  new Failed("absent", `Line ${taken.line}: the login '${printable(taken.login)}' is taken. ${rest}.`)
                )
            )
          })
      })

    const isWhole = Effect.suspend(() =>
      counts.rejected === 0 ? Effect.void : Effect.fail(
        new Failed(
          "malformed",
          `${linesOf(counts.rejected)} no user, so that nothing is stored: see '${options.rejects}'.`
        )
      )
    )
    const stopped = Effect.suspend(() =>
      Console.error(`Stopped: ${counts.stored} users are stored. The same with --on-conflict skip goes on.`)
    )
    yield* (options.isAtomic
      ? transaction(Effect.zipRight(storeAll(storeNext), isWhole))
      : Effect.onInterrupt(storeAll(transaction(storeNext)), () => stopped)).pipe(
        Effect.ensuring(Effect.sync(progress.end))
      )
    return counts
  }).pipe(Effect.scoped)

/** So many blocks of a file are stored by one statement. */
const together = 4

/** So many users or a block more share a transaction, about a second's work: a small one writes the same pages again and again. */
const groupSize = 100_000

/** What became of the users of one transaction, where it is committed. */
interface Group {
  stored: number
  updated: number
  skipped: number
  readonly refused: Array<Reject>
  hasMore: boolean
  taken: User | undefined
}

export const linesOf = (count: number): string => count === 1 ? "1 line is" : `${count} lines are`

interface Inserted {
  readonly count: number
  readonly taken: ReadonlyArray<User>
  readonly refused: ReadonlyArray<Reject>
}

class Taken {
  readonly _tag = "Taken"
  constructor(readonly user: User | undefined) {}
}

/** What a transaction itself fails with, typed. */
const typed = <E extends { readonly _tag: string }>(error: E | SqlError) =>
  error instanceof SqlError ? fromSqlError(error) : error

/** Whether it is a row that the database does not take, where others may be taken. */
const isOfOneRow = ({ reason }: DatabaseError) => reason === "ConstraintError" || reason === "UniqueViolation"

const without = (wanted: ReadonlyArray<User>, logins: ReadonlyArray<string>): ReadonlyArray<User> => {
  if (logins.length === wanted.length) {
    return []
  }
  const gone = new Set(logins)
  return wanted.filter(({ login }) => !gone.has(login))
}

/** One user a login, the first or the last; and the others. */
const byLogin = (wanted: ReadonlyArray<User>, which: "first" | "last") => {
  const kept = new Map<string, User>()
  const others: Array<User> = []
  for (const user of wanted) {
    const before = kept.get(user.login)
    if (before !== undefined) {
      others.push(which === "first" ? user : before)
    }
    if (before === undefined || which === "last") {
      kept.set(user.login, user)
    }
  }
  return { unique: others.length === 0 ? wanted : Array.from(kept.values()), others }
}

const firstOf = (users: ReadonlyArray<User>): User | undefined =>
  users.reduce<User | undefined>(
    (first, user) => first === undefined || user.line < first.line ? user : first,
    undefined
  )

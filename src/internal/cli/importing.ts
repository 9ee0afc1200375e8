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
import { type Columns, type Format, type Records, records, type Reject, type User } from "./records.js"
import { Failed, printable, tell } from "./terminal.js"

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

/** Fails where a file that can be read twice has no beginning of users. */
export const beginning = (
  { columns, delimiter, file, format }: Pick<Options, "columns" | "delimiter" | "file" | "format">
): Effect.Effect<void, Failed> =>
  records(file, format, columns, delimiter).pipe(
    Stream.filter(({ rejects, users }) => users.length + rejects.length > 0),
    Stream.take(1),
    Stream.runDrain
  )

/**
 * Stores group by group, each in a transaction of its own, while what follows is read: what was stored stays, whatever happens then. Fails at the first
 * taken login where `onConflict` is `"fail"`: the lines before it are stored, and no other. What is no user is told in one sentence.
 */
export const importUsers = (
  options: Options
): Effect.Effect<Counts, Failed | DatabaseError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const users = makeUsers(sql)
    const progress = makeProgress(yield* sizeOf(options.file))
    const append = appender(options.rejects)

    const alone = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>) =>
      Effect.mapError(sql.withTransaction(effect), typed)

    /** As few statements as can be. Fails where a login is taken that may not be: then nothing has happened. */
    const together = Effect.fnUntraced(function*(wanted: ReadonlyArray<Avatar>) {
      if (options.onConflict !== "update" && users.countInserted !== undefined) {
        const stored = yield* users.countInserted(wanted)
        return yield* cameOf(stored, wanted.length)
      }
      const logins = new Set<string>((yield* users.insertMany(wanted)) ?? (yield* Effect.fail(unusual)))
      if (options.onConflict !== "update") {
        return yield* cameOf(logins.size, wanted.length)
      }
      const taken = wanted.filter(({ login }) => !logins.has(login))
      if (taken.length > 0 && !(yield* users.upsertMany(taken))) {
        return yield* Effect.fail(unusual)
      }
      return { ...nothing, stored: logins.size, updated: taken.length }
    })

    const cameOf = (stored: number, of: number) =>
      stored === of || options.onConflict === "skip"
        ? Effect.succeed({ ...nothing, stored, skipped: of - stored })
        : Effect.fail(unusual)

    /** One after the other, as far as the first whose login is taken and may not be: whatever the database refuses, the others are stored. */
    const inOrder = Effect.fnUntraced(function*(wanted: ReadonlyArray<User>) {
      const came = { stored: 0, updated: 0, skipped: 0, refused: [] as Array<Reject> }
      for (const user of wanted) {
        const avatar = user as unknown as Avatar
        const insert = Effect.flatMap(alone(users.insert(avatar)), (isStored) =>
          isStored
            ? Effect.succeed("stored" as const)
            : options.onConflict === "update"
            ? Effect.as(alone(users.upsert(avatar)), "updated" as const)
            : Effect.succeed("skipped" as const))
        const became = yield* Effect.catchIf(insert, isOfOneRow, ({ message }) =>
          Effect.sync(() => {
            const { forname, line, login, name } = user
            came.refused.push({ line, reason: message, text: JSON.stringify({ login, name, forname }) })
            return undefined
          }))
        if (became === "skipped" && options.onConflict === "fail") {
          return { ...came, taken: user }
        }
        if (became !== undefined) {
          came[became] += 1
        }
      }
      return { ...came, taken: undefined }
    })

    /** A statement that counts meets equal logins in their order; for another they must be different. */
    const parts = (wanted: ReadonlyArray<User>) =>
      options.onConflict === "update" || users.countInserted === undefined ? withoutRepetition(wanted) : [wanted]

    const store = (wanted: ReadonlyArray<User>): Effect.Effect<Became, DatabaseError> => {
      const all = together(wanted as unknown as ReadonlyArray<Avatar>)
      // What nobody is to undo needs no savepoint of its own.
      const isOneStatement = options.onConflict === "skip" && users.countInserted !== undefined
      return Effect.catchAll(
        isOneStatement ? all : alone(all),
        (error) => error._tag === "Unusual" || isOfOneRow(error) ? inOrder(wanted) : Effect.fail(error)
      )
    }

    // Some blocks are stored while others are read, one by one: the thread that reads is the one that hears what was stored.
    const read = records(options.file, options.format, options.columns, options.delimiter)
    const pull = yield* Stream.toPull(
      Stream.grouped(Stream.buffer(read, { capacity: 2 * blocksTogether }), blocksTogether)
    )

    /** Stores the next blocks, and answers what became of them: whether there are more, and whose login is taken. */
    const storeNext = Effect.gen(function*() {
      const group: Group = { stored: 0, updated: 0, skipped: 0, refused: [], hasMore: true, taken: undefined }
      for (let count = 0; count < groupSize && group.hasMore && group.taken === undefined;) {
        const pulled = yield* Effect.catchAll(
          pull,
          Option.match({
            onNone: () => Effect.succeed(Chunk.empty<Chunk.Chunk<Records>>()),
            onSome: (failed) => Effect.fail(failed)
          })
        )
        group.hasMore = Chunk.isNonEmpty(pulled)
        const blocks = Chunk.toReadonlyArray(pulled).flatMap((several) => Chunk.toReadonlyArray(several))
        const wanted = blocks.flatMap(({ users }) => users)
        for (const part of parts(wanted)) {
          if (part.length === 0 || group.taken !== undefined) {
            break
          }
          const { refused, skipped, stored, taken, updated } = yield* store(part)
          group.stored += stored
          group.updated += updated
          group.skipped += skipped
          group.taken = taken
          refused.forEach((reject) => group.refused.push(reject))
        }
        for (const { bytes, rejects, users } of blocks) {
          rejects.forEach((reject) => group.refused.push(reject))
          count += users.length + rejects.length
          progress.advance(bytes, users.length)
        }
      }
      return group
    })

    const counts = { stored: 0, updated: 0, skipped: 0, rejected: 0 }
    const tellRejected = Effect.suspend(() =>
      counts.rejected === 0
        ? Effect.void
        : tell(new Failed("malformed", `${linesOf(counts.rejected)} no user: see '${options.rejects}'.`))
    )
    const told = ({ hasMore, refused, skipped, stored, taken, updated }: Group) =>
      Effect.suspend(() => {
        const before = refused.filter(({ line }) => taken === undefined || line < taken.line)
        counts.stored += stored
        counts.updated += updated
        counts.skipped += skipped
        counts.rejected += before.length
        const rest = options.isAtomic ? "Nothing is stored" : "What stands before it is stored, the rest is not"
        return Effect.zipRight(
          append(before.toSorted((one, other) => one.line - other.line).map((reject) => `${JSON.stringify(reject)}\n`)),
          taken === undefined
            ? Effect.succeed(hasMore)
            : Effect.zipRight(
              tellRejected,
              Effect.fail(
                new Failed("absent", `Line ${taken.line}: the login '${printable(taken.login)}' is taken. ${rest}.`)
              )
            )
        )
      })
    const untilEnd = <E>(next: Effect.Effect<boolean, E>) =>
      Effect.iterate(true, { while: (hasMore) => hasMore, body: () => next })

    const isWhole = Effect.suspend(() =>
      counts.rejected === 0 ? Effect.void : Effect.fail(
        new Failed(
          "malformed",
          `${linesOf(counts.rejected)} no user, so that nothing is stored: see '${options.rejects}'.`
        )
      )
    )
    const stopped = Effect.suspend(() =>
      Console.error(
        options.onConflict === "update"
          ? `Stopped: ${counts.stored} users are stored and ${counts.updated} updated, beside those that were there. The same goes on.`
          : `Stopped: ${counts.stored} users are stored, beside those that were there. The same with --on-conflict skip goes on.`
      )
    )
    // What is committed is counted, whenever it is stopped.
    const nextGroup = Effect.uninterruptibleMask((restore) => Effect.flatMap(alone(restore(storeNext)), told))
    let isStored = false
    const all = Effect.zipRight(untilEnd(Effect.flatMap(storeNext, told)), isWhole)
    yield* (options.isAtomic
      ? Effect.uninterruptibleMask((restore) =>
        Effect.map(alone(restore(all)), () => {
          isStored = true
        })
      ).pipe(
        Effect.onInterrupt(() =>
          Console.error(isStored ? "Stopped when all was stored." : "Stopped: nothing is stored.")
        )
      )
      : untilEnd(nextGroup).pipe(
        Effect.onInterrupt(() => stopped),
        // A taken login says itself what is stored.
        Effect.tapError((error) =>
          counts.stored + counts.updated === 0 || (error._tag === "Failed" && error.kind === "absent")
            ? Effect.void
            : stopped
        ),
        Effect.zipRight(tellRejected)
      )).pipe(
        Effect.ensuring(Effect.sync(progress.end))
      )
    return counts
  }).pipe(Effect.scoped)

/** So many blocks of a file are stored by one statement. */
const blocksTogether = 4

/** So many users or a block more share a transaction, about a second's work: a small one writes the same pages again and again. */
const groupSize = 100_000

/** What became of users, in the order of the file. */
interface Became {
  readonly stored: number
  readonly updated: number
  readonly skipped: number
  readonly refused: ReadonlyArray<Reject>
  /** The first whose login is taken, where that ends the import. */
  readonly taken: User | undefined
}

const nothing: Became = { stored: 0, updated: 0, skipped: 0, refused: [], taken: undefined }

/** What became of the users of one transaction, where it is committed. */
interface Group {
  stored: number
  updated: number
  skipped: number
  readonly refused: Array<Reject>
  hasMore: boolean
  taken: User | undefined
}

const unusual = { _tag: "Unusual" } as const

const linesOf = (count: number): string => count === 1 ? "1 line is" : `${count} lines are`

/** What a transaction itself fails with, typed. */
const typed = <E extends { readonly _tag: string }>(error: E | SqlError) =>
  error instanceof SqlError ? fromSqlError(error) : error

/** Whether it is a row that the database does not take, where others may be taken. */
const isOfOneRow = ({ reason }: DatabaseError) => reason === "ConstraintError" || reason === "UniqueViolation"

/** Neighbours in their order, cut where a login comes again. */
const withoutRepetition = (users: ReadonlyArray<User>): ReadonlyArray<ReadonlyArray<User>> => {
  const parts: Array<Array<User>> = [[]]
  const seen = new Set<string>()
  for (const user of users) {
    if (seen.has(user.login)) {
      seen.clear()
      parts.push([])
    }
    seen.add(user.login)
    parts.at(-1)!.push(user)
  }
  return parts
}

/** Lookups and creates of the repository, coalesced where they run by themselves, and in their caller's transaction where there is one. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import type { Avatar } from "../Avatar.js"
import type { DatabaseError } from "../DatabaseError.js"
import { awaited } from "./awaited.js"
import { Asked, Batches } from "./batches.js"
import { isInTransaction, isTraced } from "./fiber.js"
import type { Row } from "./row.js"
import type { Users } from "./users.js"

/** Looks a login up; `conclude` makes the caller's answer from its row. */
export const makeLookups = (users: Users) => {
  const batches = new Batches<string, Row | undefined>({
    name: "AvatarRepository.lookups",
    limits: users.limits,
    maxSize: 128,
    maxUnderWay: 2,
    run: users.findMany,
    send: users.sendMany
  })
  return <A, E>(
    name: string,
    login: string,
    conclude: (row: Row | undefined) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | DatabaseError> =>
    Effect.withFiberRuntime((fiber) => {
      if (isInTransaction(fiber)) {
        return Effect.withSpan(Effect.flatMap(users.find(login), conclude), name, { captureStackTrace: false })
      }
      // Without a canceller: an answer that nobody waits for any more is harmless.
      const ask = (span?: Tracer.Span) =>
        Effect.async<A, E | DatabaseError>((resume) => {
          const settle = (exit: Exit.Exit<Row | undefined, DatabaseError>) =>
            resume(Exit.isSuccess(exit) ? conclude(exit.value) : Exit.failCause(exit.cause))
          batches.add(new Asked(login, login, fiber, span, settle))
        })
      return isTraced(fiber) ? Effect.useSpan(name, { captureStackTrace: false }, ask) : ask()
    })
}

type Stored = Exit.Exit<boolean, DatabaseError>

/** Stores a user whose login is free; `conclude` makes the caller's answer from whether it was. */
export const makeCreates = (users: Users) => {
  const batches = new Batches<Avatar, Stored>({
    name: "AvatarRepository.creates",
    limits: users.limits,
    maxSize: 512,
    maxUnderWay: 2,
    run: (avatars) =>
      Effect.flatMap(insertEach(users, avatars), (stored) => {
        const [first, ...others] = new Set(stored.values())
        // One failure of all is the batch's own.
        return first !== undefined && Exit.isFailure(first) && others.length === 0 && stored.size === avatars.length
          ? Effect.failCause(first.cause)
          : Effect.succeed(avatars.map(({ login }) => stored.get(login) ?? Exit.succeed(false)))
      })
  })
  return <A, E>(
    name: string,
    avatar: Avatar,
    conclude: (isStored: boolean) => Exit.Exit<A, E>
  ): Effect.Effect<A, E | DatabaseError> =>
    Effect.withFiberRuntime((fiber) => {
      if (users.isGrouping === true || isInTransaction(fiber)) {
        const stored = Effect.flatMap(users.insert(avatar), conclude)
        return isTraced(fiber) ? Effect.withSpan(stored, name, { captureStackTrace: false }) : stored
      }
      const ask = (span?: Tracer.Span) =>
        awaited<Asked<Avatar, Stored>, A, E | DatabaseError>((settle) => {
          const asked = new Asked<Avatar, Stored>(avatar.login, avatar, fiber, span, (exit, isFirst) => {
            const stored = Exit.flatten(exit)
            if (isFirst || Exit.isSuccess(stored)) {
              settle(Exit.flatMap(stored, (isStored) => conclude(isFirst && isStored)))
            } else {
              // The first of its login could not be stored: perhaps this one can.
              asked.status = "waiting"
              batches.add(asked)
            }
          })
          batches.add(asked)
          return asked
        }, withdraw)
      return isTraced(fiber) ? Effect.useSpan(name, { captureStackTrace: false }, ask) : ask()
    })
}

/** What became of each. Where the data of one is refused nothing of the statement is stored: then each half is tried again. */
const insertEach = (users: Users, avatars: ReadonlyArray<Avatar>): Effect.Effect<ReadonlyMap<string, Stored>> => {
  if (avatars.length === 1) {
    const [avatar] = avatars as [Avatar]
    return Effect.map(Effect.exit(users.insert(avatar)), (stored) => new Map([[avatar.login, stored]]))
  }
  const halves = () => {
    const half = avatars.length >> 1
    return Effect.zipWith(
      insertEach(users, avatars.slice(0, half)),
      insertEach(users, avatars.slice(half)),
      (one, other) => new Map([...one, ...other])
    )
  }
  return Effect.matchEffect(users.insertMany(avatars), {
    onSuccess: (logins) => logins === undefined ? halves() : Effect.succeed(each(logins, Exit.succeed(true))),
    onFailure: (error) =>
      error.reason === "ConstraintError" || error.reason === "UniqueViolation"
        ? halves()
        : Effect.succeed(each(avatars.map(({ login }) => login), Exit.fail(error)))
  })
}

const each = (logins: ReadonlyArray<string>, stored: Stored): ReadonlyMap<string, Stored> =>
  new Map(logins.map((login) => [login, stored] as const))

/** One that has left is on its way to the database. */
const withdraw = (asked: Asked<Avatar, Stored>): boolean => {
  if (asked.status === "waiting") {
    asked.status = "withdrawn"
  }
  return asked.status === "withdrawn"
}

/** The commands of the model test that ask one thing: of the repository, or by a statement. */
import { SqlError } from "@effect/sql"
import { type AvatarRepository, DatabaseError } from "effect-avatars"
import { Effect, Either, Option, Stream } from "effect"
import { avatar, login, turns } from "./lookups.js"
import type { Answer } from "./model.js"
import type { Moment, Step } from "./model.commands.js"
import type { Db } from "./model.engines.js"

export type Failure = DatabaseError.DatabaseError

/** Logins that only exact comparison tells apart, in code-point order; UTF-16 orders the last two the other way. */
const endings = ["K", "k", "k ", "k\uFF5E", "k\u{1F469}"]

/** A track's logins. */
export const namesOf = (prefix: (track: number) => string, track: number) => {
  const own = prefix(track)
  return {
    own,
    all: endings.map((ending) => own + ending),
    of: (k: number) => k === -1 ? own : own + endings[k],
    others: (track: number, k: number) => prefix(track) + endings[k],
    keyOf: (login: string) => login.startsWith(own) ? endings.indexOf(login.slice(own.length)) : -1
  }
}

export type Names = ReturnType<typeof namesOf>

export const typed = <A, E>(effect: Effect.Effect<A, E | SqlError.SqlError>) =>
  Effect.mapError(
    effect,
    (error) =>
      error instanceof SqlError.SqlError ? DatabaseError.fromSqlError(error) : error as Exclude<E, SqlError.SqlError>
  )

export const wait = ({ turns: count, yields }: Moment) =>
  Effect.zipRight(
    yields === 0 ? Effect.void : Effect.repeatN(Effect.yieldNow(), yields - 1),
    count === 0 ? Effect.void : turns(count - 1)
  )

/** What a consumer does with each row. */
export const linger = (isSlow: boolean) => isSlow ? turns(2) : Effect.void

/** What is right about a failure is its answer; of what the database failed it fails. */
const answered = <A>(
  effect: Effect.Effect<A, { readonly _tag: string }>,
  onSuccess: (value: A) => Answer
): Effect.Effect<Answer, Failure> =>
  Effect.matchEffect(effect, {
    onFailure: (error) =>
      error instanceof DatabaseError.DatabaseError ? Effect.fail(error) : Effect.succeed(error._tag),
    onSuccess: (value) => Effect.succeed(onSuccess(value))
  })

const did = (write: Effect.Effect<void, { readonly _tag: string }>) => answered(write, () => "done")

const statement = (write: Effect.Effect<unknown, SqlError.SqlError>) => Effect.as(typed(write), "done")

const nameOf = (found: Effect.Effect.Success<ReturnType<AvatarRepository.Service["getUserAvatar"]>>) =>
  found.forname === `Forname of ${found.login}` ? found.name : `torn: ${found.render()}`

/** Nothing where the command has others in it. */
export const simple = (
  { sql, users }: Db,
  names: Names,
  { command, value }: Step
): Effect.Effect<Answer, Failure> | undefined => {
  const name = names.of
  /** An own row, or nothing. */
  const rowOf = (
    found: Either.Either<{ readonly login: string; readonly name: string }, { readonly login: string }>
  ) => {
    const k = names.keyOf(Either.merge(found).login)
    return k < 0 ? [] : [[k, Either.isRight(found) ? found.right.name : "MalformedUser"]]
  }
  switch (command._) {
    case "get":
      return answered(users.getUserAvatar(login(name(command.k))), nameOf)
    case "find":
      return answered(
        users.findUserAvatar(login(name(command.k))),
        Option.match({ onNone: () => "UserNotFound", onSome: nameOf })
      )
    case "others":
      return answered(
        users.getUserAvatar(login(names.others(command.track, command.k))),
        nameOf
      )
    case "bulk":
      return answered(users.getUserAvatars(command.ks.map((k) => login(name(k)))), (found) =>
        command.ks.map((k) => {
          const answer = found.get(login(name(k)))
          return answer === undefined
            ? "UserNotFound"
            : Either.isRight(answer)
            ? nameOf(answer.right)
            : answer.left._tag
        }))
    case "list":
      return answered(users.list({ after: name(command.k), limit: command.limit }), (page) => page.flatMap(rowOf))
    case "pages":
      return answered(
        Stream.runCollect(
          Stream.paginateEffect(
            names.own,
            (after) =>
              Effect.map(users.list({ after, limit: command.limit }), (page) => {
                const last = page.length < command.limit ? undefined : Either.merge(page.at(-1)!).login
                return [page.flatMap(rowOf), last?.startsWith(names.own) === true ? Option.some(last) : Option.none()]
              })
          )
        ),
        (pages) => Array.from(pages).flat()
      )
    case "stream":
      return answered(
        users.stream.pipe(
          Stream.mapConcat(rowOf),
          Stream.take(command.take),
          Stream.tap(() => linger(command.slowly)),
          Stream.runCollect
        ),
        (rows) => Array.from(rows)
      )
    case "count":
      return answered(users.count, (count) => count)
    case "create":
    case "update":
    case "upsert":
      return did(users[command._](avatar(name(command.k), value)))
    case "remove":
      return did(users.remove(login(name(command.k))))
    case "insertNull":
      return statement(sql!`
        insert into users (login, name, forname) select ${name(command.k)}, null, '' from (select 1 as one) as one
        where not exists (select 1 from users where login = ${name(command.k)})
      `)
    case "spoil":
      return statement(sql!`update users set name = null where login = ${name(command.k)}`)
    case "pause":
      return Effect.as(wait(command.at), "done")
    default:
      return undefined
  }
}

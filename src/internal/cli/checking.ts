/** Looks a database over: is it sound, does its table fit, are its rows avatars, and how is its pool set. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import { AvatarRepository } from "../../AvatarRepository.js"
import { type DatabaseError, fromSqlError } from "../../DatabaseError.js"
import { looksOf } from "./looks.js"
import { Failed, printable, tell } from "./terminal.js"

/** Prints a line a look; what is wrong is told on stderr, and the others go on. */
export const check: Effect.Effect<void, DatabaseError, SqlClient.SqlClient | AvatarRepository> = Effect.gen(
  function*() {
    const sql = yield* SqlClient.SqlClient
    const users = yield* AvatarRepository
    const look = looksOf(sql)
    yield* Console.log(`database: ${yield* typed(look.version)}`)

    const damages = yield* typed(look.integrity)
    yield* damages.length === 0
      ? Console.log("integrity: sound")
      : Effect.forEach(damages, (damage) => tell(new Failed("database", `The database is damaged: ${damage}`)))

    const columns = yield* typed(look.columns)
    const lack = lackOf(columns)
    if (lack !== undefined) {
      return yield* tell(lack)
    }
    yield* Console.log(printable(`columns: ${columns.join(", ")}`))
    const unfaithful = unfaithfulOf(yield* typed(look.unfaithful), "malformed")
    yield* unfaithful === undefined ? Effect.void : tell(unfaithful)
    yield* !(yield* typed(look.isUnique))
      ? tell(new Failed("malformed", "The column login has no unique index: a login may be there twice."))
      : (yield* typed(look.isExact))
      ? Console.log("logins: unique")
      : tell(
        new Failed(
          "malformed",
          "Logins are unique by a collation: of two that it takes for equal, such as yoen and Yoen, one can be stored."
        )
      )

    const rows = { avatars: 0, malformed: 0 }
    yield* Stream.runForEach(users.stream, (user) => {
      rows[Either.isRight(user) ? "avatars" : "malformed"] += 1
      return Either.isLeft(user) ? tell(user.left) : Effect.void
    })
    yield* Console.log(`users: ${rows.avatars} avatars, ${rows.malformed} malformed`)
    yield* tellNobodies
    yield* Effect.flatMap(
      typed(look.settings),
      (settings) => Console.log(`settings: ${settings.map(([name, value]) => `${name} ${value}`).join(", ")}`)
    )
  }
)

/** Tells of rows that no stream has, since they have no login to be found by. */
export const tellNobodies: Effect.Effect<void, DatabaseError, SqlClient.SqlClient> = Effect.gen(function*() {
  const count = yield* typed(looksOf(yield* SqlClient.SqlClient).nobodies)
  if (count > 0) {
    const have = count === 1 ? "1 row has" : `${count} rows have`
    yield* tell(new Failed("malformed", `${have} no login, or one that is no text: nobody can be found by it.`))
  }
})

/** What a table needs to have users in it. */
const lackOf = (columns: ReadonlyArray<string>): Failed | undefined => {
  const missing = ["login", "name", "forname"].filter((column) => !columns.includes(column))
  return missing.length === 0
    ? undefined
    : new Failed(
      "database",
      columns.length === 0
        ? "No user can be looked up: there is no table users, which effect-avatars migrate makes."
        : `No user can be looked up: the table users has no column ${missing.join(", ")}.`
    )
}

/** Fails where there is no table that may have users in it. */
export const hasTable: Effect.Effect<void, Failed | DatabaseError, SqlClient.SqlClient> = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const lack = lackOf(yield* typed(looksOf(sql).columns))
  if (lack !== undefined) {
    return yield* Effect.fail(lack)
  }
})

/** Fails where there is no table that stores users as they are. */
export const takesUsers: Effect.Effect<void, Failed | DatabaseError, SqlClient.SqlClient> = Effect.gen(function*() {
  yield* hasTable
  const unfaithful = unfaithfulOf(yield* typed(looksOf(yield* SqlClient.SqlClient).unfaithful), "database")
  if (unfaithful !== undefined) {
    return yield* Effect.fail(unfaithful)
  }
})

const unfaithfulOf = (columns: ReadonlyArray<string>, kind: "database" | "malformed"): Failed | undefined =>
  columns.length === 0 ? undefined : new Failed(
    kind,
    `The table users has columns that do not keep texts as they are (007 may become 7, or get blanks): ${
      columns.join(", ")
    }. Give them the type text.`
  )

/** Fails where the database cannot tell whether a login is taken. */
export const tellsTaken: Effect.Effect<void, Failed | DatabaseError, SqlClient.SqlClient> = Effect.gen(function*() {
  if (!(yield* typed(looksOf(yield* SqlClient.SqlClient).isUnique))) {
    return yield* Effect.fail(notUnique)
  }
})

export const notUnique = new Failed(
  "database",
  "No user can be added, since the column login has no unique index: make one by create unique index users_login on users (login)."
)

/** Whether no user can be added since the database cannot tell whether a login is taken: what SQLite and PostgreSQL answer then has other reasons too. */
export const lacksUniqueLogin = ({ code }: DatabaseError): Effect.Effect<boolean, never, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    if (code !== "SQLITE_ERROR" && code !== "42P10") {
      return false
    }
    const look = looksOf(yield* SqlClient.SqlClient)
    return lackOf(yield* look.columns) === undefined && (yield* look.isTable) && !(yield* look.isUnique)
  }).pipe(Effect.orElseSucceed(() => false))

const typed = Effect.mapError((error: SqlError) => fromSqlError(error))

/** What the command line was given, as what a command works with. */
import * as Command from "@effect/cli/Command"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as SqlClient from "@effect/sql/SqlClient"
import * as fs from "node:fs"
import { Avatar, Login } from "../../Avatar.js"
import * as AvatarRepository from "../../AvatarRepository.js"
import * as Database from "../../Database.js"
import type { DatabaseError } from "../../DatabaseError.js"
import { parse } from "../sqliteUrl.js"
import { hasTable, lacksUniqueLogin, notUnique, takesUsers } from "./checking.js"
import { areSame, resolved } from "./files.js"
import { standard, terminal } from "./output.js"
import type { Format } from "./records.js"
import { Failed, type Failure, tell } from "./terminal.js"

/** A command whose failures are told. */
export const command = <const Name extends string, const Options extends Command.Command.Config>(
  name: Name,
  description: string,
  options: Options,
  handle: (given: Command.Command.ParseConfig<Options>) => Effect.Effect<void, Failure>
) =>
  Command.make(name, options, (given) => Effect.withConsole(Effect.catchAll(handle(given as never), tell), terminal))
    .pipe(
      Command.withDescription(description)
    )

export const usage = (message: string) => Effect.fail(new Failed("usage", message))

/** What begins with a dash would be an option, had it a meaning: behind `--`, and behind `=`, it is what it is. */
export const usable = (values: ReadonlyArray<string>): Effect.Effect<void, Failed> => {
  const at = process.argv.indexOf("--")
  const literal = at === -1 ? [] : process.argv.slice(at + 1)
  const isLiteral = (value: string) =>
    literal.includes(value) ||
    process.argv.some((text) => text.startsWith("--") && text.replace(/^[^=]*/, "") === `=${value}`)
  const wrong = values.find((value) => value.startsWith("-") && !isLiteral(value))
  return wrong === undefined
    ? Effect.void
    : usage(
      `'${wrong}' is no option of this command, or its value is missing; what is no option stands behind --. See --help.`
    )
}

/** One letter alone is a drive of Windows. */
const scheme = /^[a-z](?:[a-z0-9+.-]+:|:\/\/)/i

/** Also one in what is no URL: any ':' but a scheme's and a port's, and an '@' after it. */
const hasPassword = /^(?!sqlite:)[^]*:(?!\/\/|\d*[/?])[^]*@/i

/** What would be a URL, were it written right: it is not told, since a password may stand in it. */
const isMistyped = (text: string) => !scheme.test(text) && /:\/\/|:[^/]*@/.test(text) && !fs.existsSync(text)

const named = (database: string): Effect.Effect<Option.Option<string>, Failed> =>
  database.trim() === ""
    ? usage("--database names no file and no URL.")
    : (scheme.test(database) || isMistyped(database)) && hasPassword.test(database)
    ? usage("A password in --database is shown to everybody by `ps`: give the URL in DATABASE_URL.")
    : Effect.as(Effect.zipRight(usable([database]), wellTyped("--database", database)), Option.some(database))

const wellTyped = (from: string, text: string): Effect.Effect<void, Failed> =>
  isMistyped(text)
    ? usage(`${from} is no URL, and names no file: write for example postgres://user@host/database, without quotes.`)
    : Effect.void

/** The database of an option, a file or a URL, or else that of DATABASE_URL. */
export const urlOf = (database: Option.Option<string>): Effect.Effect<Option.Option<Redacted.Redacted>, Failed> =>
  Effect.map(
    Option.isSome(database)
      ? named(database.value)
      : Effect.tap(
        Effect.orDie(Config.option(Config.nonEmptyString("DATABASE_URL"))),
        (found) => Option.isSome(found) ? wellTyped("DATABASE_URL", found.value) : Effect.void
      ),
    Option.map((text) => Redacted.make(scheme.test(text) ? text : `sqlite:${encodeURIComponent(text)}`))
  )

/** Refuses to write over what is read, and over the database. */
export const apart = (
  output: string,
  input: string | undefined,
  database: Option.Option<string>
): Effect.Effect<void, Failed | DatabaseError> =>
  Effect.gen(function*() {
    if (output === standard) {
      return
    }
    if (input !== undefined && areSame(output, input)) {
      yield* usage(`'${output}' is what is read: it would be written over.`)
    }
    const url = Option.getOrUndefined(Option.map(yield* urlOf(database), Redacted.value))
    if (url !== undefined && /^sqlite:/i.test(url)) {
      const { filename } = yield* parse(url)
      const file = resolved(filename)
      if (["", "-wal", "-shm", "-journal"].some((end) => areSame(output, file + end))) {
        yield* usage(`'${output}' is the database, or a file that belongs to it: it would be written over.`)
      }
    }
  })

const needed = (database: Option.Option<string>) =>
  Effect.flatMap(
    urlOf(database),
    Option.match({
      onNone: () => usage("No database is named: say --database users.sqlite, or set DATABASE_URL."),
      onSome: Effect.succeed
    })
  )

type Use<E, R> = (users: AvatarRepository.Service) => Effect.Effect<void, E, R>

const using = <E>(url: Redacted.Redacted, isReadonly: boolean, use: Use<E, SqlClient.SqlClient>) =>
  Effect.provide(
    Effect.flatMap(AvatarRepository.AvatarRepository, use),
    Layer.provideMerge(AvatarRepository.layer, Database.layer(url, isReadonly ? { readonly: true } : {}))
  )

/** Opens a database that is not changed, whatever is in it. */
export const looking = <E>(database: Option.Option<string>, use: Use<E, SqlClient.SqlClient>) =>
  Effect.flatMap(needed(database), (url) => using(url, true, use))

/** Opens a database that is not changed, for its users. */
export const reading = <E>(database: Option.Option<string>, use: Use<E, SqlClient.SqlClient>) =>
  looking(database, (users) => Effect.zipRight(hasTable, use(users)))

/** Opens a database to change its users, where its table fits: nothing that is missing is made. */
export const changing = <E>(
  database: Option.Option<string>,
  fits: typeof hasTable,
  use: Use<E, SqlClient.SqlClient>
) =>
  Effect.flatMap(
    Effect.tap(needed(database), isThere),
    (url) => Effect.zipRight(using(url, true, () => fits), using(url, false, use))
  )

/** Opens a database to add users, and makes it and its table where they are missing. */
export const making = <E extends { readonly _tag: string }>(
  database: Option.Option<string>,
  use: Use<E, SqlClient.SqlClient>
) =>
  Effect.flatMap(
    needed(database),
    (url) =>
      using(url, false, (users) =>
        Effect.catchAll(Effect.zipRight(takesUsers, use(users)), (error) =>
          Effect.flatMap(
            isDatabaseError(error) ? lacksUniqueLogin(error) : Effect.succeed(false),
            (lacks) => Effect.fail(lacks ? notUnique : error)
          )))
  )

const isDatabaseError = (error: { readonly _tag: string }): error is DatabaseError => error._tag === "DatabaseError"

const isThere = (url: Redacted.Redacted): Effect.Effect<void, Failed | DatabaseError> =>
  !/^sqlite:/i.test(Redacted.value(url))
    ? Effect.void
    : Effect.flatMap(parse(Redacted.value(url)), ({ filename }) =>
      filename === ":memory:" || fs.existsSync(filename)
        ? Effect.void
        : Effect.fail(new Failed("database", `There is no database '${filename}': effect-avatars migrate makes one.`)))

export const loginOf = (text: string): Effect.Effect<Login, Failed> =>
  Effect.mapError(
    Schema.decode(Login)(text),
    ({ message }) => new Failed("usage", `${JSON.stringify(text)} is no login: ${message}`)
  )

export const avatarOf = (avatar: typeof Avatar.Encoded): Effect.Effect<Avatar, Failed> =>
  Effect.zipRight(
    loginOf(avatar.login),
    Effect.mapError(Schema.decode(Avatar)(avatar), () =>
      new Failed("usage", "A name is well-formed text without the character U+0000."))
  )

export const formatOf = (file: string, format: Option.Option<Format>): Effect.Effect<Format, Failed> => {
  if (Option.isSome(format)) {
    return Effect.succeed(format.value)
  }
  return file === standard || /\.csv$/i.test(file)
    ? Effect.succeed("csv")
    : /\.(ndjson|jsonl)$/i.test(file)
    ? Effect.succeed("ndjson")
    : usage(`The name '${file}' does not tell whether it is CSV or NDJSON: say --format csv or --format ndjson.`)
}

export const delimiterOf = (given: string): Effect.Effect<string, Failed> => {
  const delimiter = given === "\\t" ? "\t" : dash(given)
  return Buffer.byteLength(delimiter) === 1 && !/["\r\n]/.test(delimiter)
    ? Effect.succeed(delimiter)
    : usage("--delimiter is one character of ASCII, no quote and no end of a line; \\t is a tab.")
}

/**
 * The arguments as the parser takes them: first a command, `lookup` where none is named, also where a database stands before it; and for a dash
 * alone, behind which it would see no option, what stands for it.
 */
export const arranged = (given: ReadonlyArray<string>, commands: ReadonlyArray<string>): ReadonlyArray<string> => {
  let at = 0
  while (/^(-d|--database)(=|$)/.test(given[at] ?? "")) {
    at += given[at]!.includes("=") ? 1 : 2
  }
  const end = given.includes("--") ? given.indexOf("--") : given.length
  const args = given.map((text, i) => text === "-" && i < end ? standard : text)
  const before = args.slice(0, at)
  const [first = "", ...rest] = args.slice(at)
  return commands.includes(first)
    ? [first, ...before, ...rest]
    : before.length === 0 && builtIn.test(first)
    ? args
    : ["lookup", ...args]
}

/** Of what the parser itself would take, and this program has not. */
export const refusalOf = (given: ReadonlyArray<string>): Failed | undefined => {
  const options = given.slice(0, given.includes("--") ? given.indexOf("--") : undefined)
  const wrong = options.find((text) => /^--(?:wizard|log-level)(?:=|$)/.test(text))
  if (wrong !== undefined) {
    return new Failed("usage", `'${wrong}' is no option. See --help.`)
  }
  const valued = options.find((text) => /^--(?:atomic|json)=/.test(text))
  if (valued !== undefined) {
    return new Failed("usage", `'${valued}': ${valued.replace(/=[^]*/, "")} takes no value.`)
  }
  return options[0] === "--completions" && !/^(?:bash|zsh|fish)$/.test(options[1] ?? "")
    ? new Failed("usage", "--completions is for bash, zsh or fish.")
    : undefined
}

const builtIn = /^(-h|--help|--version|--completions)(=|$)/

/** The dash that a value other than a file's is. */
export const dash = (text: string): string => text === standard ? "-" : text

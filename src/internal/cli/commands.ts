/** What can be asked of the command line, and what answers it. */
import * as Args from "@effect/cli/Args"
import * as Options from "@effect/cli/Options"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { existsSync } from "node:fs"
import { basename } from "node:path"
import { AvatarRepository } from "../../AvatarRepository.js"
import * as Database from "../../Database.js"
import * as arg from "./arguments.js"
import { check, hasTable, takesUsers, tellNobodies, tellsTaken } from "./checking.js"
import { demonstration } from "./demonstration.js"
import { json, table, texts } from "./exporting.js"
import { isRegular, lines, withoutRejects, write } from "./files.js"
import { beginning, importUsers } from "./importing.js"
import { standard } from "./output.js"
import type { Columns } from "./records.js"
import { Failed, printable, tell } from "./terminal.js"

/** What each command does. */
export const descriptions = {
  lookup: "Looks users up, several at once, and prints them in the order asked. The word lookup can be left out.",
  add: "Adds a user. Makes the database where there is none.",
  set: "Gives a user another name, another forname, or both; both together mend a malformed one.",
  remove: "Removes users.",
  list: "Prints all users in code-point order of their logins.",
  count: "Prints how many users there are, malformed ones too.",
  import:
    "Stores the users of a file. What is stored stays when it is stopped: the same with --on-conflict skip goes on. Makes the database where there is none.",
  export:
    "Writes all users that are avatars into a file, which is there when all are in it, or not at all; of each other one it tells.",
  migrate: "Makes the database and its table users where they are missing.",
  check: "Looks a database over: whether it is sound, its table fits and its rows are users; and tells how it is set."
}

// What several commands ask for.

export const database = Options.text("database").pipe(
  Options.withAlias("d"),
  Options.withPseudoName("file or URL"),
  Options.withDescription(
    "Where the users are: an SQLite file (users.sqlite), or a URL (sqlite:./users.sqlite?maxReaders=8, postgres://user@host/database, " +
      "mysql://user@host/database). Where it is absent, DATABASE_URL says it: a password belongs there, since everybody on the machine can read " +
      "a command line."
  ),
  Options.optional
)

const login = Args.text({ name: "login" }).pipe(Args.withDescription("What a user is known by, exactly."))

const format = Options.choice("format", ["csv", "ndjson"]).pipe(
  Options.withDescription(
    "By default what the file's name ends with: .csv, or .ndjson and .jsonl. Standard input and output are csv."
  ),
  Options.optional
)

const column = (field: string) =>
  Options.text(`${field}-column`).pipe(
    Options.withDefault(field),
    Options.withDescription(`What the file calls a user's ${field}.`)
  )

const columns = { login: column("login"), name: column("name"), forname: column("forname") }

const delimiter = Options.text("delimiter").pipe(
  Options.withDefault(","),
  Options.withDescription(
    "What stands between two fields of CSV: one character of ASCII, a comma where nothing is said; \\t is a tab."
  )
)

/** As they were given. */
const named = ({ forname, login, name }: Columns): Columns => ({
  login: arg.dash(login),
  name: arg.dash(name),
  forname: arg.dash(forname)
})

// The commands.

const lookup = arg.command("lookup", descriptions.lookup, {
  database,
  format: Options.choice("format", ["text", "json"]).pipe(
    Options.withDefault("text"),
    Options.withDescription("A sentence a user, or a JSON object a line.")
  ),
  concurrency: Options.text("concurrency").pipe(
    Options.withPseudoName("number"),
    Options.withDefault("16"),
    Options.withDescription("How many lookups are under way at once: 16 where nothing is said.")
  ),
  logins: Args.repeated(
    Args.withDescription(login, "Whom to look up; - reads logins from standard input, one a line.")
  )
}, ({ concurrency, database, format, logins }) =>
  Effect.gen(function*() {
    yield* arg.usable(logins)
    if (logins.length === 0) {
      return yield* arg.usage("Name the logins to look up, for example: effect-avatars --database users.sqlite yoen")
    }
    const atOnce = Number(concurrency)
    if (!/^\d+$/.test(concurrency) || atOnce < 1) {
      return yield* arg.usage(`--concurrency is a whole number from 1, not '${printable(concurrency)}'.`)
    }
    const lookUp = Effect.flatMap(AvatarRepository, (users) =>
      Stream.fromIterable(logins).pipe(
        Stream.flatMap((login) => login === standard ? lines(standard) : Stream.succeed({ text: login, isUtf8: true })),
        Stream.mapEffect(
          ({ isUtf8, text }) =>
            Effect.either(Effect.flatMap(
              isUtf8
                ? arg.loginOf(text)
                : Effect.fail(new Failed("malformed", `The line '${printable(text)}' of standard input is not UTF-8.`)),
              users.getUserAvatar
            )),
          { concurrency: atOnce }
        ),
        Stream.tap((answer) => Either.isLeft(answer) ? tell(answer.left) : Effect.void),
        Stream.filterMap(Either.getRight),
        Stream.map((avatar) => `${format === "json" ? json(avatar) : printable(avatar.render())}\n`),
        (answers) => write(standard, answers)
      ))
    if (Option.isSome(yield* arg.urlOf(database))) {
      return yield* arg.reading(database, (users) => Effect.provideService(lookUp, AvatarRepository, users))
    }
    yield* Console.error(
      "No database was named by --database or DATABASE_URL: these are the demonstration's users. See --help."
    )
    yield* Effect.provide(lookUp, demonstration)
  }))

const add = arg.command("add", descriptions.add, {
  database,
  login,
  name: Args.text({ name: "name" }).pipe(Args.withDescription("The family name, as \"Van der Veld\".")),
  forname: Args.text({ name: "forname" }).pipe(Args.withDescription("The first name, as Yoen."))
}, ({ database, ...fields }) =>
  Effect.gen(function*() {
    yield* arg.usable(Object.values(fields))
    const { forname, login, name } = fields
    const avatar = yield* arg.avatarOf({ login: arg.dash(login), name: arg.dash(name), forname: arg.dash(forname) })
    yield* arg.making(database, (users) => users.create(avatar))
  }))

const set = arg.command("set", descriptions.set, {
  database,
  name: Options.optional(Options.text("name").pipe(Options.withDescription("The new family name."))),
  forname: Options.optional(Options.text("forname").pipe(Options.withDescription("The new first name."))),
  login
}, ({ database, forname, login, name }) =>
  Effect.gen(function*() {
    yield* arg.usable([login, ...Option.toArray(name), ...Option.toArray(forname)])
    if (Option.isNone(name) && Option.isNone(forname)) {
      return yield* arg.usage("Say what to set, for example: effect-avatars set yoen --name \"Van der Veld\"")
    }
    const known = yield* arg.loginOf(arg.dash(login))
    yield* arg.changing(database, takesUsers, (users) =>
      Database.transaction(Effect.gen(function*() {
        const before = Option.isSome(name) && Option.isSome(forname)
          ? { name: "", forname: "" }
          : yield* users.getUserAvatar(known)
        const after = {
          login: known,
          name: Option.match(name, { onNone: () => before.name, onSome: arg.dash }),
          forname: Option.match(forname, { onNone: () => before.forname, onSome: arg.dash })
        }
        yield* Effect.flatMap(arg.avatarOf(after), users.update)
      })))
  }))

const remove = arg.command(
  "remove",
  descriptions.remove,
  { database, logins: Args.atLeast(login, 1) },
  ({ database, logins }) =>
    Effect.zipRight(
      arg.usable(logins),
      arg.changing(database, hasTable, (users) =>
        Effect.forEach(
          logins,
          (login) => Effect.catchAll(Effect.flatMap(arg.loginOf(arg.dash(login)), users.remove), tell),
          { discard: true }
        ))
    )
)

const list = arg.command(
  "list",
  descriptions.list,
  {
    database,
    json: Options.boolean("json").pipe(Options.withDescription("A JSON object a line instead of a table."))
  },
  ({ database, json }) =>
    arg.reading(
      database,
      ({ stream }) => Effect.zipRight(write(standard, json ? texts(stream, "ndjson") : table(stream)), tellNobodies)
    )
)

const count = arg.command(
  "count",
  descriptions.count,
  { database },
  ({ database }) => arg.reading(database, (users) => Effect.flatMap(users.count, (count) => Console.log(count)))
)

const importing = arg.command("import", descriptions.import, {
  database,
  format,
  columns,
  delimiter,
  onConflict: Options.choice("on-conflict", ["fail", "skip", "update"]).pipe(
    Options.withDefault("fail"),
    Options.withDescription(
      "What to do with a login that is taken: stop before its line, as it does where nothing is said; leave the user who has it; or give that user the names of the file."
    )
  ),
  isAtomic: Options.boolean("atomic").pipe(
    Options.withDescription("Store all of it, or nothing where one line is no user or the database takes none.")
  ),
  rejects: Options.text("rejects").pipe(
    Options.withPseudoName("file"),
    Options.withDescription(
      "Where the lines go that are no user, each as JSON with its number and why: by default users.csv.rejects.ndjson for users.csv, stdin.rejects.ndjson for standard input."
    ),
    Options.optional
  ),
  file: Args.text({ name: "file" }).pipe(
    Args.withDescription("CSV, whose first line names its columns, or NDJSON; - is standard input.")
  )
}, ({ database, file, ...given }) =>
  Effect.gen(function*() {
    yield* arg.usable([file])
    const delimiter = yield* arg.delimiterOf(given.delimiter)
    const isFile = file !== standard && (isRegular(file) || !existsSync(file))
    const beside = file === standard ? "stdin" : isFile ? file : basename(file)
    const rejects = Option.getOrElse(given.rejects, () => `${beside}.rejects.ndjson`)
    if (rejects === standard || rejects === "") {
      return yield* arg.usage(`--rejects is a file: '${arg.dash(rejects)}' is none.`)
    }
    yield* arg.apart(rejects, file, database)
    const columns = named(given.columns)
    const options = { ...given, columns, delimiter, file, rejects, format: yield* arg.formatOf(file, given.format) }
    // What cannot be read makes no database.
    yield* isFile ? beginning(options) : Effect.void
    yield* arg.making(database, () =>
      Effect.gen(function*() {
        const { rejected, skipped, stored, updated } = yield* importUsers(options)
        // Those of an earlier import of the file, of which none is left.
        yield* rejected === 0 && isFile && Option.isNone(given.rejects) ? withoutRejects(rejects) : Effect.void
        yield* Console.log(`${stored} stored, ${updated} updated, ${skipped} skipped, ${rejected} rejected`)
      }))
  }))

const exporting = arg.command("export", descriptions.export, {
  database,
  format,
  columns,
  delimiter,
  file: Args.text({ name: "file" }).pipe(
    Args.withDefault(standard),
    Args.withDescription("Where to; - is standard output.")
  )
}, ({ database, file, format, ...given }) =>
  Effect.gen(function*() {
    yield* arg.usable([file])
    if (new Set(Object.values(given.columns)).size < 3) {
      return yield* arg.usage("Two of --login-column, --name-column and --forname-column are the same.")
    }
    const written = { columns: named(given.columns), delimiter: yield* arg.delimiterOf(given.delimiter) }
    const as = yield* arg.formatOf(file, format)
    yield* arg.apart(file, undefined, database)
    yield* arg.reading(database, ({ stream }) => Effect.zipRight(write(file, texts(stream, as, written)), tellNobodies))
  }))

const migrate = arg.command(
  "migrate",
  descriptions.migrate,
  { database },
  ({ database }) => arg.making(database, () => Effect.zipRight(tellsTaken, Console.log("The table users is there.")))
)

const checking = arg.command(
  "check",
  descriptions.check,
  { database },
  ({ database }) => arg.looking(database, (users) => Effect.provideService(check, AvatarRepository, users))
)

export const subcommands = [lookup, add, set, remove, list, count, importing, exporting, migrate, checking] as const

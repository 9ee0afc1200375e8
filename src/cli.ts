/**
 * The command line: looks users up, changes them, moves them between files and databases, and looks a database over. `main.ts` loads it where there
 * are arguments.
 *
 * A command prints what was asked for on stdout and a sentence a failure on stderr. The exit codes are those of `terminal.ts`.
 */
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createRequire } from "node:module"
import * as arg from "./internal/cli/arguments.js"
import { database, descriptions, subcommands } from "./internal/cli/commands.js"
import { terminal } from "./internal/cli/output.js"
import { printed } from "./internal/cli/printed.js"
import { exitCodesHelp, Failed, stripped, tell } from "./internal/cli/terminal.js"

const { version } = createRequire(import.meta.url)("effect-avatars/package.json") as { readonly version: string }

const root = Command.withSubcommands(Command.make("effect-avatars"), subcommands)

/** What shells complete: the database may stand before the command. */
const completed = Command.withSubcommands(Command.make("effect-avatars", { database }), subcommands)

const help = `effect-avatars ${version}: the users of a relational database

  effect-avatars import users.csv --database users.sqlite
  effect-avatars --database users.sqlite yoen esteban
  effect-avatars check --database users.sqlite

Without arguments it shows three users of a temporary database.

${Object.entries(descriptions).map(([name, does]) => `  ${name.padEnd(8)} ${does}`).join("\n")}

  effect-avatars <command> --help             the command's options
  effect-avatars --completions bash           what a shell (bash, zsh, fish) needs to complete them, for example
                                              by: source <(effect-avatars --completions bash)
  effect-avatars --version

${exitCodesHelp}`

/** The parser's: its failures are told by `run`, in one sentence. */
const console: Console.Console = {
  ...terminal,
  error: () => Effect.void,
  log: (text: unknown) =>
    terminal.log(
      printed(process.stdout.isTTY && !process.env["NO_COLOR"] ? String(text) : stripped(String(text))).trimEnd()
    )
}

/** `help` and `help import` are options too. A user of that name is found by `lookup help`. */
const helped = (given: ReadonlyArray<string>): ReadonlyArray<string> =>
  given[0] !== "help" ? given : Object.hasOwn(descriptions, given[1] ?? "") ? [given[1]!, "--help"] : ["--help"]

/** Runs the command line of a process. It does not fail: what fails is told, and the process's exit code is set. */
export const run = (argv: ReadonlyArray<string>): Effect.Effect<void> => {
  // Whose terminal is closed is stopped as by Ctrl-C.
  process.once("SIGHUP", () => void process.emit("SIGINT"))
  const given = helped(argv.slice(2))
  if (/^(-h|--help)$/.test(given[0] ?? "")) {
    return Effect.withConsole(Console.log(help), terminal)
  }
  const refusal = arg.refusalOf(given)
  if (refusal !== undefined) {
    return Effect.withConsole(tell(refusal), terminal)
  }
  const program = { name: "effect-avatars", version }
  const parse = /^--completions(=|$)/.test(given[0] ?? "")
    ? Command.run(completed, program)
    : Command.run(root, program)
  return parse([...argv.slice(0, 2), ...arg.arranged(given, Object.keys(descriptions))]).pipe(
    Effect.catchAll(({ error }) => {
      // The parser does not say whose the choices are.
      const why = stripped(HelpDoc.toAnsiText(error)).replace(/\s+/g, " ").trim().replace(
        /^Expected one of the following cases:(?= (fail)?)/,
        (_, isConflict) => `${isConflict === undefined ? "--format" : "--on-conflict"} is one of`
      ).replace(
        /^Received unknown argument: ('-[^']*')$/,
        "$1 is no option of this command, or its value is missing"
      )
      const sentence = `The command line cannot be used: ${why.replace(/\.?$/, ".")} See --help.`
      return Effect.withConsole(tell(new Failed("usage", sentence)), terminal)
    }),
    Effect.provide(Layer.merge(NodeContext.layer, CliConfig.layer({ showBuiltIns: false, isCaseSensitive: true }))),
    Effect.withConsole(console)
  )
}

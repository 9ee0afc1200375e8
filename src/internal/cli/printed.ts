/** What the parser of the command line prints by itself, help pages and completions, as it should be read. */
import { stripped } from "./terminal.js"

export const printed = (text: string): string => {
  if (text.startsWith("function _")) {
    return bash(text)
  }
  if (text.startsWith("#compdef ")) {
    return zsh(text)
  }
  return text.startsWith("complete -c ") ? fish(text) : helpPage(text)
}

/** A command's help page without what it says of every option, and with its whole name. */
const helpPage = (text: string): string =>
  text
    .replace(/^(.*effect-avatars.*\n\n)(?=.*effect-avatars)/, "")
    .replace(/^(\S*\$\S* )/m, "$1effect-avatars ")
    .split("\n\n")
    .filter((paragraph) => !isOfEveryOption.test(stripped(paragraph).trim()))
    .join("\n\n")

const isOfEveryOption =
  /^(?:A user-defined piece of text|An integer|A true or false value|This setting is optional|This argument may be repeated zero or more times|One of the following: [\w, ]+)\.?$/

/** Options that take no value: zsh's script does not tell them from others. */
const flags = "h|help|version|json|atomic"

// A shell's script, so that it offers commands, options, their choices, and files where a value is free.

const bash = (script: string): string =>
  script
    // A command has one name wherever it stands.
    .replaceAll("effect__avatars", "effect-avatars")
    .replace(/ --(?:log-level|wizard)(?= )/g, "")
    .replace(/(?<=compgen -W ")[\w,]+/g, (choices) => choices.replaceAll(",", " "))
    // Files are readline's to offer, which it does where there is nothing else: it knows folders and blanks.
    .replaceAll("COMPREPLY=( $(compgen -f \"${cur}\") )", "COMPREPLY=()")
    // Of a command that takes a file, options are offered behind a dash, and files otherwise.
    .replace(/^( *)effect-avatars__(?:import|export)\)\n[^]*?\n\1 {4};;/gm, (section) =>
      section.replace(/ \|\| \$\{COMP_CWORD\} -eq \d/, "").replace(/(?<=esac\n *)COMPREPLY=.*/, "COMPREPLY=()"))
    // What follows a flag is no value of it.
    .replace(/^ *--\w+\)\n *COMPREPLY=\( "\$\{cur\}" \)\n *return 0\n *;;\n/gm, "")

const zsh = (script: string): string =>
  script
    .replace(/^ *'--(?:log-level|wizard)\[.*\n/gm, "")
    .replace(new RegExp(`^( *'-(?!-?(?:${flags})\\[)[\\w-]+\\[.*\\])(?=' \\\\$)`, "gm"), "$1:value:_files")
    .replace(/^ *\((?:import|export)\)\n[^]*?(?= *&& ret=0)/gm, "$&                '*:file:_files' \\\n")

const fish = (script: string): string => {
  const commands = Array.from(script.matchAll(/"__fish_use_subcommand" -f -a "(\w+)"/g), ([, name]) => name)
  return script
    // A command may stand behind --database, whose value fish takes for one.
    .replaceAll("__fish_use_subcommand", `not __fish_seen_subcommand_from ${commands.join(" ")}`)
    .replace(/^.* -l (?:log-level|wizard) .*\n/gm, "")
    // Where a command takes a file, the shell's own are offered.
    .replace(/^complete -c \S+ -n "__fish_seen_subcommand_from (?:import|export)" -r -f(?: -d .*)?\n?/gm, "")
    .replace(/^(.* -l [\w-]+ -r) -f(?! -a)/gm, "$1 -F")
}

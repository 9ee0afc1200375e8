/** What a shell offers at the end of a line, by the script that the command line prints for it. */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { root } from "./programs.js"

export type Shell = "bash" | "zsh" | "fish"

export const isInstalled = (shell: Shell): boolean =>
  process.platform === "linux" && spawnSync(shell, ["-c", "exit"]).status === 0

/** In order. */
export const complete = (
  shell: Shell,
  script: string,
  line: string,
  directory: string
): ReadonlyArray<string> => [...new Set(offers[shell](script, line, directory))].toSorted()

const linesOf = (command: string, args: ReadonlyArray<string>, cwd: string) => {
  const { status, stderr, stdout } = spawnSync(command, args, { cwd, encoding: "utf8" })
  if (status !== 0 || stderr !== "") {
    throw new Error(`${command}: ${stderr}`)
  }
  return stdout.split("\n").filter((line) => line !== "")
}

/** As bash asks a function, and, where it knows nothing, readline for a file. */
const inBash = `
source "$1"
read -ra COMP_WORDS <<< "$2"
[[ $2 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( \${#COMP_WORDS[@]} - 1 ))
current=\${COMP_WORDS[COMP_CWORD]}
$(complete -p effect-avatars | sed 's/.*-F \\([^ ]*\\).*/\\1/') effect-avatars "$current" "\${COMP_WORDS[COMP_CWORD-1]}"
if [[ \${#COMPREPLY[@]} == 0 ]]; then compgen -f -- "$current"; else printf '%s\\n' "\${COMPREPLY[@]}"; fi`

const offers: Record<Shell, (script: string, line: string, directory: string) => ReadonlyArray<string>> = {
  bash: (script, line, directory) => linesOf("bash", ["--norc", "-c", inBash, "bash", script, line], directory),
  fish: (script, line, directory) =>
    linesOf("fish", ["--no-config", "-c", "source $argv[1]; complete --do-complete $argv[2]", script, line], directory)
      .map((offer) => offer.split("\t")[0]!),
  // Only at a terminal.
  zsh: (script, line, directory) => {
    const result = `${script}.result`
    fs.rmSync(result, { force: true })
    const env = {
      ...process.env,
      ZDOTDIR: path.join(root, "test/fixtures/completions"),
      RESULT: result,
      SCRIPT: script,
      WORDS: line
    }
    spawnSync("script", ["-qec", "zsh -i", "/dev/null"], { cwd: directory, env, timeout: 30_000 })
    return fs.existsSync(result) ? fs.readFileSync(result, "utf8").trim().split("\n") : []
  }
}

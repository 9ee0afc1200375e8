import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { complete, isInstalled } from "./completions.js"
import { main, tempDirectory } from "./programs.js"

describe("completions", () => {
  const typed: ReadonlyArray<readonly [words: string, completed: ReadonlyArray<string>]> = [
    ["effect-avatars im", ["import"]],
    ["effect-avatars --data", ["--database"]],
    ["effect-avatars -d users.sqlite ex", ["export"]],
    ["effect-avatars import --on-c", ["--on-conflict"]],
    ["effect-avatars import --on-conflict ", ["fail", "skip", "update"]],
    ["effect-avatars import --format ", ["csv", "ndjson"]],
    ["effect-avatars import users.csv --format nd", ["ndjson"]],
    ["effect-avatars lookup --format ", ["json", "text"]],
    ["effect-avatars import --atomic --rej", ["--rejects"]],
    // Files of the folder.
    ["effect-avatars import ", ["users.csv", "users.sqlite"]],
    ["effect-avatars import us", ["users.csv", "users.sqlite"]],
    ["effect-avatars check --database us", ["users.csv", "users.sqlite"]]
  ]
  for (const shell of ["bash", "zsh", "fish"] as const) {
    it.scopedLive(`of ${shell} are the commands, their options, choices and files`, (context) =>
      Effect.gen(function*() {
        context.skip(!isInstalled(shell), `${shell} is not installed here (Debian has it)`)
        const directory = yield* tempDirectory
        fs.writeFileSync(path.join(directory, "users.csv"), "")
        fs.writeFileSync(path.join(directory, "users.sqlite"), "")
        const { code, stdout } = yield* main(["--completions", shell])
        assert.strictEqual(code, 0)
        const script = path.join(yield* tempDirectory, "script")
        fs.writeFileSync(script, stdout)
        for (const [words, expected] of typed) {
          assert.deepStrictEqual([words, complete(shell, script, words, directory)], [words, expected])
        }
      }))
  }
})

import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { root, run } from "./programs.js"

/** What the comment at the head of an example says that it prints. */
const printed = (source: string): string => {
  const [, block = ""] = /\n \* Prints\n \*\n((?: \* {5}.*\n)+) \*\//.exec(source) ?? []
  return block.replaceAll(/^ \* {5}/gm, "")
}

const examples = fs.readdirSync(path.join(root, "examples"))

describe("the example", () => {
  for (const name of examples.filter((name) => /(?<!\.test)\.ts$/.test(name))) {
    it.scopedLive(`${name} prints what its head says`, () =>
      Effect.gen(function*() {
        const expected = printed(fs.readFileSync(path.join(root, "examples", name), "utf8"))
        assert.notStrictEqual(expected, "")
        const file = path.join(root, "build/examples", name.replace(/\.ts$/, ".js"))
        const { code, stderr, stdout } = yield* run(process.execPath, [file])
        assert.deepStrictEqual({ code, stderr, stdout }, { code: 0, stderr: "", stdout: expected })
      }))
  }
})

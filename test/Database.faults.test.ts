import { assert, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { temporaryFile } from "./layers.js"
import { numbers } from "./lookups.js"
import { start } from "./programs.js"

it.scopedLive("the table is made once when processes start together on an empty path: two, then eight, three times each", () =>
  Effect.gen(function*() {
    const directory = path.dirname(yield* temporaryFile())
    const processes = yield* Effect.all(numbers(8).map(() => start("openDatabase.mjs")))
    yield* Effect.forEach(processes, ({ line }) => Effect.map(line, (said) => assert.strictEqual(said, "ready")))
    for (const [round, count] of [2, 2, 2, 8, 8, 8].entries()) {
      const file = path.join(directory, `${round}.sqlite`)
      const some = processes.slice(0, count)
      yield* Effect.forEach(some, ({ say }) => say(`sqlite:${encodeURIComponent(file)}`))
      const answers = yield* Effect.forEach(some, ({ line }) => line)
      assert.deepStrictEqual(answers, some.map(() => "opened"))
      const db = new Sqlite(file)
      const names = db.prepare("select name from sqlite_schema order by rowid").pluck().all()
      db.close()
      assert.deepStrictEqual(names, ["users", "sqlite_autoindex_users_1"])
    }
    assert.lengthOf(fs.readdirSync(directory), 6)
  }))

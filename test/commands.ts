/** What the tests of the command line share. */
import { assert } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { main, tempDirectory } from "./programs.js"

/** What a program is asked, what it prints, and its exit code. */
export const says = (args: ReadonlyArray<string>, expected: { stdout?: string; stderr?: string; code?: number }) =>
  Effect.map(
    main(args),
    ({ code, stderr, stdout }) =>
      assert.deepStrictEqual({ code, stderr, stdout }, { code: 0, stderr: "", stdout: "", ...expected })
  )

/** In the order of their logins. */
export const rows = (file: string) => {
  const db = new Sqlite(file)
  const all = db.prepare("select login, name, forname from users order by login").raw().all()
  db.close()
  return all
}

/** Three users, as CSV. */
export const three = "login,name,forname\na,1,A\nb,2,B\nc,3,C\n"

/** Imports a text, in a directory of its own. */
export const imported = (text: string | Buffer, ...options: ReadonlyArray<string>) =>
  importedAs("users.csv", text, ...options)

export const importedAs = (name: string, text: string | Buffer, ...options: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const directory = yield* tempDirectory
    const [source, file] = [path.join(directory, name), path.join(directory, "users.sqlite")]
    fs.writeFileSync(source, text)
    const again = (...options: ReadonlyArray<string>) => main(["import", source, "-d", file, ...options])
    const ended = yield* again(...options)
    const rejects = `${source}.rejects.ndjson`
    return {
      ...ended,
      again,
      directory,
      file,
      source,
      rows: () => rows(file),
      rejects: () =>
        !fs.existsSync(rejects) ?
          [] :
          fs.readFileSync(rejects, "utf8").trim().split("\n").map((line) =>
            JSON.parse(line) as { readonly line: number; readonly reason: string; readonly text: string }
          )
    }
  })

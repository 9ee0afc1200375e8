/** An import beside a model of it: files in which logins are repeated, taken, refused by the database, and lines that are no user. */
import { assert, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Effect, FastCheck } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { main, tempDirectory } from "./programs.js"

type Row = readonly [login: string, name: string, forname: string]

/** A record of a file, and the user that it is, where it is one. */
interface Line {
  readonly text: string
  readonly user: Row | undefined
}

const refusedName = "refused"

const quoted = (field: string) => `"${field.replaceAll("\"", "\"\"")}"`

const needsQuotes = (field: string) => /[",\r\n]/.test(field)

/** Long names have a file of many blocks, whose ends are anywhere. */
const name = FastCheck.tuple(
  FastCheck.string({ unit: "binary", maxLength: 5 }).map((text) => text.replace(/\0|[\uD800-\uDFFF]/g, "?")),
  FastCheck.oneof(
    { arbitrary: FastCheck.constant(""), weight: 40 },
    { arbitrary: FastCheck.constantFrom("\"", ",", "\n", "\r", "\r\n"), weight: 1 }
  ),
  FastCheck.constantFrom(0, 0, 700, 5_000)
).map(([text, special, length]) => text + special + "x".repeat(length))

const user = FastCheck.tuple(FastCheck.nat({ max: 99 }), name, name).map(
  ([login, name, forname]): Line => ({
    text: [`u${login}`, name, forname].map((field) => needsQuotes(field) ? quoted(field) : field).join(","),
    user: [`u${login}`, name, forname]
  })
)

const other = FastCheck.constantFrom("a,b", "a,b,c,d", ",name,forname", "\"a\"b,c,d", "a,\u0007b,c,").map(
  (text): Line => ({ text, user: undefined })
)

const file = FastCheck.record({
  /** Whether the first line has a quote: before there is one a file is read otherwise. */
  isQuoted: FastCheck.boolean(),
  lines: FastCheck.array(
    FastCheck.oneof({ arbitrary: user, weight: 20 }, { arbitrary: other, weight: 1 }),
    { maxLength: 300, size: "max" }
  ),
  taken: FastCheck.uniqueArray(FastCheck.nat({ max: 99 }), { maxLength: 5 }),
  /** Places of users whom the database refuses. */
  refused: FastCheck.uniqueArray(FastCheck.nat({ max: 300 }), { maxLength: 2 }),
  onConflict: FastCheck.constantFrom("fail" as const, "skip" as const, "update" as const),
  isAtomic: FastCheck.boolean(),
  end: FastCheck.constantFrom("\n", "\r\n")
})

type File = typeof file extends FastCheck.Arbitrary<infer A> ? A : never

/** What an import has to come to. */
const model = ({ isAtomic, lines, onConflict, taken }: File) => {
  const before = new Map(taken.map((login): [string, Row] => [`u${login}`, [`u${login}`, "before", ""]]))
  const rows = new Map(before)
  const counts = { stored: 0, updated: 0, skipped: 0 }
  const rejected: Array<number> = []
  let stoppedAt: number | undefined
  let at = 2
  for (const { text, user } of lines) {
    if (user === undefined || user[1] === refusedName) {
      rejected.push(at)
    } else if (!rows.has(user[0])) {
      rows.set(user[0], user)
      counts.stored += 1
    } else if (onConflict === "fail") {
      stoppedAt = at
      break
    } else if (onConflict === "update") {
      rows.set(user[0], user)
      counts.updated += 1
    } else {
      counts.skipped += 1
    }
    at += text.split("\n").length
  }
  const isUndone = isAtomic && (stoppedAt !== undefined || rejected.length > 0)
  return { rows: isUndone ? before : rows, counts, rejected, stoppedAt, isUndone }
}

it.live("an import stores, updates, skips and rejects what a model says, wherever the blocks of the file end", () =>
  Effect.promise(() =>
    FastCheck.assert(
      FastCheck.asyncProperty(file, async (drawn) => {
        const { refused } = drawn
        const lines = drawn.lines.map((line, i): Line =>
          refused.includes(i) && line.user !== undefined
            ? { text: `${line.user[0]},${refusedName},`, user: [line.user[0], refusedName, ""] }
            : line
        )
        const given = { ...drawn, lines }
        const expected = model(given)
        await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
          const directory = yield* tempDirectory
          const [source, database] = [path.join(directory, "users.csv"), path.join(directory, "users.sqlite")]
          const db = new Sqlite(database)
          db.exec(`
            create table users (login text not null primary key, name text not null, forname text not null);
            create trigger refuses before insert on users when new.name = '${refusedName}'
              begin select raise(fail, 'not this one'); end
          `)
          const insert = db.prepare("insert into users values (?, 'before', '')")
          given.taken.forEach((login) => insert.run(`u${login}`))
          fs.writeFileSync(
            source,
            [given.isQuoted ? "\"login\",name,forname" : "login,name,forname", ...lines.map(({ text }) => text), ""]
              .join(given.end)
          )
          const { code, stderr, stdout } = yield* main([
            "import",
            source,
            "-d",
            database,
            "--on-conflict",
            given.onConflict,
            ...(given.isAtomic ? ["--atomic"] : [])
          ])
          const rows = db.prepare("select login, name, forname from users").raw().all() as unknown as ReadonlyArray<Row>
          db.close()
          assert.sameDeepMembers([...rows], Array.from(expected.rows.values()))
          const rejects = `${source}.rejects.ndjson`
          const rejected = fs.existsSync(rejects)
            ? fs.readFileSync(rejects, "utf8").trim().split("\n").map((line) => (JSON.parse(line) as Place).line)
            : []
          if (expected.stoppedAt !== undefined) {
            assert.strictEqual(code, expected.rejected.length > 0 ? 4 : 1, stderr)
            assert.include(stderr, `Line ${expected.stoppedAt}: the login`)
          } else {
            assert.strictEqual(code, expected.rejected.length > 0 ? 4 : 0, stderr)
          }
          assert.deepStrictEqual(rejected, expected.rejected)
          if (expected.stoppedAt === undefined && !expected.isUndone) {
            const { skipped, stored, updated } = expected.counts
            assert.strictEqual(
              stdout,
              `${stored} stored, ${updated} updated, ${skipped} skipped, ${rejected.length} rejected\n`
            )
          }
        })))
      }),
      { numRuns: runs, endOnFailure: process.env["IMPORT_RUNS"] !== undefined }
    )
  ))

interface Place {
  readonly line: number
}

const runs = Number(process.env["IMPORT_RUNS"] ?? 40)

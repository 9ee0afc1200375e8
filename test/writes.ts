/** The program that writes while it is killed, or while its writes to the disk are recorded; and what has to be found afterwards. */
import Sqlite from "better-sqlite3"
import { Effect } from "effect"
import type { SqlitePool } from "effect-avatars"
import { build } from "esbuild"
import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"

/** What `fixtures/pool-writes.mjs` is told. */
export interface WritesOptions {
  readonly config: SqlitePool.SqlitePoolConfig
  /** Stands in each key, since a file lives longer than a process. */
  readonly life: number | string
  readonly fibers: number
  /** So many writes a fiber. */
  readonly count: number
  /** Copies the database to this file beside the writes. */
  readonly backup?: string | undefined
  readonly tooEarly?: boolean | undefined
}

/** The built package and the fixture in one file, which starts in half the time: a trial is little more than the start of a process. */
export const bundle = (name: string): Effect.Effect<string> =>
  Effect.promise(async () => {
    const path = (file: string) => fileURLToPath(new URL(file, import.meta.url))
    const outdir = path(`../build/${name}`)
    await build({
      entryPoints: [
        path("fixtures/pool-writes.mjs"),
        path("../dist/internal/sqlitePool/worker.js"),
        path("../dist/internal/sqlitePool/backup.js")
      ],
      entryNames: "[name]",
      outdir,
      bundle: true,
      minify: true,
      external: ["better-sqlite3", "@effect/sql-pg", "@effect/sql-mysql2"],
      format: "esm",
      platform: "node",
      target: "node20",
      logLevel: "warning"
    })
    return `${outdir}/pool-writes.js`
  })

/** A process that has ended: each line of its output, also those before its death. */
export interface Life {
  readonly lines: ReadonlyArray<string>
  readonly isKilled: boolean
}

/** Runs a program to its end. `onLine` sees each line of its output as it comes, and may kill it; anything else that ends it is a defect. */
export const run = (
  command: ReadonlyArray<string>,
  onLine: (line: string, child: ChildProcess) => void = () => {}
): Effect.Effect<Life> =>
  Effect.async((resume) => {
    const child = spawn(command[0]!, command.slice(1), { stdio: ["ignore", "pipe", "pipe"] })
    const lines: Array<string> = []
    let rest = ""
    let complaint = ""
    child.stderr.on("data", (data) => complaint += String(data))
    child.stdout.setEncoding("utf8").on("data", (data: string) => {
      const whole = (rest + data).split("\n")
      rest = whole.pop()!
      for (const line of whole) {
        lines.push(line)
        onLine(line, child)
      }
    })
    child.on("error", (error) => resume(Effect.die(error)))
    child.on("close", (code, signal) =>
      resume(
        code === 0 || signal === "SIGKILL"
          ? Effect.succeed({ lines, isKilled: signal !== null })
          : Effect.dieMessage(`It ended by itself (${signal ?? code}): ${complaint}`)
      ))
    return Effect.sync(() => void child.kill("SIGKILL"))
  })

export const writer = (script: string, options: WritesOptions): ReadonlyArray<string> => [
  process.execPath,
  script,
  JSON.stringify(options)
]

/** What was asked for and what was acknowledged, by keys. */
export class Journal {
  readonly asked = new Set<string>()
  readonly acknowledged = new Set<string>()

  /** Takes the lines of a program's output. */
  add(lines: Iterable<string>): this {
    for (const line of lines) {
      if (line.startsWith("?")) {
        this.asked.add(line.slice(1))
      } else if (line.startsWith("+")) {
        this.acknowledged.add(line.slice(1))
      }
    }
    return this
  }

  get underWay(): number {
    return Array.from(this.asked).filter((key) => !this.acknowledged.has(key)).length
  }
}

export interface Finding {
  /** The keys of all writes that are there as a whole. */
  readonly found: ReadonlySet<string>
  /** What may never be: a damaged file, half a transaction, a write that was undone or never asked for. */
  readonly wrong: ReadonlyArray<string>
  /** The keys of what was acknowledged and is not there. */
  readonly lost: ReadonlyArray<string>
}

/** Looks at a file that no process has open: as SQLite recovers it. */
export const look = (file: string, journal: Journal): Finding => {
  // Opening would make it.
  const db = new Sqlite(fs.existsSync(file) ? file : ":memory:")
  try {
    return examine(db, journal)
  } catch (error) {
    return { found: new Set(), wrong: [`It cannot be read: ${String(error)}`], lost: [] }
  } finally {
    db.close()
  }
}

const removal = "remove:"
const transaction = "both:"

/** Looks at an open database. */
export const examine = (db: Sqlite.Database, { acknowledged, asked }: Journal): Finding => {
  const wrong: Array<string> = []
  const integrity = db.pragma("integrity_check", { simple: true })
  if (integrity !== "ok") {
    wrong.push(`integrity_check: ${String(integrity)}`)
  }
  const tables = texts(db, "select name from sqlite_schema where type = 'table'")
  const rowsOf = (table: string, sql: string) => tables.includes(table) ? texts(db, sql) : []
  const logins = new Set(rowsOf("users", "select login from users"))
  const pairs = new Map(
    rowsOf("pairs", "select key || '=' || group_concat(part, '+' order by part) from pairs group by key")
      .map((text) => text.split("=") as [string, string])
  )
  const found = new Set([...logins, ...pairs.keys(), ...rowsOf("items", "select key from items")])
  for (const key of found) {
    if (!asked.has(key)) {
      wrong.push(`${key} is there, but was never asked for`)
    } else if (key.startsWith(transaction) && !(logins.has(key) && pairs.get(key) === "1+2")) {
      wrong.push(`${key} is there in part: user ${logins.has(key)}, pairs ${pairs.get(key)}`)
    }
  }
  const isThere = (key: string) => {
    if (key === "tables") {
      return ["users", "items", "pairs"].every((name) => tables.includes(name))
    }
    return key.startsWith(removal) ? !found.has(key.slice(removal.length)) : found.has(key)
  }
  const lost = Array.from(acknowledged).filter((key) =>
    key !== "backup" && !isThere(key) && !asked.has(`${removal}${key}`)
  )
  return { found, wrong, lost }
}

const texts = (db: Sqlite.Database, sql: string) => db.prepare<[], string>(sql).pluck().all()

/** How long a database's write-ahead log is. */
export const walSize = (file: string): number => fs.statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0

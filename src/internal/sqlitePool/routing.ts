/**
 * Where a statement runs. SQLite itself tells whether one writes, once it is prepared; its first word is looked at only for what
 * preparing would tell too late: what acts when it is prepared (PRAGMA), what changes the connection that happens to run it, and
 * what may share a transaction.
 */

/**
 * - `read`: on any reader; one that turns out to write is remembered as `grouped` or `bare`
 * - `grouped`: on the writer, in one transaction with others that wait
 * - `bare`: on the writer, by itself
 * - `connection`: only on a connection that was leased, since it changes it
 * - `transaction`: only on a connection that was reserved, since it begins or ends a transaction
 * - `none`: nowhere, since U+0000 would silently end it
 */
export type Route = "read" | "grouped" | "bare" | "connection" | "transaction" | "none"

export interface Text {
  readonly id: number
  readonly sql: string
  route: Route
  usedAt: number
  /** It made room for others. */
  isForgotten: boolean
}

const comment = /--[^\n]*|\/\*[^]*?(?:\*\/|$)/g

/** A PRAGMA that is explained acts all the same, when it is prepared. */
const explained = /^[\s;]*explain\s+(?:query\s+plan\s+)?(?=pragma\b)/i

/** Where a statement begins, for its first words: what looks like a comment in a text may be gone further on. */
const beginning = (sql: string) => sql.replace(comment, " ").replace(explained, "")

const firstWord = (sql: string) => /^[\s;]*([a-z]+)/i.exec(beginning(sql))?.[1]?.toUpperCase()

/** As SQLite reads one. */
const name = /(?:"(?:[^"]|"")*"|'(?:[^']|'')*'|`(?:[^`]|``)*`|\[[^\]]*\]|[\w$\u0080-\uffff]+)/.source

/** `PRAGMA schema.name = value` */
const pragma = new RegExp(`^[\\s;]*pragma\\s*(?:${name}\\s*\\.\\s*)?(${name})\\s*([=(])?`, "i")

/** PRAGMAs whose argument asks for something, or is stored in the file, and so changes no single connection. */
const harmlessPragmas = new Set([
  "application_id",
  "foreign_key_check",
  "foreign_key_list",
  "incremental_vacuum",
  "index_info",
  "index_list",
  "index_xinfo",
  "integrity_check",
  "optimize",
  "quick_check",
  "table_info",
  "table_list",
  "table_xinfo",
  "user_version",
  "wal_checkpoint"
])

const routes: Readonly<Record<string, Route>> = {
  INSERT: "grouped",
  UPDATE: "grouped",
  DELETE: "grouped",
  REPLACE: "grouped",
  CREATE: "bare",
  DROP: "bare",
  ALTER: "bare",
  REINDEX: "bare",
  ANALYZE: "bare",
  VACUUM: "bare",
  ATTACH: "connection",
  DETACH: "connection",
  BEGIN: "transaction",
  COMMIT: "transaction",
  END: "transaction",
  ROLLBACK: "transaction",
  SAVEPOINT: "transaction",
  RELEASE: "transaction"
}

export const routeOf = (sql: string): Route => {
  if (sql.includes("\0")) {
    return "none"
  }
  const word = firstWord(sql)
  if (word !== "PRAGMA") {
    return routes[word ?? ""] ?? "read"
  }
  const [, asked = "", argument] = pragma.exec(beginning(sql)) ?? [undefined, "", "unknown"]
  const unquoted = asked.replace(/^["'`[]|["'`\]]$/g, "").toLowerCase()
  return argument === undefined || harmlessPragmas.has(unquoted) ? "bare" : "connection"
}

/** Whether running it may leave the connection other than it was: another setting, another schema, a table of its own. */
export const changesConnection = (route: Route, sql: string): boolean =>
  route === "connection" || (route === "bare" && /\btemp/i.test(sql))

/** What a reader found out: the statement writes. */
export const remember = (text: Text): void => {
  text.route = firstWord(text.sql) === "WITH" ? "grouped" : "bare"
}

/**
 * The texts of statements by number, so that each crosses to a thread once. Bounded: the one that was not used for the longest
 * time makes room, and so do those that were not used for `timeToLive` (ms). `forget` tells the threads.
 */
export class Texts {
  private readonly texts = new Map<string, Text>()
  private next = 0

  constructor(
    private readonly capacity: number,
    private readonly timeToLive: number,
    private readonly forget: (id: number) => void
  ) {}

  get(sql: string): Text {
    const now = performance.now()
    const known = this.texts.get(sql)
    if (known !== undefined) {
      known.usedAt = now
      return known
    }
    if (this.texts.size >= this.capacity) {
      this.makeRoom(now)
    }
    const text: Text = { id: this.next++, sql, route: routeOf(sql), usedAt: now, isForgotten: false }
    this.texts.set(sql, text)
    return text
  }

  private makeRoom(now: number): void {
    const byAge = Array.from(this.texts.values()).toSorted((one, other) => one.usedAt - other.usedAt)
    for (const text of byAge.filter(({ usedAt }, i) => i === 0 || now - usedAt > this.timeToLive)) {
      this.texts.delete(text.sql)
      text.isForgotten = true
      this.forget(text.id)
    }
  }
}

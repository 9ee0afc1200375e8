/** The users that a file of CSV or NDJSON holds, with the line of each. */
import { type CsvError, type Options as CsvOptions, Parser } from "csv-parse"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { isLogin, isName } from "../../Avatar.js"
import { type Block, blocks, isAltered } from "./files.js"
import { Failed } from "./terminal.js"

export type Format = "csv" | "ndjson"

/** What a file calls the fields of a user. */
export interface Columns {
  readonly login: string
  readonly name: string
  readonly forname: string
}

/** A user as it crosses to the database, and where it stands in the file. */
export interface User {
  readonly line: number
  readonly login: string
  readonly name: string
  readonly forname: string
}

/** What is no user: why, and what stands there. */
export interface Reject {
  readonly line: number
  readonly reason: string
  readonly text: string
}

/** What a block of a file holds. */
export interface Records {
  readonly users: ReadonlyArray<User>
  readonly rejects: ReadonlyArray<Reject>
  readonly bytes: number
}

export const records = (
  file: string,
  format: Format,
  columns: Columns,
  delimiter = ","
): Stream.Stream<Records, Failed> =>
  Stream.suspend(() => {
    const parse = format === "csv" ? makeCsv(columns, delimiter) : makeNdjson(columns)
    return blocks(file).pipe(
      Stream.mapEffect((block) => parse.block(block)),
      Stream.concat(Stream.fromEffect(parse.end))
    )
  })

interface Parse {
  readonly block: (block: Block) => Effect.Effect<Records, Failed>
  readonly end: Effect.Effect<Records, Failed>
}

const notUtf8 = "it is not UTF-8"

/** Why these are no user. */
const issueOf = (login: unknown, name: unknown, forname: unknown): string | undefined => {
  if (typeof login !== "string" || typeof name !== "string" || typeof forname !== "string") {
    return "a login, a name or a forname is no text"
  }
  return !isLogin(login)
    ? "its login is not 1 to 255 characters of well-formed text without control characters"
    : !isName(name) || !isName(forname)
    ? "a name holds the character U+0000 or half of a character"
    : undefined
}

const optionsOfColumns = "--login-column, --name-column and --forname-column"

/** Of an object that lacks what the options, or nobody, called its columns. */
const lackOf = (record: Record<string, unknown>, columns: Columns): string | undefined => {
  const missing = Object.values(columns).filter((column) => record[column] === undefined)
  const found = Object.keys(record).slice(0, maxNames)
  return missing.length === 0
    ? undefined
    : `it has no ${quoted(missing)} but ${quoted(found) || "nothing"}; ${optionsOfColumns} say what they are called`
}

const quoted = (names: ReadonlyArray<string>) => names.map((name) => `'${name}'`).join(", ")

/** So many names of a file are told. */
const maxNames = 10

const makeNdjson = (columns: Columns): Parse => {
  let line = 0
  return {
    block: ({ bytes, isUtf8 }) =>
      Effect.sync(() => {
        const text = bytes.toString()
        const users: Array<User> = []
        const rejects: Array<Reject> = []
        for (const row of (line === 0 ? text.replace(/^\uFEFF/, "") : text).replace(/\n$/, "").split("\n")) {
          line += 1
          if (row.trim() === "") {
            continue
          }
          let record: Record<string, unknown> | undefined
          try {
            const parsed: unknown = JSON.parse(row)
            record = typeof parsed === "object" && parsed !== null ? parsed as Record<string, unknown> : undefined
          } catch {
            // It is told below.
          }
          const login = record?.[columns.login]
          const name = record?.[columns.name]
          const forname = record?.[columns.forname]
          const reason = record === undefined
            ? "it is no JSON object"
            : !isUtf8 && isAltered(row, bytes)
            ? notUtf8
            : lackOf(record, columns) ?? issueOf(login, name, forname)
          if (reason === undefined) {
            users.push({ line, login: login as string, name: name as string, forname: forname as string })
          } else {
            rejects.push({ line, reason, text: row })
          }
        }
        return { users, rejects, bytes: bytes.length }
      }),
    end: Effect.succeed({ users: [], rejects: [], bytes: 0 })
  }
}

/** So often what follows a quote out of place is read again as a whole. */
const maxDepth = 5

/** How long a record may be that is not finished: a quote that is never closed would take in all the rest. */
const maxRecord = 16 * 1024 * 1024

/** A record, and what stands in the file. */
interface Raw {
  readonly raw: string
  readonly record: ReadonlyArray<string>
}

/** Hands records over as they are parsed: a stream of them, and so does `on_record`, takes longer than their parsing. */
class RecordParser extends Parser {
  constructor(options: CsvOptions, private readonly onRecord: (record: Raw) => void) {
    super(options)
  }

  override push(record: Raw | null): boolean {
    if (record === null) {
      return super.push(null)
    }
    this.onRecord(record)
    return true
  }
}

/**
 * Records of CSV as they stand. Quotes out of place are taken as they are, since the parser, where it refuses them, loses lines after them: whoever
 * gets a record looks at them.
 */
const makeParser = (
  delimiter: string,
  onRecord: (record: Raw) => void,
  onSkip: (error: CsvError, raw: string) => void
) =>
  new RecordParser({
    delimiter,
    max_record_size: maxRecord,
    on_skip: (error, raw) => void (error === undefined ? undefined : onSkip(error, raw ?? "")),
    raw: true,
    // Any of them ends a record, also where the first line ends otherwise.
    record_delimiter: ["\r\n", "\n", "\r"],
    relax_column_count: true,
    relax_quotes: true,
    skip_records_with_error: true
  }, onRecord)

/** How many lines a record takes; a parser may leave half of its end out. */
const countLines = (raw: string): number => {
  const text = withoutEnd(raw)
  let count = 1
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) {
    count += 1
  }
  return count
}

/** Whether a field that begins with a quote has it in it: it does where it stands in the file with its quotes doubled. */
const isQuoteMisplaced = ({ raw, record: fields }: Raw): boolean =>
  fields.some((field) => field.startsWith("\"") && !raw.includes(`"${field.replaceAll("\"", "\"\"")}"`))

const makeCsv = (columns: Columns, delimiter: string): Parse => {
  let places:
    | { readonly login: number; readonly name: number; readonly forname: number; readonly count: number }
    | undefined
  let line = 1
  /** The last two blocks, where one of them is not UTF-8. */
  let doubtful: Buffer | undefined
  let last: Block | undefined
  let depth = 0
  let failure: Failed | undefined
  let users: Array<User> = []
  let rejects: Array<Reject> = []

  const take = (record: Raw): void => {
    const start = line
    line += countLines(record.raw)
    const { raw, record: fields } = record
    if (places === undefined) {
      const place = (column: string) => fields.indexOf(column)
      places = {
        login: place(columns.login),
        name: place(columns.name),
        forname: place(columns.forname),
        count: fields.length
      }
      const wanted = Object.values(columns)
      const missing = wanted.filter((column) => !fields.includes(column))
      const twice = wanted.find((column) => fields.indexOf(column) !== fields.lastIndexOf(column))
      const named = `The file's first line names no column ${quoted(missing)} but ${
        quoted(fields.slice(0, maxNames))
      }: `
      const hint = raw.startsWith("{")
        ? "what looks like NDJSON is read by --format ndjson."
        : `say which are meant by ${optionsOfColumns}.`
      failure ??= missing.length > 0
        ? new Failed("usage", named + hint)
        : twice !== undefined
        ? new Failed("usage", `The file's first line names the column '${twice}' twice.`)
        : undefined
    } else if (fields.length === 1 && fields[0] === "") {
      return
    } else if (isQuoteMisplaced(record)) {
      again("a quote is out of place", raw, start)
    } else if (fields.length !== places.count) {
      again(`it has ${fields.length} fields where the first line has ${places.count}`, raw, start)
    } else {
      const login = fields[places.login]
      const name = fields[places.name]
      const forname = fields[places.forname]
      const isOther = doubtful !== undefined && isAltered(withoutEnd(raw), doubtful)
      const reason = isOther ? notUtf8 : issueOf(login, name, forname)
      if (reason === undefined) {
        users.push({ line: start, login: login!, name: name!, forname: forname! })
      } else {
        rejects.push({ line: start, reason, text: withoutEnd(raw) })
      }
    }
  }

  /**
   * Rejects the first line of what a quote out of place has made one record, and reads the others again: together, so that a record may take several,
   * but each by itself where that has not helped a few times, since it reads all that follows each time.
   */
  const again = (reason: string, raw: string, start: number) => {
    const text = withoutEnd(raw)
    const end = text.indexOf("\n") + 1
    rejects.push({ line: start, reason, text: withoutEnd(end === 0 ? text : text.slice(0, end)) })
    if (end !== 0) {
      const after = line
      line = start + 1
      depth += 1
      const rest = text.slice(end)
      for (const part of depth < maxDepth ? [rest] : rest.split("\n")) {
        const inner = makeParser(delimiter, take, skip)
        inner.write(`${withoutEnd(part)}\n`)
        inner.end()
      }
      depth -= 1
      line = after
    }
  }

  const skip = (error: CsvError, raw: string) => {
    if (error.code === "CSV_QUOTE_NOT_CLOSED" && places === undefined) {
      failure ??= new Failed("malformed", "The file's first line opens a quote that is never closed.")
    } else if (error.code === "CSV_QUOTE_NOT_CLOSED") {
      const start = line
      line += countLines(raw)
      again("a quote is opened and never closed", raw, start)
    } else {
      failure ??= new Failed("malformed", `Line ${line} begins a record of more than 16 MB: is a quote not closed?`)
    }
  }

  const parser = makeParser(delimiter, take, skip)

  /** Until a file has a quote its lines are its records, which are found in a fraction of the time. */
  let hasQuote = false
  let isFirst = true
  const parse = (bytes: Buffer) => {
    const start = isFirst && bytes.subarray(0, byteOrderMark.length).equals(byteOrderMark) ? byteOrderMark.length : 0
    isFirst = false
    hasQuote ||= bytes.includes("\"")
    if (hasQuote) {
      return Effect.async<void>((resume) => void parser.write(bytes.subarray(start), () => resume(Effect.void)))
    }
    return Effect.sync(() => {
      const text = bytes.toString("utf8", start)
      const lines = text.split(text.includes("\r") ? /\r\n|\n|\r/ : "\n")
      if (lines.at(-1) === "") {
        lines.pop()
      }
      for (const raw of lines) {
        take({ raw, record: raw.split(delimiter) })
      }
    })
  }

  const taken = (bytes: number) =>
    Effect.suspend(() => {
      const records = { users, rejects, bytes }
      users = []
      rejects = []
      return failure === undefined ? Effect.succeed(records) : Effect.fail(failure)
    })

  return {
    block: (block) =>
      Effect.suspend(() => {
        const { bytes } = block
        const isUtf8 = block.isUtf8 && last?.isUtf8 !== false
        doubtful = isUtf8 ? undefined : Buffer.concat([last?.bytes ?? Buffer.alloc(0), bytes])
        last = block
        return Effect.zipRight(parse(bytes), taken(bytes.length))
      }),
    end: Effect.suspend(() =>
      Effect.zipRight(
        Effect.async<void>((resume) => {
          parser.once("end", () => resume(Effect.void))
          parser.resume()
          parser.end()
        }),
        taken(0)
      )
    )
  }
}

const byteOrderMark = Buffer.from("\uFEFF")

const withoutEnd = (raw: string) => raw.replace(/\r?\n$|\r$/, "")

/** The users of a database as a file, and as a table. */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import type { Avatar } from "../../Avatar.js"
import type * as AvatarRepository from "../../AvatarRepository.js"
import type { DatabaseError } from "../../DatabaseError.js"
import type { Columns, Format } from "./records.js"
import { printable, tell } from "./terminal.js"

type Users = Stream.Stream<Either.Either<Avatar, AvatarRepository.MalformedUser>, DatabaseError>

/** Those that are avatars, in their order; of each other one a sentence on stderr. */
const avatars = (users: Users): Stream.Stream<ReadonlyArray<Avatar>, DatabaseError> =>
  Stream.mapEffect(Stream.chunks(users), (chunk) => {
    const [malformed, found] = Chunk.separate(chunk)
    return Effect.as(Effect.forEach(malformed, tell, { discard: true }), Chunk.toReadonlyArray(found))
  })

const asJson = (columns: Columns) => ({ forname, login, name }: Columns): string =>
  JSON.stringify({ [columns.login]: login, [columns.name]: name, [columns.forname]: forname })

const ours: Columns = { login: "login", name: "name", forname: "forname" }

export const json = asJson(ours)

/** RFC 4180: what holds a quote, a delimiter or a line's end stands in quotes; and what a reader might trim. */
const asCsv = (delimiter: string) => {
  const field = (text: string) =>
    /[",\r\n]|^\s|\s$|^\uFEFF/.test(text) || text.includes(delimiter) ? `"${text.replaceAll("\"", "\"\"")}"` : text
  return ({ forname, login, name }: Columns): string =>
    `${field(login)}${delimiter}${field(name)}${delimiter}${field(forname)}\n`
}

/** All users, as `import` reads them. */
export const texts = (
  users: Users,
  format: Format,
  { columns, delimiter }: { readonly columns: Columns; readonly delimiter: string } = { columns: ours, delimiter: "," }
): Stream.Stream<string, DatabaseError> => {
  const line = format === "ndjson" ? (avatar: Columns) => `${asJson(columns)(avatar)}\n` : asCsv(delimiter)
  const lines = Stream.map(avatars(users), (chunk) => chunk.map(line).join(""))
  return format === "ndjson" ? lines : Stream.prepend(lines, Chunk.of(line(columns)))
}

/** All users in columns, as wide as the first page needs. */
export const table = (users: Users): Stream.Stream<string, DatabaseError> => {
  let widths: readonly [number, number] | undefined
  const width = (texts: ReadonlyArray<string>) =>
    texts.reduce((most, text) => Math.max(most, Array.from(text).length), 0)
  const pad = (text: string, to: number) => text + " ".repeat(Math.max(0, to - Array.from(text).length))
  return Stream.map(avatars(users), (chunk) => {
    const cells = chunk.map(({ forname, login, name }) =>
      [login, name, forname].map(printable) as [string, string, string]
    )
    const isFirst = widths === undefined
    const rows = isFirst ? [["LOGIN", "NAME", "FORNAME"] as [string, string, string], ...cells] : cells
    const [first, second] = widths ??= [width(rows.map(([login]) => login)), width(rows.map(([, name]) => name))]
    return rows.map(([login, name, forname]) => `${pad(login, first)}  ${pad(name, second)}  ${forname}\n`).join("")
  })
}

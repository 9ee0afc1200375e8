/**
 * The statements of the repository in SQLite's dialect. Where the client is our pool they enter it by its door, but for those of a
 * transaction and those at which a tracer or a transformer of statements looks.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { Avatar } from "../Avatar.js"
import { DatabaseError } from "../DatabaseError.js"
import { byCodePoint } from "./codePoints.js"
import type { Door } from "./door.js"
import { isInTransaction, isTraced, isTransformed } from "./fiber.js"
import { insertedOnly, read, sender, typed } from "./row.js"
import type { Row } from "./row.js"
import type { Users } from "./users.js"

/** More rows in one message would keep the event loop busy for too long. */
const maxFew = 1_000

/** A text column may hold a blob or, without affinity, a number; and its collation may fold case. */
const found = "where login collate binary = ? and typeof(login) = 'text'"

/** `0` is the place of the login among those that are wanted. */
const findOne = `select 0, name, forname from users ${found}`

const findAll = `
  select wanted.key, users.name, users.forname from json_each(?) as wanted
  cross join users on users.login = wanted.value collate binary and typeof(users.login) = 'text'
`

const insertOne = "insert into users (login, name, forname) values (?, ?, ?) on conflict (login) do nothing"

const insertRows = `
  insert into users (login, name, forname)
  select value ->> 0, value ->> 1, value ->> 2 from json_each(?) where true
  on conflict (login)
`

const insertAll = `${insertRows} do nothing`

const upsertAll = `
  ${insertRows} do update set name = excluded.name, forname = excluded.forname
  where typeof(users.login) = 'text' and users.login = excluded.login collate binary
  returning 1
`

const rowsOf = (avatars: ReadonlyArray<Avatar>): string =>
  JSON.stringify(avatars.map(({ forname, login, name }) => [login, name, forname]))

const pageAfter = (comparison: ">" | ">=") => `
  select login, name, forname from users where login collate binary ${comparison} ? and typeof(login) = 'text'
  order by login collate binary limit ?
`

export const makeSqliteUsers = (sql: SqlClient.SqlClient, door: Door | undefined) => {
  /** Through the door, where there is one and nobody sees that no statement of `@effect/sql` was made. */
  const quietly = <A>(
    byDoor: (door: Door) => Effect.Effect<A, SqlError>,
    otherwise: Effect.Effect<A, SqlError>
  ): Effect.Effect<A, SqlError> =>
    door === undefined ?
      otherwise :
      Effect.withFiberRuntime((fiber) =>
        isInTransaction(fiber) || isTraced(fiber) || isTransformed(fiber) ? otherwise : byDoor(door)
      )

  /** The values of all rows, one after the other. */
  const values = (text: string, params: ReadonlyArray<unknown>) =>
    Effect.map(sql.unsafe(text, params).values, (rows) => rows.flat())

  /** The same of few rows. */
  const fewValues = (text: string, params: ReadonlyArray<unknown>) =>
    quietly(
      (door) =>
        Effect.async<ReadonlyArray<unknown>, SqlError>((resume) => {
          const interrupt = door.read(
            text,
            params,
            (error, values) => resume(error === undefined ? Effect.succeed(values) : Effect.fail(error))
          )
          return Effect.sync(interrupt)
        }),
      values(text, params)
    )

  const find: Users["find"] = (wanted) =>
    Effect.map(read(fewValues(findOne, [wanted])), (values) => foundIn([wanted], values)[0])

  const findMany: Users["findMany"] = (wanted) =>
    Effect.map(read(fewValues(findAll, [JSON.stringify(wanted)])), (values) => foundIn(wanted, values))

  const insert: Users["insert"] = ({ forname, login, name }) => {
    const params = [login, name, forname]
    const inserted = Effect.map(sql.unsafe(`${insertOne} returning login`, params), (rows) => rows.length)
    return Effect.map(
      typed(quietly((door) => door.write?.(insertOne, params) ?? inserted, inserted)),
      (count) => count > 0
    )
  }

  const insertMany: Users["insertMany"] = (avatars) =>
    insertedOnly(sql, avatars, sql.unsafe<Row>(`${insertAll} returning login as login`, [rowsOf(avatars)]))

  const upsertMany: Users["upsertMany"] = (avatars) =>
    Effect.map(
      typed(sql.unsafe(upsertAll, [rowsOf(avatars)]).values),
      (written) => written.length === avatars.length
    )

  /** A trigger may refuse one row and keep those before it: then none is stored. */
  const countInserted: Users["countInserted"] = (avatars) =>
    typed(Effect.map(
      sql.withTransaction(sql.unsafe(insertAll, [rowsOf(avatars)]).raw),
      (done) => (done as { readonly changes: number }).changes
    ))

  /**
   * SQLite takes any bytes for text. A login that is not UTF-8 reads as another than it is, so that nobody can be found by it, and the page
   * after it would begin in a wrong place: it is nobody, as one is that is no text.
   */
  const pageOfUtf8 = Effect.fnUntraced(function*(after: string | undefined, limit: number) {
    const found: Array<Row> = []
    let start = sql`login collate binary ${sql.literal(after === undefined ? ">=" : ">")} ${after ?? ""}`
    for (;;) {
      const rows = yield* read(sql<Row & { readonly bytes: Uint8Array }>`
        select login as login, name as name, forname as forname, cast(login as blob) as bytes from users
        where ${start} and typeof(login) = 'text' order by login collate binary limit ${limit}
      `)
      found.push(...rows.filter(({ bytes, login }) => Buffer.from(String(login)).equals(bytes)))
      const last = rows.at(-1)
      if (last === undefined || rows.length < limit || found.length >= limit) {
        return found.slice(0, limit)
      }
      start = sql`login collate binary > cast(${last.bytes} as text)`
    }
  })

  const pageOfIndex: Users["page"] = (after, limit) => {
    const text = pageAfter(after === undefined ? ">=" : ">")
    const found = (limit <= maxFew ? fewValues : values)(text, [after ?? "", limit])
    return Effect.flatMap(read(found), (values) => {
      const rows: Array<Row> = []
      // What a text that is not UTF-8 is read as, and hardly ever a character of a login.
      let isDoubtful = false
      for (let i = 0; i < values.length; i += 3) {
        const login = values[i]
        isDoubtful ||= typeof login === "string" && login.includes("\uFFFD")
        rows.push({ login, name: values[i + 1], forname: values[i + 2] })
      }
      return isDoubtful ? pageOfUtf8(after, limit) : Effect.succeed(rows)
    })
  }

  const isUtf8 = Effect.map(
    read(sql<{ readonly encoding: string }>`select encoding from pragma_encoding`),
    ([row]) => row?.encoding === "UTF-8"
  )

  /** Through a damaged index the pages may lead back, so that a stream of them would never end. */
  const page: Users["page"] = (after, limit) =>
    Effect.flatMap(pageOfIndex(after, limit), (rows) =>
      isInOrder(after, rows)
        ? Effect.succeed(rows)
        // Of another encoding, its order is another too.
        : Effect.flatMap(isUtf8, (isUtf8) => isUtf8 ? disorder() : Effect.succeed(rows)))

  const shared = { find, findMany, insert, insertMany, page, upsertMany }
  return door === undefined ? shared : {
    ...shared,
    sendMany: sender(
      door,
      (wanted) => wanted.length === 1 ? [findOne, wanted] : [findAll, [JSON.stringify(wanted)]],
      foundIn
    ),
    isGrouping: door.write !== undefined,
    countInserted
  }
}

const isInOrder = (after: string | undefined, rows: ReadonlyArray<Row>): boolean =>
  rows.every(({ login }, i) =>
    i === 0
      ? after === undefined || byCodePoint(after, String(login)) < 0
      : byCodePoint(String(rows[i - 1]!.login), String(login)) <= 0
  )

const disorder = () =>
  new DatabaseError({
    reason: "UnknownError",
    operation: "execute",
    message: "The database answered users out of their order: an index of the table users is damaged."
  })

/** Rows in the order of the logins, from triples of a login's place, a name and a forname. */
const foundIn = (wanted: ReadonlyArray<string>, values: ReadonlyArray<unknown>): ReadonlyArray<Row | undefined> => {
  const found = wanted.map((): Row | undefined => undefined)
  for (let i = 0; i < values.length; i += 3) {
    const place = Number(values[i])
    found[place] = { login: wanted[place], name: values[i + 1], forname: values[i + 2] }
  }
  return found
}

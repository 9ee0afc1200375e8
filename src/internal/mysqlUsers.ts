/**
 * The statements of the repository in the dialect of MariaDB and MySQL.
 *
 * There is no RETURNING: TiDB drops it silently. What was done is read off the number of affected rows, where a row that was found and did not
 * change counts or does not, as the client asked when it connected (CLIENT_FOUND_ROWS).
 *
 * A column's collation may take other logins for equal, so that its index finds more than is wanted; bytes decide. All tables have to be of a
 * storage engine with transactions, as InnoDB is.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { Avatar } from "../Avatar.js"
import type { DatabaseError } from "../DatabaseError.js"
import type { Door } from "./door.js"
import { foundByLogin, inOrder, notStored, only, read, sender, typed } from "./row.js"
import type { Row } from "./row.js"

/** Those that compare code points, and do not pad. */
const exactCollations: ReadonlySet<unknown> = new Set(["utf8mb4_nopad_bin", "utf8mb4_0900_bin"])

/** What a statement says that it inserted where another's row is in its way; no table counts as far. */
const anothersRow = Number.MAX_SAFE_INTEGER

export const makeMysqlUsers = (sql: SqlClient.SqlClient, door: Door | undefined) => {
  const columns = sql.literal("login as login, name as name, forname as forname")
  const bytes = sql.literal("cast(convert(login using utf8mb4) as binary)")
  const is = (wanted: string) => sql`login = ${wanted} and ${bytes} = cast(${wanted} as binary)`

  /** How many rows it affected. */
  const affected = (statement: { readonly raw: Effect.Effect<unknown, SqlError> }) =>
    Effect.map(typed(statement.raw), (header) => Number((header as { readonly affectedRows?: unknown }).affectedRows))

  const like = (wanted: string) => read(sql<Row>`select ${columns} from users where login = ${wanted}`)

  const find = (wanted: string): Effect.Effect<Row | undefined, DatabaseError> =>
    Effect.map(like(wanted), (rows) => only([wanted], rows)[0])

  const findMany = (wanted: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<Row | undefined>, DatabaseError> =>
    wanted.length === 0
      ? Effect.succeed([])
      : Effect.map(
        read(sql<Row>`select ${columns} from users where login in ${sql.in(padded(wanted))}`),
        (rows) => inOrder(wanted, rows)
      )

  const isTaken = (login: string) => Effect.map(like(login), (rows) => rows.length > 0)

  /** A plain INSERT: one that finds its login taken changes nothing, and leaves its transaction usable. */
  const insert = ({ forname, login, name }: Avatar): Effect.Effect<boolean, DatabaseError> =>
    Effect.as(typed(sql`insert into users (login, name, forname) values (${login}, ${name}, ${forname})`), true).pipe(
      Effect.catchIf(
        ({ reason }) => reason === "UniqueViolation",
        // Perhaps by another index than that of the logins.
        (error) => Effect.flatMap(isTaken(login), (taken) => taken ? Effect.succeed(false) : Effect.fail(error))
      )
    )

  /** All or none; where a login is taken it fails. In one order, so that two of them at once do not wait for each other. */
  const insertMany = (avatars: ReadonlyArray<Avatar>): Effect.Effect<ReadonlyArray<string>, DatabaseError> => {
    const rows = avatars.map(({ forname, login, name }) => ({ login, name, forname })).toSorted((one, other) =>
      one.login < other.login ? -1 : 1
    )
    return Effect.as(typed(sql`insert into users ${sql.insert(rows)}`), rows.map(({ login }) => login))
  }

  /** Where none is affected it is not there, or was as it should be, or was added since, which only a read of this moment tells. */
  const update = (avatar: Avatar): Effect.Effect<boolean, DatabaseError> => {
    const { forname, login, name } = avatar
    return Effect.flatMap(
      affected(sql`update users set name = ${name}, forname = ${forname} where ${is(login)}`),
      (rows) =>
        rows > 0 ? Effect.succeed(true) : Effect.flatMap(
          read(sql<Row>`select ${columns} from users where login = ${login} for update`),
          (rows) => {
            const found = only([login], rows)[0]
            return found === undefined || (found.name === name && found.forname === forname)
              ? Effect.succeed(found !== undefined)
              : update(avatar)
          }
        )
    )
  }

  const anothersId = sql.literal(String(anothersRow))
  const same = sql.literal(
    "cast(convert(login using utf8mb4) as binary) = cast(convert(values(login) using utf8mb4) as binary)"
  )

  /** One statement, since a second one would write over what others have written since. */
  const upsert = ({ forname, login, name }: Avatar): Effect.Effect<void, DatabaseError> =>
    Effect.flatMap(
      typed(
        sql`
        insert into users (login, name, forname) values (${login}, ${name}, ${forname})
        on duplicate key update
          name = if(${same}, values(name), if(last_insert_id(${anothersId}) > 0, name, name)),
          forname = if(${same}, values(forname), forname)
      `.raw
      ),
      (header) =>
        Number((header as { readonly insertId?: unknown }).insertId) === anothersRow ? notStored() : Effect.void
    )

  /** Never: what one statement says of many rows does not tell that another's was in the way of one. */
  const upsertMany = () => Effect.succeed(false)

  const remove = (gone: string): Effect.Effect<boolean, DatabaseError> =>
    Effect.map(affected(sql`delete from users where ${is(gone)}`), (rows) => rows > 0)

  /** By the index of the logins where its order is that of code points, else by a sort. */
  const page = (after: string | undefined, limit: number): Effect.Effect<ReadonlyArray<Row>, DatabaseError> =>
    Effect.flatMap(
      read(sql<{ readonly collation: unknown }>`select collation(login) as collation from users limit 1`),
      ([first]) => {
        const isExact = exactCollations.has(first?.collation)
        const login = isExact ? sql.literal("login") : bytes
        const start = after === undefined
          ? sql`login is not null`
          : isExact
          ? sql`login > ${after}`
          : sql`${login} > cast(${after} as binary)`
        const rows = read(sql<Row>`
          select ${columns} from users where ${start} order by ${login} limit ${sql.literal(String(limit))}
        `)
        return Effect.map(rows, (rows) => rows.filter((row) => typeof row.login === "string"))
      }
    )

  const sent = door === undefined ? {} : { sendMany: sender(door, byList, foundByLogin) }

  return { find, findMany, insert, insertMany, page, remove, update, upsert, upsertMany, ...sent }
}

const byList = (wanted: ReadonlyArray<string>) => {
  const logins = padded(wanted)
  return [
    `select login, name, forname from users where login in (${logins.map(() => "?").join(", ")})`,
    logins
  ] as const
}

/** To the next power of two, by the last one again: few statements are different, and stay prepared. */
const padded = (wanted: ReadonlyArray<string>): ReadonlyArray<string> => {
  const size = 2 ** Math.ceil(Math.log2(wanted.length))
  return Array.from({ length: size }, (_, i) => wanted[i] ?? wanted[wanted.length - 1]!)
}

/**
 * PostgreSQL, and what speaks its protocol, by the driver `pg` of `@effect/sql-pg`.
 *
 * That package's own client is not used, for what its transactions do (`internal/transaction.ts`) and because its cancelling of an interrupted
 * statement can hit another one: here a connection is given back only when the cancelling is over too.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import { SqlError } from "@effect/sql/SqlError"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import type { EventEmitter } from "node:events"
import type { ConnectionOptions } from "node:tls"
import type * as Pg from "pg"
import type { DatabaseError } from "../../DatabaseError.js"
import { fromSqlError, fromUnknown } from "../../DatabaseError.js"
import { failure } from "../failure.js"
import { load, withCode } from "./driver.js"
import type { Ask, Engine, Session } from "./session.js"
import { placeOf } from "./settings.js"
import type { Settings, Tls } from "./settings.js"

export const defaultPort = 5432

export const makeEngine = (settings: Settings): Effect.Effect<Engine, DatabaseError> =>
  Effect.map(
    load<typeof PgClient, typeof Pg>("@effect/sql-pg", () => import("@effect/sql-pg/PgClient"), "pg"),
    ({ client, driver }): Engine => ({
      place: placeOf(settings),
      connect: (done) => connect(driver, settings, done),
      compiler: client.makeCompiler(),
      spanAttributes: [
        ["db.system.name", "postgresql"],
        ["db.namespace", settings.database ?? settings.username ?? "postgres"],
        ["server.address", settings.socket ?? settings.host],
        ["server.port", settings.port]
      ],
      begin: "BEGIN",
      // After a failed statement nothing runs but ROLLBACK.
      endsTransaction: () => false,
      cursor: openCursor
    })
  )

/** What `pg` says without a code. */
const codes = [
  [/does not support SSL/, "HANDSHAKE_NO_SSL_SUPPORT"],
  [/establishing an SSL/, "HANDSHAKE_SSL_ERROR"],
  [/SASL|password/, "28P01"],
  [/terminated|not queryable|closed/, "ECONNRESET"]
] as const

const connect = (driver: typeof Pg, settings: Settings, done: Parameters<Engine["connect"]>[0]): () => void => {
  const config: Pg.ClientConfig = {
    host: settings.socket ?? settings.host,
    port: settings.port,
    database: settings.database,
    user: settings.username,
    password: settings.password === undefined ? undefined : Redacted.value(settings.password),
    ssl: settings.tls === undefined ? false : tlsOf(settings.tls),
    keepAlive: true,
    application_name: settings.applicationName
  }
  let isOver = false
  const refuse = (error: unknown) => {
    const subject = `${capitalized(placeOf(settings))} could not be opened`
    const cause = fromUnknown(withCode(error, codes), { operation: "connect", subject })
    finish(cause.code === undefined ? speaksOtherwise(subject) : new SqlError({ cause, message: cause.message }))
  }
  const finish = (outcome: Session | SqlError) => {
    clearTimeout(late)
    if (!isOver) {
      isOver = true
      if (outcome instanceof SqlError) {
        session?.destroy()
      }
      done(outcome)
    }
  }
  const late = setTimeout(() => refuse(timedOut()), settings.connectTimeout)
  let session: Session | undefined
  try {
    const client = new driver.Client(config)
    session = makeSession(driver, client, settings)
    client.connect((error: Error | null) =>
      error ?
        refuse(error) :
        client.query(setUp(settings), (error: Error | null) => error ? refuse(error) : finish(session!))
    )
  } catch (error) {
    refuse(error)
  }
  return () => refuse(timedOut())
}

const tlsOf = ({ ca, checksName, rejectUnauthorized }: Tls): ConnectionOptions => ({
  rejectUnauthorized,
  ...(ca === undefined ? {} : { ca }),
  ...(checksName ? {} : { checkServerIdentity: () => undefined })
})

const timedOut = () => Object.assign(new Error("timeout"), { code: "ETIMEDOUT" })

const speaksOtherwise = (subject: string) =>
  failure("ConnectionError", "connect", `${subject}: what listens there does not speak its protocol.`)

/** Not among the parameters of the start, which some proxies refuse. */
const setUp = ({ readonly, statementTimeout }: Settings): string =>
  `select set_config('statement_timeout', '${Math.ceil(statementTimeout)}', false)${
    readonly ? ", set_config('default_transaction_read_only', 'on', false)" : ""
  }`

const capitalized = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)

const makeSession = (driver: typeof Pg, client: Pg.Client, settings: Settings): Session => {
  const session: Session = {
    isBroken: false,
    isDirty: false,
    isSpent: false,
    run: ({ form, params, sql }, done) => {
      const answer = (error: unknown, result: Pg.QueryResult | Array<Pg.QueryResult>) => {
        if (error) {
          // The server closes the connection after these, which is noticed later.
          session.isBroken ||= isFatal(error)
          done(new SqlError({ cause: withCode(error, codes), message: "Failed to execute statement" }), undefined)
        } else {
          done(
            undefined,
            form === "raw" ? result : Array.isArray(result) ? result.map(({ rows }) => rows) : result.rows
          )
        }
      }
      try {
        const values = params as Array<unknown>
        client.query(
          { text: sql, values, ...(form === "values" ? { rowMode: "array" } : {}) } as Pg.QueryConfig,
          answer as never
        )
      } catch (error) {
        answer(error, [])
      }
    },
    stream: () => Stream.dieMessage("PostgreSQL streams by a cursor"),
    cancel: (done) => cancel(driver, client, settings, done),
    end: (ended) => {
      session.isBroken = true
      const late = setTimeout(session.destroy, 1_000)
      client.end(() => {
        clearTimeout(late)
        ended()
      })
    },
    destroy: () => {
      session.isBroken = true
      socketOf(client).destroy()
    }
  }
  client.on("error", () => session.isBroken = true)
  client.on("end", () => session.isBroken = true)
  return session
}

const socketOf = (client: Pg.Client) => client.connection.stream

const isFatal = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "severity" in error &&
  (error.severity === "FATAL" || error.severity === "PANIC")

/** The protocol's own request: unlike `pg_cancel_backend` it does nothing where a proxy leads it to another server. */
const cancel = (driver: typeof Pg, client: Pg.Client, settings: Settings, done: () => void): void => {
  const connection = new driver.Connection({}) as unknown as EventEmitter & {
    readonly connect: (port: number | string, host?: string) => void
    readonly cancel: (processID: unknown, secretKey: unknown) => void
    readonly stream: { readonly destroy: () => void }
  }
  const { processID, secretKey } = client as unknown as { readonly processID: unknown; readonly secretKey: unknown }
  const late = setTimeout(() => connection.stream.destroy(), settings.connectTimeout)
  connection.on("error", () => {})
  connection.once("connect", () => connection.cancel(processID, secretKey))
  // The server closes it when it has passed the request on.
  connection.once("end", () => {
    clearTimeout(late)
    done()
  })
  if (settings.socket === undefined) {
    connection.connect(settings.port, settings.host)
  } else {
    connection.connect(`${settings.socket}/.s.PGSQL.${settings.port}`)
  }
}

let cursors = 0

/** The server's own cursor: each chunk is a statement of its own, between which others run in the same transaction. */
const openCursor: NonNullable<Engine["cursor"]> = ({ params, sql }, run) => {
  const ask = (sql: string, params: ReadonlyArray<unknown> = []): Ask => ({ sql, params, form: "raw" })
  if (
    !/^[\s(]*(select|values|table|with)\b/i.test(sql) || /^\s*with\b[^]*\b(insert|update|delete|merge)\b/i.test(sql)
  ) {
    // What writes has no cursor.
    return Effect.map(run(ask(sql, params)), (answer) => Stream.fromIterable(rowsOf(answer)))
  }
  const name = `effect_sql_${++cursors}`
  const declare = (hold: string) => run(ask(`DECLARE ${name} NO SCROLL CURSOR ${hold} FOR ${sql}`, params))
  return Effect.as(
    Effect.acquireRelease(
      // On a reserved connection without a transaction nothing but the server's copy of all rows outlives the statement.
      Effect.catchIf(declare(""), isWithoutTransaction, () => declare("WITH HOLD")),
      () => Effect.ignore(run(ask(`CLOSE ${name}`)))
    ),
    Stream.repeatEffectChunkOption(
      Effect.flatMap(
        Effect.mapError(run(ask(`FETCH 500 FROM ${name}`)), Option.some),
        (answer) => {
          const rows = rowsOf(answer)
          return rows.length === 0 ? Effect.fail(Option.none()) : Effect.succeed(Chunk.unsafeFromArray(rows))
        }
      )
    )
  )
}

const isWithoutTransaction = (error: SqlError): boolean => fromSqlError(error).code === "25P01"

const rowsOf = (answer: unknown): ReadonlyArray<unknown> => (answer as Pg.QueryResult).rows

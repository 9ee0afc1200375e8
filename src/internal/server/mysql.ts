/**
 * MariaDB, MySQL, and what speaks their protocol, by the driver `mysql2` of `@effect/sql-mysql2`.
 *
 * That package's own client is not used: its pool has no timeout for those who wait, it closes idle connections every second, and a lost
 * connection stays in it. Every connection is strict (a value that does not fit is refused, not cut).
 */
import type * as MysqlClient from "@effect/sql-mysql2/MysqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Mysql from "mysql2"
import { isIP } from "node:net"
import type { DatabaseError, Reason } from "../../DatabaseError.js"
import { fromSqlError, fromUnknown } from "../../DatabaseError.js"
import { unusableUrl } from "../failure.js"
import { load, withCode } from "./driver.js"
import { streamRows } from "./mysqlStream.js"
import type { Engine, Session } from "./session.js"
import { placeOf } from "./settings.js"
import type { Settings, Tls } from "./settings.js"
import { notReady } from "./statement.js"

export const defaultPort = 3306

export const makeEngine = (settings: Settings): Effect.Effect<Engine, DatabaseError> =>
  Effect.map(
    settings.tls?.checksName === true && isIP(settings.host) !== 0
      // It would look for 'localhost' in the certificate.
      ? unusableUrl("sslmode=verify-full needs a host's name, since this driver checks no certificate of an address")
      : load<typeof MysqlClient, typeof Mysql>("@effect/sql-mysql2", () =>
        import("@effect/sql-mysql2/MysqlClient"), "mysql2"),
    ({ client, driver }): Engine => ({
      place: placeOf(settings),
      connect: (done) =>
        connect(driver, settings, done),
      compiler: client.makeCompiler(),
      spanAttributes: [
        ["db.system.name", "mysql"],
        ...(settings.database === undefined ? [] : [["db.namespace", settings.database] as const]),
        ["server.address", settings.socket ?? settings.host],
        ["server.port", settings.port]
      ],
      begin: "START TRANSACTION",
      endsTransaction: (error) =>
        ending.has(fromSqlError(error).reason)
    })
  )

/** A deadlock, a conflict between nodes, and by some settings a timeout roll the whole transaction back; the next statement is on its own. */
const ending: ReadonlySet<Reason> = new Set<Reason>(["DeadlockError", "SerializationError", "LockTimeoutError"])

/** What `mysql2` says without a code. */
const codes = [[/closed state|is closed/, "ECONNRESET"]] as const

/** A connection, and which server it is on: behind a proxy the next may be on another. */
interface Opened {
  readonly session: Session
  readonly connection: Mysql.Connection
  readonly server: string
}

const connect = (driver: typeof Mysql, settings: Settings, done: (outcome: Session | SqlError) => void): () => void =>
  open(driver, settings, (outcome) => done(outcome instanceof SqlError ? outcome : outcome.session))

const open = (driver: typeof Mysql, settings: Settings, done: (outcome: Opened | SqlError) => void): () => void => {
  let isOver = false
  const finish = (outcome: Opened | SqlError) => {
    clearTimeout(late)
    if (!isOver) {
      isOver = true
      if (outcome instanceof SqlError) {
        session.destroy()
      }
      done(outcome)
    }
  }
  const refuse = (error: unknown) => {
    const place = placeOf(settings)
    const subject = `${place.charAt(0).toUpperCase()}${place.slice(1)} could not be opened`
    const cause = fromUnknown(withCode(error, codes), { operation: "connect", subject })
    finish(new SqlError({ cause, message: cause.message }))
  }
  const late = setTimeout(() => refuse(timedOut()), settings.connectTimeout)
  const connection = driver.createConnection({
    ...(settings.socket === undefined
      ? { host: settings.host, port: settings.port }
      : { socketPath: settings.socket }),
    ...(settings.username === undefined ? {} : { user: settings.username }),
    ...(settings.password === undefined ? {} : { password: Redacted.value(settings.password) }),
    ...(settings.database === undefined ? {} : { database: settings.database }),
    ...(settings.tls === undefined ? {} : { ssl: tlsOf(settings.tls) }),
    charset: "utf8mb4",
    supportBigNumbers: true,
    connectTimeout: settings.connectTimeout,
    maxPreparedStatements: 100,
    connectAttributes: { program_name: settings.applicationName }
  })
  const opened: { server: string } = { server: "" }
  const session = makeSession(driver, connection, settings, opened)
  connection.connect((error) => {
    if (error) {
      return refuse(error)
    }
    connection.query(
      setUp(settings),
      (error) =>
        error ?
          refuse(error) :
          connection.query("select concat_ws(':', @@hostname, @@port) as server", (error, rows) => {
            if (error) {
              return refuse(error)
            }
            opened.server = String((rows as Array<{ readonly server: unknown }>)[0]?.server)
            finish({ session, connection, server: opened.server })
          })
    )
  })
  return () => refuse(timedOut())
}

const timedOut = () => Object.assign(new Error("timeout"), { code: "ETIMEDOUT" })

const tlsOf = ({ ca, checksName, rejectUnauthorized }: Tls): Mysql.SslOptions => ({
  rejectUnauthorized,
  verifyIdentity: checksName,
  ...(ca === undefined ? {} : { ca })
})

/** Comments that one of the two servers runs: both have a timeout of statements, under different names and in different units. */
const setUp = ({ readonly, statementTimeout }: Settings): string =>
  `set session sql_mode = concat_ws(',', @@session.sql_mode, 'STRICT_ALL_TABLES')` +
  ` /*M!100101 , session max_statement_time = ${statementTimeout / 1_000} */` +
  ` /*!50708 , session max_execution_time = ${Math.ceil(statementTimeout)} */` +
  (readonly ? ` /*M!100101 , session tx_read_only = 1 */ /*!50720 , session transaction_read_only = 1 */` : "")

const makeSession = (
  driver: typeof Mysql,
  connection: Mysql.Connection,
  settings: Settings,
  own: { readonly server: string }
): Session => {
  const failed = (error: unknown): SqlError => {
    const isFatal = typeof error === "object" && error !== null && "fatal" in error && error.fatal === true
    session.isBroken ||= isFatal
    // A cluster's node that is not ready: a proxy leads the next connection to another.
    session.isSpent ||= typeof error === "object" && error !== null && "errno" in error && error.errno === notReady
    return new SqlError({ cause: withCode(error, codes), message: "Failed to execute statement" })
  }
  const session: Session = {
    isBroken: false,
    isDirty: false,
    isSpent: false,
    run: ({ form, params, sql }, done) => {
      const method = params.length === 0 ? "query" : "execute"
      try {
        connection[method](
          { sql, values: params as Array<never>, rowsAsArray: form === "values" },
          (error: unknown, answer: unknown) => {
            if (error) {
              done(failed(error), undefined)
            } else {
              done(undefined, form === "raw" || Array.isArray(answer) ? answer : [])
            }
          }
        )
      } catch (error) {
        done(failed(error), undefined)
      }
    },
    stream: ({ params, sql }) =>
      streamRows({ connection, session, sql, params, failed, statementTimeout: settings.statementTimeout }),
    cancel: (done) =>
      open(driver, settings, (outcome) => {
        if (outcome instanceof SqlError) {
          return done()
        }
        const finish = () => outcome.session.end(done)
        if (outcome.server === own.server && connection.threadId) {
          outcome.connection.query(`kill query ${connection.threadId}`, finish)
        } else {
          finish()
        }
      }),
    end: (ended) => {
      session.isBroken = true
      let isOver = false
      const finish = () => {
        clearTimeout(late)
        if (!isOver) {
          isOver = true
          connection.destroy()
          ended()
        }
      }
      const late = setTimeout(finish, 1_000)
      connection.end(finish)
    },
    destroy: () => {
      session.isBroken = true
      ;(connection as unknown as { readonly stream: { readonly destroy: () => void } }).stream.destroy()
    }
  }
  connection.on("error", () => session.isBroken = true)
  connection.on("end", () => session.isBroken = true)
  return session
}

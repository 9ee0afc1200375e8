/**
 * The one place where a database is chosen: a URL becomes a `SqlClient` whose table `users` is there.
 *
 * SQLite is reached through `SqlitePool`: statements run on threads of their own and never block the event loop. PostgreSQL and MariaDB or
 * MySQL are reached through the drivers of `@effect/sql-pg` and `@effect/sql-mysql2`, which are loaded only when a URL asks for them: install
 * the one that you use. Their pools of connections are ours: waiting for a connection ends typed after `acquireTimeout`, a broken connection is
 * given to nobody, a failing COMMIT is a typed failure.
 *
 * A server's own limits remain: a statement that the server does not end is given up with its connection five seconds after `statementTimeout`;
 * in MySQL's dialect DDL commits the transaction that it stands in, and a stream holds its connection until it is read to its end.
 *
 * @since 0.1.0
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type { DatabaseError } from "./DatabaseError.js"
import { fromSqlError, fromUnknown } from "./DatabaseError.js"
import { unusableUrl } from "./internal/failure.js"
import { retried } from "./internal/retried.js"
import { makeClient } from "./internal/server/client.js"
import * as mysql from "./internal/server/mysql.js"
import * as postgres from "./internal/server/postgres.js"
import * as settings from "./internal/server/settings.js"
import * as sqliteUrl from "./internal/sqliteUrl.js"
import { makeTable } from "./internal/table.js"
import * as SqlitePool from "./SqlitePool.js"

/**
 * A client for the database of a URL, whose table `users` is there: it is made where it is missing, and used as it is where it
 * exists, for which no right to create is needed.
 *
 * `sqlite:` is followed by the file's path, in which `?` is written `%3F` and `%` is written `%25`: `sqlite:./users.sqlite` (relative
 * to the working directory of the moment at which the layer is built), `sqlite:/var/lib/users.sqlite`. `sqlite::memory:` is a
 * database in memory that ends with the layer. A file that does not exist is made, its directory is not. After `?` come options of the
 * `SqlitePool` that are numbers, durations, words, or `true` and `false`: `sqlite:./users.sqlite?maxReaders=8&busyTimeout=2 seconds`.
 *
 * `postgres:` (or `postgresql:`) and `mysql:` (or `mariadb:`) are followed by `//user:password@host:port/database`, in whose parts `/`, `?`,
 * `#`, `@` and `%` are written as `%`-codes. After `?` come options, joined by `&`; durations are milliseconds from 1, or such as `2 seconds`, and
 * connections are from 1 to 10 000:
 *
 * | option | default | |
 * |---|---|---|
 * | `maxConnections`, `minConnections` | 10, 0 | open at most; kept open when they are idle |
 * | `idleTimeout` | 30 s | an idle connection is closed |
 * | `connectTimeout` | 10 s | opening a connection |
 * | `acquireTimeout` | 30 s | waiting for a connection, or in a transaction for its turn |
 * | `statementTimeout` | 60 s | a statement that runs (in MySQL itself: a SELECT) |
 * | `closeTimeout` | 10 s | what still runs when the layer is released is cut off then |
 * | `maxQueue` | 100 000 | so many may wait for a connection, and so many lookups and creates beyond those that leave at once |
 * | `sslmode` | `disable` | `require` encrypts, `verify-ca` also checks who signed the certificate, `verify-full` also its name |
 * | `sslrootcert` | Node's own | a file of certificates in PEM |
 * | `socket` | none | a socket of this machine: for PostgreSQL its directory, which may also be called `host` |
 * | `applicationName` | `effect-avatars` | what the server calls the connection |
 * | `readonly` | `false` | as below |
 *
 * With `readonly: true` (the default is `false`) only an existing file is opened, nothing is made, and every write fails with an
 * `AuthorizationError`.
 *
 * Keep the layer in a constant: two calls open two databases. Building it fails with a `DatabaseError` whose sentence names the
 * file or the server and says why: not a URL of a known database, a missing directory, no permission, a file that is no database, one that
 * another process keeps locked for about five seconds; a driver that is not installed, a server that refuses, is not there or does not answer, a
 * wrong password, no such database, no TLS, too many connections. Releasing it closes the file or the connections.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  url: string | Redacted.Redacted,
  options: { readonly readonly?: boolean | undefined } = {}
): Layer.Layer<SqlClient.SqlClient, DatabaseError> =>
  Layer.scoped(
    SqlClient.SqlClient,
    Effect.suspend(() => {
      const text = Redacted.isRedacted(url) ? Redacted.value(url) : url
      const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(text)?.[1]?.toLowerCase()
      switch (scheme) {
        case "sqlite":
          return Effect.flatMap(sqliteUrl.parse(text), (config) =>
            openFile({ ...config, readonly: options.readonly ?? config.readonly }))
        case "postgres":
        case "postgresql":
          return openServer(text, postgres, options)
        case "mysql":
        case "mariadb":
          return openServer(text, mysql, options)
        default:
          return unusableUrl(scheme === undefined ? "it has no scheme" : `no database is known for '${scheme}:'`)
      }
    })
  ).pipe(Layer.provide(Reactivity.layer))

/**
 * The same for the URL that the configuration names `DATABASE_URL` (by default an environment variable). Fails with a
 * `ConfigError` where it is missing.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<SqlClient.SqlClient, DatabaseError | ConfigError> = Layer.unwrapEffect(
  Effect.map(Config.redacted("DATABASE_URL"), (url) => layer(url))
)

/**
 * Makes the table `users` where it is missing, by one statement that may run any number of times and in many processes at
 * once. `layer` has done so; this is for those who put the repository over a client of their own.
 *
 * @since 0.1.0
 * @category migrations
 */
export const migrate: Effect.Effect<void, DatabaseError, SqlClient.SqlClient> = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => Effect.mapError(makeTable(sql), (error) => fromSqlError(error))
)

/**
 * Runs an effect in a transaction, and runs it again from its beginning where the transaction lost against another one, or its connection was
 * lost before COMMIT: **the effect may run several times**, up to eleven, with capped and jittered pauses of 5 ms to 1.5 s between. What it does
 * besides statements (sending a mail, counting in a `Ref`) is done each time: do that afterwards.
 *
 * It is tried again after a failure of the effect, of BEGIN or of COMMIT that is retryable (see `DatabaseError.isRetryable`; the effect may fail
 * with a `SqlError` or a `DatabaseError`), but not where no connection was to be had, and not where the outcome is unknown: a connection
 * that is lost during COMMIT fails with `outcome: "unknown"`, and whether to do it again is for the caller to know. The failure of the last
 * attempt is the one that is seen.
 *
 * Inside another transaction it is a savepoint and is tried once: the whole transaction has to be.
 *
 * @since 0.1.0
 * @category transactions
 */
export const transaction = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | DatabaseError, R | SqlClient.SqlClient> =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => retried(sql, effect))

const openFile = (config: SqlitePool.SqlitePoolConfig) =>
  Effect.gen(function*() {
    const pool = yield* Effect.mapError(SqlitePool.make(config), (error) => fromSqlError(error, "connect"))
    if (config.readonly !== true) {
      const subject = `The table users could not be made in '${config.filename}'`
      yield* Effect.mapError(makeTable(pool), (error) => fromUnknown(error, { operation: "connect", subject }))
    }
    return pool
  })

const openServer = (
  url: string,
  { defaultPort, makeEngine }: typeof postgres | typeof mysql,
  options: { readonly readonly?: boolean | undefined }
) =>
  Effect.gen(function*() {
    const parsed = yield* settings.parse(url, defaultPort)
    const chosen = { ...parsed, readonly: options.readonly ?? parsed.readonly }
    const client = yield* Effect.flatMap(makeEngine(chosen), (engine) => makeClient(engine, chosen))
    const subject = `The table users could not be made in ${settings.placeOf(chosen)}`
    const opened: Effect.Effect<unknown, SqlError> = chosen.readonly ? client`select 1` : makeTable(client)
    yield* Effect.mapError(opened, (error) => fromUnknown(error, { operation: "connect", subject }))
    return client
  })

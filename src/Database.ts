/**
 * The one place where a database is chosen: a URL becomes a `SqlClient` whose table `users` is there.
 *
 * SQLite is reached through `SqlitePool`: statements run on threads of their own and never block the event loop.
 *
 * @since 0.1.0
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { DatabaseError, fromSqlError, fromUnknown } from "./DatabaseError.js"
import * as SqlitePool from "./SqlitePool.js"

/**
 * A client for the database of a URL, whose table `users` is there: it is made where it is missing, and used as it is where it
 * exists, for which no right to create is needed.
 *
 * `sqlite:` is followed by the file's path, in which `?` is written `%3F` and `%` is written `%25`: `sqlite:./users.sqlite` (relative
 * to the working directory of the moment at which the layer is built), `sqlite:/var/lib/users.sqlite`. `sqlite::memory:` is a
 * database in memory that ends with the layer. A file that does not exist is made, its directory is not.
 *
 * With `readonly: true` (the default is `false`) only an existing file is opened, nothing is made, and every write fails with an
 * `AuthorizationError`.
 *
 * Keep the layer in a constant: two calls open two databases. Building it fails with a `DatabaseError` whose sentence names the
 * file and says why: not a URL of a known database, a missing directory, no permission, a file that is no database, one that another
 * process keeps locked for about five seconds. Releasing it closes the file.
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
    Effect.flatMap(
      parse(Redacted.isRedacted(url) ? Redacted.value(url) : url),
      (config) => open({ ...config, ...options })
    )
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

const makeTable = (sql: SqlClient.SqlClient) =>
  Effect.asVoid(sql`
    create table if not exists users (login text not null primary key, name text not null, forname text not null)
  `)

/** The pool that a URL asks for. By hand: `new URL` would cut a path at `#`. */
const parse = (url: string): Effect.Effect<SqlitePool.SqlitePoolConfig, DatabaseError> =>
  Effect.gen(function*() {
    const [, scheme, encoded = "", query] = /^([a-z][a-z0-9+.-]*):([^?]*)\??(.*)$/is.exec(url) ?? []
    if (scheme?.toLowerCase() !== "sqlite") {
      // Only a scheme is shown: the rest of a URL may be a password.
      return yield* unusable(scheme === undefined ? "it has no scheme" : `no database is known for '${scheme}:'`)
    }
    const filename = yield* Effect.try({
      try: () => decodeURIComponent(encoded),
      catch: () => unusable("a '%' in its path begins no character of UTF-8")
    })
    if (filename === "" || filename.includes("\0") || /^\/\/[^/]/.test(filename)) {
      return yield* unusable("it names no file")
    }
    const config: Record<string, unknown> = { filename }
    for (const [option, value] of new URLSearchParams(query)) {
      const read = options.get(option)
      if (read === undefined) {
        return yield* unusable(`its options are ${Array.from(options.keys()).join(", ")}`)
      }
      config[option] = read(value)
    }
    return config as unknown as SqlitePool.SqlitePoolConfig
  })

/** A value that is none is passed on as it is: the pool says what it may be. */
const number = (value: string): unknown => /^\d+$/.test(value) ? Number(value) : value
const boolean = (value: string): unknown => value === "true" ? true : value === "false" ? false : value

/** The options of a pool that a URL can name. Durations are milliseconds, or such as `2 seconds`. */
const options: ReadonlyMap<string, (value: string) => unknown> = new Map<string, (value: string) => unknown>([
  ["readonly", boolean],
  ["disableWAL", boolean],
  ["minReaders", number],
  ["maxReaders", number],
  ["maxQueue", number],
  ["prepareCacheSize", number],
  ["prepareCacheTTL", number],
  ["readerIdleTimeout", number],
  ["acquireTimeout", number],
  ["statementTimeout", number],
  ["closeTimeout", number],
  ["busyTimeout", number],
  ["synchronous", String],
  ["poolName", String]
])

const unusable = (why: string) =>
  new DatabaseError({
    reason: "ConnectionError",
    operation: "connect",
    message:
      `The database URL cannot be used: ${why}. Write for example sqlite:./users.sqlite or sqlite:/var/lib/users.sqlite.`
  })

const open = (config: SqlitePool.SqlitePoolConfig) =>
  Effect.gen(function*() {
    const pool = yield* Effect.mapError(SqlitePool.make(config), (error) => fromSqlError(error, "connect"))
    if (config.readonly !== true) {
      const subject = `The table users could not be made in '${config.filename}'`
      yield* Effect.mapError(makeTable(pool), (error) => fromUnknown(error, { operation: "connect", subject }))
    }
    return pool
  })

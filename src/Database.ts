/**
 * The one place where a database is chosen: a URL becomes a `SqlClient` whose table `users` is there.
 *
 * SQLite is reached through `@effect/sql-sqlite-node`: one connection, whose statements run synchronously on the thread of the
 * event loop and block it while they run. Where another process holds a lock of the file, a statement waits up to one second
 * for it, and blocks the event loop meanwhile.
 *
 * @since 0.1.0
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { DatabaseError, fromSqlError, fromUnknown } from "./DatabaseError.js"

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
      (filename) => open(filename, options.readonly ?? false)
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

/** The file that a URL names. By hand: `new URL` would cut a path at `#`. */
const parse = (url: string): Effect.Effect<string, DatabaseError> =>
  Effect.gen(function*() {
    const [, scheme, encoded = "", options] = /^([a-z][a-z0-9+.-]*):([^?]*)\??(.*)$/is.exec(url) ?? []
    if (scheme?.toLowerCase() !== "sqlite") {
      // Only a scheme is shown: the rest of a URL may be a password.
      return yield* unusable(scheme === undefined ? "it has no scheme" : `no database is known for '${scheme}:'`)
    }
    if (options) {
      return yield* unusable("a sqlite: URL has no options")
    }
    const filename = yield* Effect.try({
      try: () => decodeURIComponent(encoded),
      catch: () => unusable("a '%' in its path begins no character of UTF-8")
    })
    if (filename === "" || filename.includes("\0") || /^\/\/[^/]/.test(filename)) {
      return yield* unusable("it names no file")
    }
    return filename === ":memory:" ? filename : yield* Effect.try({
      try: () => path.resolve(filename),
      catch: (error) =>
        fromUnknown(error, { operation: "connect", subject: "The working directory could not be found" })
    })
  })

const unusable = (why: string) =>
  new DatabaseError({
    reason: "ConnectionError",
    operation: "connect",
    message:
      `The database URL cannot be used: ${why}. Write for example sqlite:./users.sqlite or sqlite:/var/lib/users.sqlite.`
  })

const open = (filename: string, readonly: boolean) =>
  openPlain(filename, readonly).pipe(
    // Processes that start together lock each other out for moments, whatever the busy timeout says.
    Effect.retry({
      schedule: Schedule.jittered(Schedule.spaced("50 millis")).pipe(Schedule.upTo("5 seconds")),
      while: (error) => error.reason === "LockTimeoutError"
    })
  )

/**
 * All that the plain driver needs to fail typed: it throws where it opens a file, makes a file that should have been there, and
 * refuses a file that it can read but not turn into WAL mode.
 */
const openPlain = Effect.fnUntraced(function*(filename: string, readonly: boolean) {
  const failure = (subject: string) => (thrown: unknown) => fromUnknown(thrown, { operation: "connect", subject })
  if (filename !== ":memory:") {
    yield* Effect.tryPromise({
      try: () => fs.stat(readonly ? filename : path.dirname(filename)),
      catch: failure(
        readonly
          ? `The database '${filename}' could not be opened`
          : `The directory of '${filename}' could not be opened`
      )
    })
  }
  const scope = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
  return yield* SqliteClient.make({ filename, disableWAL: true }).pipe(
    Effect.tap((sql) => sql`PRAGMA busy_timeout = 1000`),
    Effect.tap((sql) => sql`select count(*) from sqlite_schema`),
    Effect.tap((sql) => readonly ? sql`PRAGMA query_only = ON` : Effect.zipRight(writeAhead(sql), makeTable(sql))),
    Effect.catchAllDefect(Effect.fail),
    Effect.mapError(failure(`The database '${filename}' could not be opened`)),
    Scope.extend(scope),
    Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
  )
})

/** Readers and a writer do not wait for each other then. A file that this user may only read stays as it is. */
const writeAhead = (sql: SqlClient.SqlClient) =>
  Effect.catchIf(
    sql`PRAGMA journal_mode = WAL`,
    (error) => fromSqlError(error).reason === "AuthorizationError",
    () => Effect.void
  )

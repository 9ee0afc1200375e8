/** A Galera cluster of three MariaDB nodes on loopback, with HAProxy before them. */
import { Reactivity } from "@effect/experimental"
import { MysqlClient } from "@effect/sql-mysql2"
import { Effect, Redacted, Schedule, type Scope } from "effect"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { find, freePorts, makeProgram, nobody, type Program, programDirectory, run, type User } from "./daemons.js"
import { mariadbReady, mariadbSettings, mysqlUrl, temporaryDatabaseIn } from "./engines.js"

export interface Node extends Program {
  readonly name: string
  /** Of a database that every node has, past the proxy. */
  readonly url: string
}

export interface Cluster {
  readonly nodes: ReadonlyArray<Node>
  /** Of a database that every node has, through the proxy. */
  readonly url: string
  /** A database of its own, dropped with the scope: its URL, through the proxy. */
  readonly database: Effect.Effect<string, never, Scope.Scope>
}

const provider = ["/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so"].find((file) =>
  fs.existsSync(file)
)

/** Nodes copy their data to each other by rsync, which as root would become nobody: they run as the user that the server's package made. */
const mysqlUser = (): User => {
  const id = (option: string) => Number(spawnSync("id", [option, "mysql"]).stdout)
  return process.getuid?.() === 0 ? { uid: id("-u"), gid: id("-g") } : {}
}

const packages = [
  ["mariadb-server", find("mariadbd", nobody)],
  ["galera-4", provider],
  ["rsync", find("rsync", nobody)],
  ["haproxy", find("haproxy", nobody)]
] as const

/** What to install before there can be a cluster. */
export const missing: string | undefined = packages.every(([, found]) => found !== undefined)
  ? undefined
  : `install Debian's packages ${packages.flatMap(([name, found]) => found === undefined ? [name] : []).join(", ")}`

/** Starts it, node by node; when it returns all are ready, and the proxy answers. */
export const makeCluster: Effect.Effect<Cluster, never, Scope.Scope> = Effect.gen(function*() {
  const user = mysqlUser()
  const directory = yield* programDirectory(user)
  // For each node: SQL, the group, increments of its state, copies of its state.
  const firstPort = yield* freePorts(13)
  const proxyPort = firstPort + 12
  const places = [0, 1, 2].map((i) => ({ name: `node${i}`, port: firstPort + 4 * i }))
  const members = places.map(({ port }) => `127.0.0.1:${port + 1}`).join(",")
  const nodes = yield* Effect.forEach(
    places,
    (place, i) => makeNode({ ...place, members, isFirst: i === 0, directory, user })
  )
  yield* Effect.forEach(nodes, ({ start }) => start)
  yield* startProxy(directory, user, proxyPort, places)
  const url = mysqlUrl(proxyPort)
  yield* isReady(url)
  return { nodes, url, database: temporaryDatabaseIn(url, nodes.map(({ url }) => url)) }
})

const makeNode = Effect.fnUntraced(function*(options: {
  readonly name: string
  readonly port: number
  readonly members: string
  readonly isFirst: boolean
  readonly directory: string
  readonly user: User
}) {
  const { directory, isFirst, members, name, port, user } = options
  const file = find("mariadbd", user) ?? "mariadbd"
  const { common, first } = yield* mariadbSettings({ user, directory, name, port })
  const settings = [
    ...common,
    "--binlog-format=ROW",
    "--innodb-autoinc-lock-mode=2",
    "--wsrep-on=ON",
    `--wsrep-provider=${provider}`,
    `--wsrep-cluster-address=gcomm://${members}`,
    "--wsrep-cluster-name=effect-avatars",
    `--wsrep-node-name=${name}`,
    `--wsrep-node-address=127.0.0.1:${port + 1}`,
    `--wsrep-provider-options=${
      [
        `base_port=${port + 1}`,
        `gmcast.listen_addr=tcp://127.0.0.1:${port + 1}`,
        `ist.recv_addr=127.0.0.1:${port + 2}`,
        "gcache.size=64M"
      ].join(";")
    }`,
    "--wsrep-sst-method=rsync",
    `--wsrep-sst-receive-address=127.0.0.1:${port + 3}`,
    // Each statement sees what any node has acknowledged.
    "--wsrep-sync-wait=7"
  ]
  let isNew = true
  const program = makeProgram({
    file,
    args: Effect.suspend(() => {
      if (isNew) {
        isNew = false
        return Effect.succeed(isFirst ? [...settings, ...first, "--wsrep-new-cluster"] : settings)
      }
      // As Debian's galera_recovery does: the node asks for what it has missed, not for everything.
      return Effect.map(run(file, [...settings, "--wsrep-recover"], user, directory), (output) => {
        const position = /Recovered position:\s*(\S+)/.exec(output)?.[1]
        return position === undefined ? settings : [...settings, `--wsrep-start-position=${position}`]
      })
    }),
    user,
    directory,
    ready: mariadbReady,
    stopSignal: "KILL"
  })
  const url = mysqlUrl(port)
  return { ...program, name, url, start: Effect.zipRight(program.start, isReady(url)) }
})

/** Waits until the node that answers takes part in the cluster. */
const isReady = (url: string): Effect.Effect<void> =>
  MysqlClient.make({ url: Redacted.make(url), maxConnections: 1 }).pipe(
    Effect.flatMap((sql) => sql<{ Value: string }>`show status like 'wsrep_ready'`),
    Effect.filterOrFail((rows) => rows[0]?.Value === "ON", () => "not ready"),
    Effect.scoped,
    Effect.provide(Reactivity.layer),
    Effect.retry(Schedule.intersect(Schedule.spaced("200 millis"), Schedule.recurs(300))),
    Effect.orDie,
    Effect.asVoid
  )

/** It asks each node each half a second whether it is ready, and ends the connections with one that is not. */
const startProxy = (
  directory: string,
  user: User,
  port: number,
  places: ReadonlyArray<{ readonly name: string; readonly port: number }>
) => {
  const check = path.join(directory, "check.sh")
  const { username, password } = new URL(mysqlUrl(0))
  fs.writeFileSync(
    check,
    `#!/bin/sh
exec mariadb --no-defaults --connect-timeout=2 --host=127.0.0.1 --port="$4" --user=${username} --password=${password} \\
  --skip-column-names --execute="show status like 'wsrep_ready'" | grep -q ON
`,
    { mode: 0o755 }
  )
  const config = path.join(directory, "haproxy.cfg")
  fs.writeFileSync(
    config,
    `
global
  external-check
  insecure-fork-wanted
defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
  option redispatch
listen nodes
  bind 127.0.0.1:${port}
  balance leastconn
  option external-check
  external-check path "/usr/bin:/bin"
  external-check command ${check}
  default-server inter 500ms fall 2 rise 2 on-marked-down shutdown-sessions
${places.map(({ name, port }) => `  server ${name} 127.0.0.1:${port} check`).join("\n")}
`
  )
  return makeProgram({
    file: find("haproxy", user) ?? "haproxy",
    args: Effect.succeed(["-db", "-f", config]),
    user,
    directory,
    stopSignal: "KILL"
  }).start
}

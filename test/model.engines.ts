/** Where the programs of the model test run: databases that can be opened again, by two clients, and struck. */
import { SqliteClient } from "@effect/sql-sqlite-node"
import { SqlClient } from "@effect/sql"
import { AvatarRepository, Database, type DatabaseError } from "effect-avatars"
import { Context, Effect, ExecutionStrategy, Exit, Layer, Schedule, Scope } from "effect"
import { engines as kinds, openUrl, repositoryOver } from "./engines.js"
import { temporaryFile } from "./layers.js"
import { legacyTable } from "./lookups.js"
import type { Abilities } from "./model.commands.js"
import { mortals } from "./mortal.js"
import { type Server, servers, temporaryDatabase } from "./servers.js"

export interface Db {
  readonly users: AvatarRepository.Service
  /** Absent where there is only a repository. */
  readonly sql: SqlClient.SqlClient | undefined
}

/** A database of its own, which goes with the scope. */
interface Place {
  readonly connect: Effect.Effect<Db, DatabaseError.DatabaseError, Scope.Scope>
  /** Kills a thread, or closes a connection; answers whether there was one. It is gone when this ends. */
  readonly strike?: (victim: number) => Effect.Effect<boolean>
  /** So long the news of it may take to come through a socket (ms). */
  readonly delay?: number
}

export interface Engine {
  readonly name: string
  readonly missing: string | undefined
  readonly able: Abilities
  readonly place: Effect.Effect<Place, never, Scope.Scope>
}

const clientOf = (sql: SqlClient.SqlClient) => Effect.map(repositoryOver(sql), (users): Db => ({ sql, users }))

const connectTo = (url: string) => Effect.flatMap(openUrl(url), clientOf)

/** Kills threads of pools. Not by `terminate`: where that meets a statement that fails, the driver ends the whole process. */
const killThreads = Effect.map(
  mortals,
  (alive) => (victim: number) =>
    Effect.suspend(() => Array.from(alive)[victim % alive.size]?.kill("exit") ?? Effect.succeed(false))
)

/** Closes connections of a database in a server, as an administrator does. */
const closeConnections = (server: Server, url: string) =>
  Effect.map(server.admin, (admin) => {
    const { close, connectionsOf } = kinds.find(({ name }) => name === server.name)!
    const connections = Effect.map(
      admin.unsafe<{ readonly id: number }>(connectionsOf(new URL(url).pathname.slice(1))),
      (rows) => rows.map(({ id }) => Number(id))
    )
    return (victim: number) =>
      Effect.gen(function*() {
        const ids = yield* connections
        const id = ids.toSorted((a, b) => a - b)[victim % ids.length]
        if (id === undefined) {
          return false
        }
        // It may have ended by itself.
        yield* Effect.ignore(admin.unsafe(close(id)))
        yield* Effect.repeat(connections, { until: (ids) => !ids.includes(id), schedule: Schedule.spaced("1 millis") })
        return true
      }).pipe(Effect.orDie)
  })

const sqlite = (more: Partial<Abilities>): Abilities => ({
  hasClient: true,
  streams: true,
  snapshots: true,
  servesBeside: true,
  hasSecond: true,
  hasSiblings: true,
  dies: true,
  reopens: true,
  endsBusy: true,
  ...more
})

export const engines: ReadonlyArray<Engine> = [
  {
    name: "SQLite file",
    missing: undefined,
    able: sqlite({}),
    place: Effect.gen(function*() {
      const strike = yield* killThreads
      const file = yield* temporaryFile()
      return { connect: connectTo(`sqlite:${encodeURIComponent(file)}`), strike }
    })
  },
  {
    name: "SQLite in memory",
    missing: undefined,
    able: sqlite({ servesBeside: false, hasSecond: false, dies: false, reopens: false }),
    place: Effect.succeed({ connect: connectTo("sqlite::memory:") })
  },
  {
    name: "the stock client of SQLite",
    missing: undefined,
    able: sqlite({
      streams: false,
      snapshots: false,
      servesBeside: false,
      hasSiblings: false,
      dies: false,
      endsBusy: false
    }),
    place: Effect.map(temporaryFile(), (filename) => ({
      connect: Layer.build(
        Layer.effectDiscard(Database.migrate).pipe(
          Layer.provideMerge(Layer.fresh(Layer.orDie(SqliteClient.layer({ filename }))))
        )
      ).pipe(Effect.flatMap((context) => clientOf(Context.get(context, SqlClient.SqlClient))))
    }))
  },
  ...servers.map((server): Engine => ({
    name: server.name,
    missing: server.missing,
    able: sqlite({ snapshots: false }),
    place: Effect.gen(function*() {
      const url = yield* temporaryDatabase(server)
      return { connect: connectTo(url), strike: yield* closeConnections(server, url), delay: 500 }
    })
  })),
  {
    name: "layerMemory",
    missing: undefined,
    able: sqlite({
      hasClient: false,
      streams: false,
      snapshots: false,
      servesBeside: false,
      hasSecond: false,
      dies: false,
      reopens: false
    }),
    place: Effect.succeed({
      connect: Effect.map(Layer.build(Layer.fresh(AvatarRepository.layerMemory())), (context): Db => ({
        users: Context.get(context, AvatarRepository.AvatarRepository),
        sql: undefined
      }))
    })
  }
]

/** A database that is open. */
export interface Session {
  readonly able: Abilities
  readonly db: Db
  readonly second: Db | undefined
  readonly strike: NonNullable<Place["strike"]>
  readonly delay: number
  /** Closes the first client, and opens the database again by another. */
  readonly reopen: Effect.Effect<void>
  readonly close: Effect.Effect<void>
}

/** Opens an empty database whose table takes NULL. `wrap` stands before the first client. */
export const openSession = (
  { able, place }: Engine,
  wrap: (db: Db) => Effect.Effect<Db>
): Effect.Effect<Session, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const { connect, delay = 0, strike } = yield* Scope.extend(place, scope)
    const open = Effect.gen(function*() {
      const own = yield* Scope.fork(scope, ExecutionStrategy.sequential)
      const db = yield* Effect.flatMap(Scope.extend(connect, own), wrap)
      return { db, close: Scope.close(own, Exit.void) }
    }).pipe(Effect.orDie)
    let current = yield* open
    const second = able.hasSecond ? (yield* Effect.orDie(Scope.extend(connect, scope))) : undefined
    yield* Effect.orDie(current.db.sql === undefined ? Effect.void : Effect.asVoid(legacyTable(current.db.sql)))
    return {
      able,
      get db() {
        return current.db
      },
      second,
      strike: strike ?? (() => Effect.succeed(false)),
      delay,
      reopen: Effect.suspend(() => current.close).pipe(
        Effect.zipRight(open),
        Effect.map((opened) => void (current = opened))
      ),
      close: Scope.close(scope, Exit.void)
    }
  })

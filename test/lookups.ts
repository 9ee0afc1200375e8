/** What the tests of coalesced lookups and creates share: the clients they run on, and a client whose statements can be seen and held. */
import { MysqlClient } from "@effect/sql-mysql2"
import { PgClient } from "@effect/sql-pg"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { SqlClient, type SqlError, Statement } from "@effect/sql"
import { it } from "@effect/vitest"
import { Avatar, AvatarRepository, Database, type DatabaseError } from "effect-avatars"
import { Array as Arr, Effect, Either, type Fiber, Layer, Runtime, type Scope, Stream } from "effect"
import type { YieldWrap } from "effect/Utils"
import { temporaryFile } from "./layers.js"
import { servers, temporaryDatabase } from "./servers.js"

export const login = Avatar.Login.make

export const avatar = (name: string, value = `Name of ${name}`) =>
  new Avatar.Avatar({ login: login(name), name: value, forname: `Forname of ${name}` })

export const numbers = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, i) => i)

export interface Client {
  readonly name: string
  readonly open: (file: string) => Layer.Layer<SqlClient.SqlClient, DatabaseError.DatabaseError>
  /** Another process can open the file. */
  readonly isFile: boolean
  /** Lookups are answered while a transaction is open. */
  readonly readsBesideTransactions: boolean
  readonly isSqlite: boolean
  /** Why it cannot be tested here. */
  readonly missing?: string | undefined
}

export const clients: ReadonlyArray<Client> = [
  {
    name: "SQLite pool file",
    open: (file) => Database.layer(`sqlite:${encodeURIComponent(file)}`),
    isFile: true,
    isSqlite: true,
    readsBesideTransactions: true
  },
  {
    name: "SQLite in memory",
    open: () => Database.layer("sqlite::memory:"),
    isFile: false,
    isSqlite: true,
    readsBesideTransactions: false
  },
  {
    name: "plain driver",
    open: (filename) =>
      Layer.effectDiscard(Database.migrate).pipe(
        Layer.provideMerge(Layer.orDie(SqliteClient.layer({ filename })))
      ),
    isFile: true,
    isSqlite: true,
    readsBesideTransactions: false
  },
  ...servers.map((server): Client => ({
    name: server.name,
    open: () => Layer.unwrapScoped(Effect.map(temporaryDatabase(server), (url) => Database.layer(url))),
    isFile: false,
    isSqlite: false,
    readsBesideTransactions: true,
    missing: server.missing
  }))
]

/** A statement as the repository sent it. */
export interface Sent {
  readonly sql: string
  readonly params: ReadonlyArray<unknown>
}

/** What a test sees of the statements of `users`, and does to them. */
export interface Observed {
  readonly users: AvatarRepository.Service
  readonly sql: SqlClient.SqlClient
  /** The statements that were sent, in order. */
  readonly sent: Array<Sent>
  /** The statements that were answered, in order. */
  readonly answered: Array<Sent>
  /** What a statement, sent already, does before it runs. */
  before: (statement: Sent) => Effect.Effect<void, SqlError.SqlError>
  /** What it does when it has run, before its answer arrives. */
  after: (statement: Sent) => Effect.Effect<void, SqlError.SqlError>
}

/** The same client, as one that stands before it: `@effect/sql` allows that of any client. */
export const observe = Effect.fnUntraced(function*(inner: SqlClient.SqlClient) {
  const observing = <A>(
    sql: string,
    params: ReadonlyArray<unknown>,
    run: (statement: Statement.Statement<never>) => Effect.Effect<A, SqlError.SqlError>
  ) =>
    Effect.suspend(() => {
      const statement = { sql, params }
      observed.sent.push(statement)
      return observed.before(statement).pipe(
        Effect.zipRight(run(inner.unsafe<never>(sql, params))),
        Effect.tap(() => observed.after(statement)),
        Effect.ensuring(Effect.sync(() => observed.answered.push(statement)))
      )
    })
  const execute = (sql: string, params: ReadonlyArray<unknown>) =>
    observing<ReadonlyArray<never>>(sql, params, (statement) => statement)
  const connection = {
    execute,
    executeRaw: (sql: string, params: ReadonlyArray<unknown>) =>
      observing<unknown>(sql, params, (statement) => statement.raw),
    executeUnprepared: execute,
    executeValues: (sql: string, params: ReadonlyArray<unknown>) =>
      observing<ReadonlyArray<ReadonlyArray<unknown>>>(sql, params, (statement) => statement.values),
    executeStream: () => Stream.dieMessage("unused")
  }
  const compiler = inner.onDialectOrElse({
    pg: () => PgClient.makeCompiler(),
    mysql: () => MysqlClient.makeCompiler(),
    orElse: () => Statement.makeCompilerSqlite()
  })
  const statements = Statement.make(Effect.succeed(connection), compiler, [], undefined)
  const client = Object.assign((...args: Parameters<Statement.Constructor>) => statements(...args), statements, {
    [SqlClient.TypeId]: SqlClient.TypeId,
    reserve: inner.reserve,
    withTransaction: inner.withTransaction,
    reactive: inner.reactive,
    reactiveMailbox: inner.reactiveMailbox
  }) as SqlClient.SqlClient
  Object.assign(client, { safe: client, withoutTransforms: () => client })
  const observed: Observed = {
    users: yield* Effect.provideService(AvatarRepository.make, SqlClient.SqlClient, client),
    sql: client,
    sent: [],
    answered: [],
    before: () => Effect.void,
    after: () => Effect.void
  }
  return observed
})

export const isSelect = ({ sql }: Sent) => /^\s*(select|with)\b/i.test(sql) && !isInsert({ sql })

export const isInsert = ({ sql }: { readonly sql: string }) => /\binsert\b/i.test(sql)

/**
 * How often each of the logins `user0`, `user1` ... was asked for, whether it was a parameter or part of one. In MySQL's dialect a list is made
 * longer by its last login, so that few statements are different.
 */
export const loginsIn = (sent: ReadonlyArray<Sent>) =>
  sent.flatMap(({ params }) => {
    const logins = JSON.stringify(params).match(/user\d+/g) ?? []
    return logins.filter((login, i) => i === 0 || login !== logins[i - 1])
  })

export interface Db {
  readonly sql: SqlClient.SqlClient
  readonly users: AvatarRepository.Service
  /** A second repository over the same client, whose statements are seen. */
  readonly observed: Observed
  readonly file: string
}

export const open = (client: Client): Effect.Effect<Db, DatabaseError.DatabaseError, Scope.Scope> =>
  Effect.gen(function*() {
    const file = yield* temporaryFile()
    const sql = yield* Effect.map(
      Layer.build(Layer.fresh(client.open(file))),
      (context) => context.unsafeMap.get(SqlClient.SqlClient.key) as SqlClient.SqlClient
    )
    const users = yield* Effect.provideService(AvatarRepository.make, SqlClient.SqlClient, sql)
    return { sql, users, observed: yield* observe(sql), file }
  })

type Body = (db: Db) => Generator<YieldWrap<Effect.Effect<unknown, unknown, Scope.Scope>>, void, never>

/** A test on a database of its own. */
export const claimOn = (client: Client) => (name: string, body: Body, timeout?: number) =>
  it.scopedLive(
    name,
    (context) => {
      context.skip(client.missing !== undefined, client.missing)
      return Effect.flatMap(open(client), (db) => Effect.gen(() => body(db)))
    },
    timeout
  )

/** `user0`, `user1` ... with what `avatar` gives them. */
export const fill = (sql: SqlClient.SqlClient, count: number) =>
  Effect.forEach(
    Arr.chunksOf(numbers(count), 1_000),
    (chunk) =>
      sql`insert into users ${
        sql.insert(chunk.map((i) => ({ login: `user${i}`, name: `Name of user${i}`, forname: `Forname of user${i}` })))
      }`,
    { discard: true }
  )

/** The table as the original program makes it, which takes NULL and, in SQLite, blobs. */
export const legacyTable = (sql: SqlClient.SqlClient, login = "login text unique", more = "") =>
  Effect.zipRight(
    sql`drop table users`,
    sql.unsafe(`create table users (${
      sql.onDialectOrElse({
        // Text without a length has no index there, and the usual collation folds case.
        mysql: () => login.replace("login text", "login varchar(255) character set utf8mb4 collate utf8mb4_nopad_bin"),
        orElse: () => login
      })
    }, name text, forname text${more})`)
  )

export type Answer = string

const tag = (error: { readonly _tag: string }): Answer => "reason" in error ? String(error.reason) : error._tag

/** What became of a lookup, as one word: the name, or which failure. */
export const ask = (users: AvatarRepository.Service, text: string): Effect.Effect<Answer> =>
  Effect.match(users.getUserAvatar(text as Avatar.Login), { onFailure: tag, onSuccess: ({ name }) => name })

/** What became of a write: `"done"`, or which failure. */
export const did = (
  write: Effect.Effect<void, { readonly _tag: string }>
): Effect.Effect<Answer> => Effect.match(write, { onFailure: tag, onSuccess: () => "done" })

/** Begins all of them in order, in one turn of the event loop: when it returns, each has asked. */
export const atOnce = <A, E>(
  effects: Iterable<Effect.Effect<A, E>>
): Effect.Effect<ReadonlyArray<Fiber.RuntimeFiber<A, E>>> =>
  Effect.map(Effect.runtime(), (runtime) => Array.from(effects, (effect) => Runtime.runFork(runtime)(effect)))

/** Lets everything else that can go on do so, for some turns of the event loop. */
export const turns = (count: number): Effect.Effect<void> =>
  Effect.repeatN(Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void))), count)

/** Waits for what must come; the test's timeout says that it did not. */
export const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.asVoid(Effect.repeat(turns(1), { until: condition }))

export const concurrently = <A, B, E>(
  items: Iterable<A>,
  f: (item: A, i: number) => Effect.Effect<B, E>
): Effect.Effect<Array<B>, E> => Effect.forEach(items, f, { concurrency: "unbounded" })

/** Each login with its name, as the table has them. */
export const stored = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql<{ readonly login: string; readonly name: string }>`select login, name from users`,
    (rows) => new Map(rows.map(({ login, name }) => [login, name]))
  )

export const nameIn = (found: ReadonlyMap<Avatar.Login, Either.Either<Avatar.Avatar, unknown>>, text: string) => {
  const answer = found.get(text as Avatar.Login)
  return answer === undefined ? undefined : Either.isRight(answer) ? answer.right.name : "MalformedUser"
}

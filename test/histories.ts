/**
 * Random calls of many fibers on few rows, and the history of what they were answered, for `linearizability.ts`: users by their repository, by statements
 * and in transactions, a counter, and two accounts between which amounts are moved.
 */
import { SqlClient, SqlError } from "@effect/sql"
import { Avatar, type AvatarRepository, Database, DatabaseError, type SqlitePool } from "effect-avatars"
import { Cause, Chunk, Effect, Either, Exit, Fiber, Option } from "effect"
import { byKey, type Call, contradiction, type Operation, type State } from "./linearizability.js"

/** Whom the fibers ask: several of them may be open on one database. */
export interface Client {
  readonly sql: SqlClient.SqlClient
  readonly users: AvatarRepository.Service
}

export interface HistoryOptions {
  /** What is asked, in turn by one fiber and another. */
  readonly clients: ReadonlyArray<Client>
  /** Begins the names of everything in this history. */
  readonly name: string
  /** Begins what is written, and names who wrote it. */
  readonly by: string
  readonly fibers: number
  /** So many does each fiber make, one after the other. */
  readonly calls: number
  /** A fault, and beside one of how many calls it happens: by what was done, so that it happens often and leaves time to go on. */
  readonly fault?: readonly [fault: Effect.Effect<void>, oneOf: number]
}

/** One clock for all processes of a machine (ms). */
const now = () => Number(process.hrtime.bigint()) / 1e6

const logins = ["a", "b", "c"]
const first = "100,100"

const isSqlite = (sql: SqlClient.SqlClient) => sql.onDialectOrElse({ sqlite: () => true, orElse: () => false })

/** Makes a history's counter and accounts, though faults happen. */
export const begin = ({ sql }: Client, name: string) =>
  Effect.all([
    sql`create table if not exists counters (id varchar(100) primary key, n integer not null)`,
    sql`create table if not exists accounts (id varchar(100) primary key, history varchar(100) not null, n integer not null)`,
    sql`delete from counters where id = ${`${name}-counter`}`,
    sql`delete from accounts where history = ${name}`,
    sql`insert into counters values (${`${name}-counter`}, 0)`,
    sql`insert into accounts values (${`${name}-1`}, ${name}, 100), (${`${name}-2`}, ${name}, 100)`
  ]).pipe(Effect.retry({ times: 20 }))

/** Makes the calls. What is answered by something else than a value or a typed failure is a defect. */
export const record = (options: HistoryOptions): Effect.Effect<ReadonlyArray<Operation>> =>
  Effect.gen(function*() {
    const { by, calls, clients, fault: [fault, oneOf] = [Effect.void, Infinity], fibers, name } = options
    const operations: Array<Operation> = []
    let written = 0
    const fiber = (id: number) => {
      const client = clients[id % clients.length]!
      const call = Effect.suspend(() => {
        const { run, unknown } = random(callsOf(client, name, () => `${by}-${written++}`))()
        const isInterrupted = Math.random() < 0.05
        const invoked = now()
        const settled = Effect.map(isInterrupted ? interrupted(run) : Effect.exit(run), (exit) => {
          const returned = now()
          const isSure = Exit.isSuccess(exit)
          const told = isSure ? exit.value : isUnknown(exit.cause) ? unknown() : []
          // A server may go on with what nobody waits for any more; a pool has ended what it answers.
          const end = isSure || isSqlite(client.sql) ? returned : Infinity
          operations.push(...told.map(([key, call, at = end]) => ({
            key: `${name}-${key}`,
            call,
            by: `${by}, fiber ${id}`,
            invoked,
            returned: at,
            isSure
          })))
        })
        return Math.random() * oneOf < 1 ? Effect.zipLeft(settled, fault, { concurrent: true }) : settled
      })
      return Effect.repeatN(call, calls - 1)
    }
    yield* Effect.forEach(Array.from({ length: fibers }, (_, i) => i), fiber, { concurrency: "unbounded" })
    return operations
  })

/** Whether what failed may have taken effect. Whoever is interrupted learns nothing. */
const isUnknown = (cause: Cause.Cause<unknown>): boolean => {
  if (!Chunk.isEmpty(Cause.defects(cause))) {
    throw new Error(Cause.pretty(cause))
  }
  const errors = Chunk.toReadonlyArray(Cause.failures(cause)).map((error) =>
    error instanceof SqlError.SqlError ? DatabaseError.fromSqlError(error) : error
  )
  return errors.length === 0 ||
    errors.some((error) => error instanceof DatabaseError.DatabaseError && error.outcome === "unknown")
}

/** What became of it when it was interrupted soon after it had begun. */
const interrupted = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.flatMap(
    Effect.fork(effect),
    (fiber) => Effect.zipRight(Effect.sleep(Math.random() * 4), Fiber.interrupt(fiber))
  )

const random = <A>(all: ReadonlyArray<A>): A => all[Math.floor(Math.random() * all.length)]!

const tagOf = (error: unknown) =>
  typeof error === "object" && error !== null && "_tag" in error ? error._tag : undefined

/** What contradicts itself in a history, as a person can read it. */
export const contradictions = (history: ReadonlyArray<Operation>): ReadonlyArray<string> =>
  Array.from(byKey(history)).flatMap(([key, operations]) =>
    contradiction(operations, key.endsWith("-counter") ? 0 : key.endsWith("-accounts") ? first : null) ?? []
  )

type Told = readonly [key: string, call: Call, returned?: number | undefined]

/** Something to ask: the calls that it was, as they were answered, and where the answer is unknown. */
interface Ask {
  readonly run: Effect.Effect<ReadonlyArray<Told>, unknown>
  readonly unknown: () => ReadonlyArray<Told>
}

const ask = <A>(run: Effect.Effect<A, unknown>, calls: (answer: A | undefined) => ReadonlyArray<Told>): Ask => ({
  run: Effect.map(run, calls),
  unknown: () => calls(undefined)
})

const callsOf = (client: Client, name: string, value: () => string): ReadonlyArray<() => Ask> => {
  const { sql, users } = client
  const key = random(logins)
  const login = Avatar.Login.make(`${name}-${key}`)
  const transaction = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.provideService(Database.transaction(effect), SqlClient.SqlClient, sql)
  const find = (key: string) =>
    Effect.map(
      users.findUserAvatar(Avatar.Login.make(`${name}-${key}`)),
      (found): State => Option.match(found, { onNone: () => null, onSome: ({ name }) => name })
    )
  /** Reads of everything at one moment or at several, when that was. */
  const reads = (
    run: Effect.Effect<ReadonlyArray<readonly [key: string, saw: State]>, unknown>,
    at?: () => number
  ): Ask => ask(run, (answer = []) => answer.map(([key, saw]): Told => [key, { _: "read", saw }, at?.()]))
  const read = (run: Effect.Effect<State, unknown>) => reads(Effect.map(run, (saw) => [[key, saw] as const]))
  const did = (run: Effect.Effect<unknown, unknown>, fails: string) =>
    Effect.catchIf(Effect.as(run, true), (error) => tagOf(error) === fails, () => Effect.succeed(false))
  const change = (
    call: Call & { readonly _: "create" | "update" | "remove" },
    run: Effect.Effect<unknown, unknown>,
    fails: "LoginTaken" | "UserNotFound"
  ): Ask => ask(did(run, fails), (isDone) => [[key, isDone === undefined ? call : { ...call, isDone }]])
  const rows = sql<{ readonly login: string; readonly name: string }>`
    select login, name from users where login in ${sql.in(logins.map((key) => `${name}-${key}`))}`
  const balance = Effect.map(
    sql<{ readonly n: number }>`select n from accounts where history = ${name} order by id`,
    (rows): State => rows.map(({ n }) => n).join()
  )
  const counter = Effect.map(
    sql<{ readonly n: number }>`select n from counters where id = ${`${name}-counter`}`,
    (rows): State => rows[0]!.n
  )
  const several = Effect.all([
    Effect.map(find(key), (saw) => [key, saw] as const),
    Effect.map(balance, (saw) => ["accounts", saw] as const),
    Effect.map(counter, (saw) => ["counter", saw] as const)
  ])
  const avatar = () => new Avatar.Avatar({ login, name: value(), forname: "" })
  const increment = sql`update counters set n = n + 1 where id = ${`${name}-counter`}`
  const add = (account: 1 | 2, amount: number) =>
    sql`update accounts set n = n + ${amount} where id = ${`${name}-${account}`}`

  const kinds: Array<() => Ask> = [
    () => read(find(key)),
    () => read(find(key)),
    () =>
      read(
        Effect.catchIf(
          Effect.map(users.getUserAvatar(login), ({ name }): State => name),
          (error) => tagOf(error) === "UserNotFound",
          () => Effect.succeed(null)
        )
      ),
    () =>
      reads(
        Effect.map(
          users.getUserAvatars(logins.map((key) => Avatar.Login.make(`${name}-${key}`))),
          (found) =>
            logins.map((key) => {
              const avatar = found.get(Avatar.Login.make(`${name}-${key}`))
              return [key, avatar === undefined ? null : Either.getOrThrow(avatar).name] as const
            })
        )
      ),
    () =>
      reads(
        Effect.map(rows, (rows) =>
          logins.map((key) =>
            [
              key,
              rows.find(({ login }) => login === `${name}-${key}`)?.name ?? null
            ] as const
          ))
      ),
    () =>
      reads(
        Effect.map(Effect.all([counter, balance], { concurrency: 2 }), ([n, balance]) =>
          [["counter", n], ["accounts", balance]] as const)
      ),
    () => {
      const written = avatar()
      return change({ _: "create", value: written.name }, users.create(written), "LoginTaken")
    },
    () => {
      const written = avatar()
      return change({ _: "update", value: written.name }, users.update(written), "UserNotFound")
    },
    () => {
      const written = avatar()
      return ask(users.upsert(written), () => [[key, { _: "write", value: written.name }]])
    },
    () => change({ _: "remove" }, users.remove(login), "UserNotFound"),
    // Reads a user and writes the next one.
    () => {
      let saw: State | undefined
      const written = avatar()
      const lock = sql.onDialectOrElse({
        sqlite: () => find(key),
        orElse: () =>
          Effect.map(
            sql<{ readonly name: string }>`select name from users where login = ${login} for update`,
            (rows): State => rows[0]?.name ?? null
          )
      })
      const swap = Effect.gen(function*() {
        saw = undefined
        const found = yield* lock
        saw = found
        yield* found === null ? users.create(written) : users.update(written)
      })
      return ask(
        transaction(swap),
        () => saw === undefined ? [] : [[key, { _: "swap", saw, value: written.name }]]
      )
    },
    () =>
      ask(
        sql.onDialectOrElse({
          mysql: () => transaction(Effect.zipRight(increment, counter)),
          orElse: () =>
            Effect.map(
              sql<{ readonly n: number }>`${increment} returning n`,
              (rows): State => rows[0]!.n
            )
        }),
        (n) => [["counter", n === undefined ? { _: "increment" } : { _: "increment", result: Number(n) }]]
      ),
    () => {
      const amount = Math.ceil(Math.random() * 9)
      const moves = [add(1, -amount), add(2, amount)]
      return ask(
        transaction(Effect.all(Math.random() < 0.5 ? moves : moves.toReversed())),
        () => [["accounts", { _: "transfer", amount }]]
      )
    }
  ]
  if (isSqlite(sql)) {
    let at: number | undefined
    kinds.push(
      () =>
        reads(
          (sql as SqlitePool.SqlitePool).snapshot(
            // It shows the moment at which it begins.
            Effect.suspend(() => {
              at = now()
              return several
            })
          ),
          () => at!
        ),
      () => reads(sql.withTransaction(several))
    )
  }
  return kinds
}

/** A pool of connections to a server as `@effect/sql` sees it. */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as Statement from "@effect/sql/Statement"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { currentLevel, makeWithTransaction } from "../transaction.js"
import { openDoor } from "../door.js"
import type { Door } from "../door.js"
import { failure } from "../failure.js"
import { makeConnection } from "./connection.js"
import { begin, reserve, scopedSession, scopedTransaction } from "./level.js"
import { ServerPool } from "./pool.js"
import type { Engine, Session } from "./session.js"
import type { Settings } from "./settings.js"
import { runOn } from "./statement.js"

/** A client for the scope. Nothing is connected before the first statement. */
export const makeClient = (
  engine: Engine,
  settings: Settings
): Effect.Effect<SqlClient.SqlClient, never, Reactivity.Reactivity | Scope.Scope> =>
  Effect.gen(function*() {
    const reactivity = yield* Reactivity.Reactivity
    const pool = yield* Effect.acquireRelease(
      Effect.sync(() => new ServerPool(engine, settings)),
      ({ close }) => close
    )
    const shared = sharedConnection(pool)
    const acquirer = Effect.withFiberRuntime<Connection, SqlError>((fiber) =>
      Exit.succeed(currentLevel(pool, fiber.currentContext)?.connection ?? shared)
    )
    const statements = Statement.make(acquirer, engine.compiler, engine.spanAttributes, undefined)
    const client: SqlClient.SqlClient = Object.assign(
      (...args: Parameters<Statement.Constructor>) => statements(...args),
      statements,
      {
        [SqlClient.TypeId]: SqlClient.TypeId as SqlClient.TypeId,
        reserve: reserve(pool),
        withTransaction: makeWithTransaction({
          spanAttributes: engine.spanAttributes,
          current: (context) => currentLevel(pool, context),
          begin: begin(pool)
        }),
        reactive: reactivity.stream,
        reactiveMailbox: reactivity.query
      }
    ) as never
    openDoor(client, doorThrough(shared, sharedConnection(pool, true), settings))
    return Object.assign(client, { safe: client, withoutTransforms: () => client })
  })

const doorThrough = (alone: Connection, batches: Connection, limits: Settings): Door => ({
  limits,
  read: (sql, params, settle, isBatch) => {
    const { executeValues } = isBatch === true ? batches : alone
    const interrupt = Effect.runCallback(executeValues(sql, params), {
      onExit: (exit) => Exit.isSuccess(exit) ? settle(undefined, exit.value.flat()) : settle(sqlErrorOf(exit.cause), [])
    })
    return () => interrupt()
  }
})

const sqlErrorOf = (cause: Cause.Cause<SqlError>): SqlError =>
  Option.getOrElse(
    Cause.failureOption(cause),
    () => failure("UnknownError", "execute", "The statement was interrupted.")
  )

/** Anybody's connection: each statement runs on one of its own. */
const sharedConnection = (pool: ServerPool, isBatch = false): Connection => {
  const using = <A>(use: (session: Session) => Effect.Effect<A, SqlError>) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        pool.take(restore, isBatch),
        (session) => Effect.ensuring(restore(use(session)), Effect.sync(() => pool.give(session)))
      )
    )
  const { cursor } = pool.engine
  return makeConnection(
    (ask) => using((session) => runOn(pool, session, ask, "alone")),
    (ask) =>
      cursor === undefined
        ? Effect.map(scopedSession(pool), (session) => session.stream(ask))
        : Effect.flatMap(scopedTransaction(pool), (run) => cursor(ask, run))
  )
}

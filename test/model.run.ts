/** Runs the programs of the model test, and checks what was observed. */
import { SqlClient, type SqlError } from "@effect/sql"
import { Database, type SqlitePool } from "effect-avatars"
import { Cause, Chunk, Context, Effect, Exit, Fiber, Option, Schedule, Stream } from "effect"
import { turns } from "./lookups.js"
import { type Answer, empty, everything, explain, type Report, show, type State, unique } from "./model.js"
import { type Command, maxKey, plan, type Program, type Step } from "./model.commands.js"
import type { Db, Session } from "./model.engines.js"
import { type Failure, linger, type Names, namesOf, simple, typed, wait } from "./model.simple.js"

/** What is counted. */
export const zero = {
  sequences: 0,
  commands: 0,
  interruptions: 0,
  interrupted: 0,
  deaths: 0,
  "failed by a death": 0,
  reopens: 0,
  "failed by the end of their scope": 0,
  "outcomes unknown": 0,
  "lost to another transaction": 0,
  committed: 0,
  "rolled back": 0,
  savepoints: 0,
  "most ms of a sequence": 0
}

export type Counts = typeof zero

/** Where the statements of a command run. */
interface Runner {
  readonly db: Db
  readonly session: Session
  readonly counts: Counts
  readonly faults: {
    count: number
    underWay: number
    /** Until then the news of the last one may come (ms). */
    until: number
    isOver: boolean
  }
  /** The number of faults when the transaction began that it stands in. */
  readonly since: number | undefined
  readonly names: Names
  readonly tracks: number
}

const undo = "undo" as const

const bare = Effect.mapInputContext((context: Context.Context<never>) =>
  Context.omit(SqlClient.TransactionConnection)(
    context as Context.Context<SqlClient.TransactionConnection>
  ) as Context.Context<never>
)

const reportOf = (step: Step): Report => ({
  step,
  end: "running",
  answer: undefined,
  error: undefined,
  isExcused: false,
  parts: []
})

/** What the repository itself tries again. */
const triedAgain: ReadonlySet<Command["_"]> = new Set([
  "get",
  "find",
  "bulk",
  "list",
  "pages",
  "stream",
  "count",
  "others"
])

const perform = (runner: Runner, step: Step, parent: Array<Report>): Effect.Effect<Answer, Failure> =>
  Effect.suspend(() => {
    const { counts, faults } = runner
    const report = reportOf(step)
    parent.push(report)
    counts.commands++
    const since = runner.since !== undefined && !step.isBare
      ? runner.since
      : performance.now() < faults.until
      ? faults.count - 1
      : faults.count
    return Effect.onExit(run({ ...runner, since }, report), (exit) =>
      Effect.sync(() => {
        const isStruck = faults.underWay > 0 || faults.count !== since
        if (Exit.isSuccess(exit)) {
          report.end = "answered"
          report.answer = exit.value
          return
        }
        const failure = Option.getOrUndefined(Cause.failureOption(exit.cause))
        report.error = failure === undefined ? Cause.pretty(exit.cause) : JSON.stringify(failure)
        if (!Chunk.isEmpty(Cause.defects(exit.cause))) {
          report.end = "died"
        } else if (failure === undefined) {
          report.end = "interrupted"
        } else {
          report.end = failure.outcome ?? "failed"
          // InnoDB locks what is between two rows, also for others.
          const isLost = runner.tracks > 1 && (failure.code === 1213 || failure.code === 1205)
          report.isExcused = isLost ||
            (isStruck && (!step.isBare || !triedAgain.has(step.command._) || faults.isOver))
          counts["outcomes unknown"] += failure.outcome === undefined ? 0 : 1
          counts["lost to another transaction"] += isLost ? 1 : 0
          counts[faults.isOver ? "failed by the end of their scope" : "failed by a death"] += isStruck ? 1 : 0
        }
      }))
  })

const run = (runner: Runner, report: Report): Effect.Effect<Answer, Failure> => {
  const { command, steps } = report.step
  const { counts, db, db: { sql }, faults, names, session } = runner
  const inside = (step: Step, on = runner) => perform(on, step, report.parts)
  const inOrder = Effect.forEach(steps, (step) => inside(step), { discard: true })
  switch (command._) {
    case "gets":
    case "creates":
    case "both":
      return Effect.as(
        Effect.forEach(steps, (step) => inside(step), { concurrency: "unbounded", discard: true }),
        "done"
      )
    case "rows": {
      const rows = sql!<{ readonly login: string; readonly name: string | null }>`
        select login, name from users where login in ${sql!.in(names.all)}
      `.stream
      let isFirst = true
      const inner = Effect.suspend(() => {
        const isDue = isFirst
        isFirst = false
        return isDue ? inOrder : Effect.void
      })
      return typed(
        rows.pipe(
          Stream.take(command.take),
          Stream.tap(() => Effect.zipRight(linger(command.slowly), inner)),
          Stream.map(({ login, name }): Answer => [names.keyOf(login), name ?? "MalformedUser"]),
          Stream.runCollect,
          Effect.map((rows) => Array.from(rows))
        )
      )
    }
    case "interrupted":
      // It has ended when this ends, also where this is interrupted itself: else it would outlive its transaction.
      return Effect.uninterruptibleMask((restore) =>
        Effect.gen(function*() {
          counts.interruptions++
          const fiber = yield* Effect.fork(Effect.interruptible(inside(steps[0]!)))
          const paused = yield* Effect.exit(restore(wait(command.at)))
          const exit = yield* Fiber.interrupt(fiber)
          yield* paused
          const isInterrupted = Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)
          counts.interrupted += isInterrupted ? 1 : 0
          return isInterrupted ? "interrupted" : yield* Effect.as(exit, "done")
        })
      )
    case "outside": {
      const on = { ...runner, db: command.by === "second" ? session.second! : runner.db }
      return bare(inside(steps[0]!, on))
    }
    case "snapshot":
      return Effect.as(typed((sql as SqlitePool.SqlitePool).snapshot(inOrder)), "done")
    case "struck":
      return Effect.gen(function*() {
        faults.isOver = command.by === "reopen"
        const fiber = yield* Effect.fork(inside(steps[0]!))
        yield* wait(command.at)
        faults.underWay++
        if (command.by === "reopen") {
          yield* session.reopen
          counts.reopens++
        } else {
          counts.deaths += (yield* session.strike(command.victim)) ? 1 : 0
        }
        // The news of it may come a little later.
        yield* turns(1)
        faults.until = command.by === "death" ? performance.now() + session.delay : 0
        faults.count++
        faults.underWay--
        return yield* Fiber.join(fiber)
      })
    case "transaction": {
      let isDeliberate = false
      const ends = {
        commit: Effect.void,
        fail: Effect.fail(undo),
        die: Effect.die(undo),
        interrupt: Effect.interrupt
      } as const
      const body = Effect.suspend(() => {
        isDeliberate = false
        report.parts.length = 0
        return Effect.forEach(
          steps,
          (step) => command.isStubborn ? Effect.ignore(inside(step)) : Effect.asVoid(inside(step)),
          { discard: true }
        )
      }).pipe(
        Effect.zipRight(Effect.suspend((): Effect.Effect<void, "undo"> => {
          isDeliberate = command.end !== "commit"
          return ends[command.end]
        }))
      )
      const whole = command.isRetried
        ? Effect.provideService(Database.transaction(body), SqlClient.SqlClient, sql!)
        : sql!.withTransaction(body)
      counts.savepoints += report.step.isBare ? 0 : 1
      // Its own end is told from an interruption that comes at the same time.
      return Effect.uninterruptibleMask((restore) =>
        Effect.matchCauseEffect(restore(whole), {
          onSuccess: () => {
            counts.committed++
            return Effect.succeed("committed")
          },
          onFailure: (cause) => {
            if (isDeliberate && isEnd[command.end](cause)) {
              counts["rolled back"]++
              return Effect.succeed("undone")
            }
            return typed<never, Failure | SqlError.SqlError>(Effect.failCause(cause as Cause.Cause<Failure>))
          }
        })
      )
    }
    default:
      return simple(db, names, report.step)!
  }
}

const isEnd = {
  commit: () => false,
  fail: (cause: Cause.Cause<unknown>) => Chunk.contains(Cause.failures(cause), undo),
  die: (cause: Cause.Cause<unknown>) => Chunk.contains(Cause.defects(cause), undo),
  interrupt: Cause.isInterruptedOnly
}

/** Runs a program on an empty table: each track's answers have to follow from its own steps. Fails with why they do not. */
export const check = (session: Session, program: Program, id: number, counts: Counts): Effect.Effect<void, string> =>
  Effect.gen(function*() {
    const start = performance.now()
    const faults = { count: 0, underWay: 0, until: 0, isOver: false }
    const tracks = program.length
    const { sql } = session.db
    // A connection that was closed may be noticed only now.
    yield* sql === undefined
      ? session.reopen
      : Effect.orDie(Effect.retry(sql`delete from users`, Schedule.intersect(Schedule.spaced(20), Schedule.recurs(20))))
    yield* Effect.forEach(program, (commands, track) =>
      Effect.gen(function*() {
        let states: ReadonlyArray<State> = [empty]
        const reports: Array<Report> = []
        const finally_: ReadonlyArray<Command> = [everything, { _: "list", k: -1, limit: maxKey + 1 }, { _: "count" }]
        for (const step of plan([...commands, ...finally_], session.able, track, tracks)) {
          const runner: Runner = {
            db: session.db,
            session,
            counts,
            faults,
            names: namesOf((track) => `${id}.${track}.`, track),
            tracks,
            since: undefined
          }
          yield* Effect.exit(perform(runner, step, reports))
          states = unique(states.flatMap((state) => explain(reports.at(-1)!, state, tracks === 1)))
          if (states.length === 0) {
            return yield* Effect.fail(
              `track ${track}: the last of these cannot be:\n${reports.map((report) => show(report)).join("\n")}`
            )
          }
        }
      }), { concurrency: "unbounded", discard: true })
    counts.sequences++
    counts["most ms of a sequence"] = Math.max(counts["most ms of a sequence"], performance.now() - start)
  })

/**
 * The model: what a repository may hold, and whether what was observed of a step can follow from it.
 *
 * What was interrupted, or failed with an unknown outcome, leaves several states; later answers choose among them. Where none is left, the
 * repository broke its word.
 */
import { doomed, maxKey, type Step } from "./model.commands.js"

/** What stands under a track's logins; `null` is a row without a name. */
export type World = Readonly<Record<number, string | null>>

export interface State {
  readonly committed: World
  /** What the transaction or snapshot sees that the step is in. */
  readonly view: World | undefined
}

export type Answer = string | number | ReadonlyArray<Answer>

/** What was seen of a step, while it runs and after. */
export interface Report {
  readonly step: Step
  end: "running" | "answered" | "interrupted" | "failed" | "unknown" | "died"
  answer: Answer | undefined
  /** What it failed with. */
  error: string | undefined
  /** Something had happened to the database that explains a failure. */
  isExcused: boolean
  /** Of the steps in it, as far as they were begun. */
  readonly parts: Array<Report>
}

export const empty: State = { committed: {}, view: undefined }

export const unique = (states: ReadonlyArray<State>): ReadonlyArray<State> =>
  states.length < 2 ? states : Array.from(new Map(states.map((state) => [JSON.stringify(state), state])).values())

const seen = ({ committed, view }: State): World => view ?? committed

const become = ({ committed, view }: State, world: World): State =>
  view === undefined ? { committed: world, view } : { committed, view: world }

const without = (world: World, gone: number): World =>
  Object.fromEntries(Object.entries(world).filter(([k]) => Number(k) !== gone))

const nameIn = (world: World, k: number): Answer => k in world ? world[k] ?? "MalformedUser" : "UserNotFound"

/** Those after a login, in order. */
const rowsOf = (world: World, after = -1): ReadonlyArray<Answer> =>
  Object.keys(world).map(Number).filter((k) => k > after).map((k) => [k, nameIn(world, k)])

const isEqual = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other)

/** What a step without others in it does to a world, and answers. Nothing where the model cannot say. */
const effectOf = ({ command, value }: Step, world: World): readonly [World, Answer] | undefined => {
  switch (command._) {
    case "get":
    case "find":
      return [world, nameIn(world, command.k)]
    case "bulk":
      return [world, command.ks.map((k) => nameIn(world, k))]
    case "list":
      return [world, rowsOf(world, command.k).slice(0, command.limit)]
    case "pages":
      return [world, rowsOf(world)]
    case "stream":
      return [world, rowsOf(world).slice(0, command.take)]
    case "create":
      return command.k in world ? [world, "LoginTaken"] : [{ ...world, [command.k]: value }, "done"]
    case "update":
      return command.k in world ? [{ ...world, [command.k]: value }, "done"] : [world, "UserNotFound"]
    case "upsert":
      return [{ ...world, [command.k]: value }, "done"]
    case "remove":
      return command.k in world ? [without(world, command.k), "done"] : [world, "UserNotFound"]
    case "insertNull":
      return [command.k in world ? world : { ...world, [command.k]: null }, "done"]
    case "spoil":
      return [command.k in world ? { ...world, [command.k]: null } : world, "done"]
    default:
      return undefined
  }
}

/** A name that another track may have written, and not one that never was to stay. */
const isOthers = (answer: Answer | undefined, track: number): boolean =>
  typeof answer === "string" &&
  (answer === "UserNotFound" || answer === "MalformedUser" ||
    (answer.startsWith(`${track}:`) && !answer.endsWith(doomed)))

/** Whether rows that came in any order are all, or so many, of a world. */
const areRows = (answer: Answer | undefined, take: number, world: World): boolean => {
  const rows = rowsOf(world).map((row) => JSON.stringify(row))
  const given = new Set((answer as ReadonlyArray<Answer>).map((row) => JSON.stringify(row)))
  return given.size === (answer as ReadonlyArray<Answer>).length && given.size === Math.min(take, rows.length) &&
    rows.filter((row) => given.has(row)).length === given.size
}

const simple = (report: Report, state: State, isAlone: boolean): ReadonlyArray<State> => {
  const { answer, end, step } = report
  const { command } = step
  const world = seen(state)
  if (end === "answered") {
    switch (command._) {
      case "pause":
        return [state]
      case "count": {
        const count = Object.keys(world).length
        return isAlone ? (answer === count ? [state] : []) : Number(answer) >= count ? [state] : []
      }
      case "others":
        return isOthers(answer, command.track) ? [state] : []
      default: {
        const [after, expected] = effectOf(step, world)!
        return isEqual(answer, expected) ? [become(state, after)] : []
      }
    }
  }
  const after = effectOf(step, world)?.[0] ?? world
  return end === "failed" || after === world ? [state] : [state, become(state, after)]
}

/** One after the other. */
const inTurn = (reports: ReadonlyArray<Report>, state: State, isAlone: boolean): ReadonlyArray<State> =>
  reports.reduce<ReadonlyArray<State>>(
    (states, report) => unique(states.flatMap((state) => explain(report, state, isAlone))),
    [state]
  )

/** Whether something in a transaction failed that the database did not undo alone. */
const hasFailed = ({ end, parts, step }: Report): boolean =>
  step.command._ !== "outside" && step.command._ !== "snapshot" &&
  (end === "failed" || end === "unknown" || parts.some(hasFailed))

const transaction = (report: Report, state: State, isAlone: boolean): ReadonlyArray<State> => {
  const { command, steps } = report.step
  const within = inTurn(report.parts, { committed: state.committed, view: seen(state) }, isAlone)
  if (within.length === 0 || command._ !== "transaction") {
    return []
  }
  const isWhole = command.end === "commit" && report.parts.length === steps.length && !report.parts.some(hasFailed)
  const after = isWhole ? within.map(({ view }) => become(state, view!)) : []
  switch (report.end) {
    case "answered":
      return report.answer === "committed" ? after : command.end === "commit" ? [] : [state]
    case "failed":
      return [state]
    default:
      return unique([state, ...after])
  }
}

/** The states that a step can have left, given what was seen of it. `isAlone` says that nobody else writes to the table. */
export const explain = (report: Report, state: State, isAlone: boolean): ReadonlyArray<State> => {
  const { end, isExcused, parts, step: { command } } = report
  if (end === "running" || end === "died" || ((end === "failed" || end === "unknown") && !isExcused)) {
    return []
  }
  switch (command._) {
    case "transaction":
      return transaction(report, state, isAlone)
    case "gets":
    case "creates":
    case "interrupted":
    case "struck":
      return inTurn(parts, state, isAlone)
    case "both":
      return unique([...inTurn(parts, state, isAlone), ...inTurn(parts.toReversed(), state, isAlone)])
    case "snapshot":
      return inTurn(parts, { committed: state.committed, view: state.committed }, isAlone)
        .map(({ committed }) => ({ committed, view: state.view }))
    case "outside":
      return inTurn(parts, { committed: state.committed, view: undefined }, isAlone)
        .map(({ committed }) => ({ committed, view: state.view }))
    case "rows":
      return end === "answered" && !areRows(report.answer, command.take, seen(state))
        ? []
        : inTurn(parts, state, isAlone)
    default:
      return simple(report, state, isAlone)
  }
}

/** Looks at everything. */
export const everything: Step["command"] = { _: "bulk", ks: Array.from({ length: maxKey + 1 }, (_, k) => k) }

/** A report on a few lines, for whoever has to understand it. */
export const show = (report: Report, indent = ""): string => {
  const { answer, end, error, parts, step: { command, value } } = report
  const { command: _, commands: __, ...options } = { command: 0, commands: 0, ...command }
  const saw = end === "answered" ? JSON.stringify(answer) : [end, error].filter(Boolean).join(": ")
  return [`${indent}${JSON.stringify(options)} (${value}) -> ${saw}`, ...parts.map((part) => show(part, `${indent}  `))]
    .join("\n")
}

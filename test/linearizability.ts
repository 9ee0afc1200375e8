/**
 * Whether a history of concurrent calls is linearizable: whether a register that serves one call at a time, each at some moment between its call
 * and its answer, could have answered them all as they were answered (Herlihy and Wing). Registers are independent of each other, so that each
 * is checked by itself.
 *
 * The search is Wing and Gong's with Lowe's memory ("Testing for linearizability", 2017): it goes through calls and answers in the order of time, lets
 * a call take effect only when an answer asks for that, and never looks twice at one place where the same calls have had the same effect.
 */

/** What a register holds. */
export type State = string | number | null

/** What was asked for, and what was answered; without the answer where it is unknown. */
export type Call =
  | { readonly _: "read"; readonly saw: State }
  | { readonly _: "write"; readonly value: State }
  | { readonly _: "create" | "update"; readonly value: State; readonly isDone?: boolean }
  | { readonly _: "remove"; readonly isDone?: boolean }
  /** A transaction that read one value and wrote another. */
  | { readonly _: "swap"; readonly saw: State; readonly value: State }
  | { readonly _: "increment"; readonly result?: number }
  /** Between two accounts, `"60,40"`. */
  | { readonly _: "transfer"; readonly amount: number }

export interface Operation {
  readonly key: string
  readonly call: Call
  readonly by: string
  /** When, by a clock that all share (ms). */
  readonly invoked: number
  /** When it had ended; infinite where it may take effect at any time afterwards. */
  readonly returned: number
  /** Whether it took effect; else it may have, or not. */
  readonly isSure: boolean
}

/** What a call makes of a state; nothing where it could not have been answered so. */
export const step = (call: Call, state: State): State | undefined => {
  const where = (can: boolean, after: State) =>
    "isDone" in call && call.isDone !== undefined && call.isDone !== can ? undefined : can ? after : state
  switch (call._) {
    case "read":
      return call.saw === state ? state : undefined
    case "write":
      return call.value
    case "create":
      return where(state === null, call.value)
    case "update":
      return where(state !== null, call.value)
    case "remove":
      return where(state !== null, null)
    case "swap":
      return call.saw === state ? call.value : undefined
    case "increment": {
      const result = Number(state) + 1
      return call.result === undefined || call.result === result ? result : undefined
    }
    case "transfer": {
      const [one, other] = String(state).split(",").map(Number) as [number, number]
      return `${one - call.amount},${other + call.amount}`
    }
  }
}

const isRead = (call: Call) => call._ === "read" || ("isDone" in call && call.isDone === false)

/** A call that was never answered surely and that changes nothing says nothing. */
const isTelling = ({ call, isSure }: Operation) => isSure || !isRead(call)

/** At most so many places are looked at: a history that needs more is not decided. */
const maxPlaces = 1_000_000

/** The operation of one register whose answer nothing explains, the one that came first; nothing where the history is linearizable. */
export const unexplained = (history: ReadonlyArray<Operation>, initial: State): Operation | undefined => {
  const operations = history.filter(isTelling)
  // Two at the same moment are concurrent: a call comes before an answer.
  const events = operations.flatMap((operation, i) => [
    { i, time: operation.invoked, isAnswer: false },
    ...(operation.returned === Infinity && !operation.isSure ? [] : [{ i, time: operation.returned, isAnswer: true }])
  ]).toSorted((a, b) => a.time - b.time || Number(a.isAnswer) - Number(b.isAnswer))
  const underWay: Array<ReadonlyArray<number>> = [[]]
  events.forEach(({ i, isAnswer }, at) =>
    underWay.push(isAnswer ? underWay[at]!.filter((other) => other !== i) : [...underWay[at]!, i])
  )

  /** The same place after those reads that its state explains: nothing is lost where they take effect at once. */
  const read = (at: number, state: State, done: ReadonlyArray<number>) => {
    const all = underWay[at]!.filter((i) =>
      done.includes(i) || (isRead(operations[i]!.call) && step(operations[i]!.call, state) !== undefined)
    )
    return { at, state, done: all }
  }

  /** Those that are not sure and took effect, by place: a place that needed fewer of them can do whatever one with more can. */
  const seen = new Map<string, Array<ReadonlyArray<number>>>()
  let places = 0
  const stack = [read(0, initial, [])]
  let furthest = 0
  for (let place = stack.pop(); place !== undefined; place = stack.pop()) {
    const { at, done, state } = place
    furthest = Math.max(furthest, at)
    const event = events[at]
    if (event === undefined) {
      return undefined
    }
    const unsure = done.filter((i) => !operations[i]!.isSure)
    const id = `${at} ${state} ${done.filter((i) => operations[i]!.isSure).join()}`
    const before = seen.get(id) ?? []
    if (before.some((fewer) => fewer.every((i) => unsure.includes(i)))) {
      continue
    }
    seen.set(id, [...before, unsure])
    if (++places > maxPlaces) {
      throw new Error(`A history of ${operations.length} operations is not decided after ${maxPlaces} places.`)
    }
    if (event.isAnswer && !done.includes(event.i)) {
      // Something takes effect now; what is tried first comes last: the one that is answered, the sure ones, the others.
      const rank = (i: number) => i === event.i ? 2 : Number(operations[i]!.isSure)
      for (const i of underWay[at]!.filter((i) => !done.includes(i)).toSorted((a, b) => rank(a) - rank(b))) {
        const after = step(operations[i]!.call, state)
        if (after !== undefined) {
          stack.push(read(at, after, [...done, i]))
        }
      }
      if (!operations[event.i]!.isSure) {
        stack.push(read(at + 1, state, done))
      }
    } else {
      stack.push(read(at + 1, state, done))
    }
  }
  return operations[events[furthest]!.i]
}

/** The operations of each register. */
export const byKey = (history: ReadonlyArray<Operation>): ReadonlyMap<string, ReadonlyArray<Operation>> => {
  const registers = new Map<string, Array<Operation>>()
  for (const operation of history) {
    const register = registers.get(operation.key) ?? []
    registers.set(operation.key, register)
    register.push(operation)
  }
  return registers
}

/**
 * The part of one register's history that contradicts itself, as a person can read it: what is left out would not explain it, whether it took
 * effect or not. Nothing where the history is linearizable.
 */
export const contradiction = (history: ReadonlyArray<Operation>, initial: State): string | undefined => {
  const culprit = unexplained(history, initial)
  if (culprit === undefined) {
    return undefined
  }
  let part = history.filter(({ invoked }) => invoked <= culprit.returned)
  for (const operation of part) {
    const less = part.map((one) => one === operation && one !== culprit ? { ...one, isSure: false } : one)
    part = unexplained(less, initial) === undefined ? part : less
  }
  const needed = part.filter(({ isSure }) => isSure)
  const seen = new Set(needed.flatMap(({ call }) => "saw" in call ? [call.saw] : []))
  const shown = part.filter((one) => one.isSure || ("value" in one.call && seen.has(one.call.value)))
  const start = Math.min(...shown.map(({ invoked }) => invoked))
  const time = (at: number) => (at === Infinity ? "?" : (at - start).toFixed(3)).padStart(10)
  const line = ({ by, call, invoked, isSure, returned }: Operation) =>
    `${time(invoked)} ${time(returned)}  ${by.padEnd(12)} ${textOf(call)}${isSure ? "" : "  (perhaps)"}`
  const lines = shown.toSorted((a, b) => a.invoked - b.invoked).map((one) =>
    one.by === culprit.by && one.invoked === culprit.invoked ? `${line(one)}  <- cannot be` : line(one)
  )
  return [`'${culprit.key}', which began as ${initial}, is not linearizable:`, "  from (ms)    to (ms)  by", ...lines]
    .join("\n")
}

const textOf = ({ _, ...rest }: Call): string =>
  [_, ...Object.entries(rest).map(([name, value]) => `${name}=${value}`)].join(" ")

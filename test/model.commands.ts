/**
 * The programs of the model test: what may be asked of a repository and of its client, as data that can be made at random and shrunk.
 *
 * A program has one track, or several that run at once. A track writes its own logins only, so that its model is exact for them.
 */
import { FastCheck } from "effect"

/** A random moment: after so many yields and so many turns of the event loop. */
export interface Moment {
  readonly yields: number
  readonly turns: number
}

/** `k` numbers a track's own logins, in code-point order. */
export type Command =
  | { readonly _: "get" | "find"; readonly k: number }
  | { readonly _: "bulk" | "gets" | "creates"; readonly ks: ReadonlyArray<number> }
  /** After login `k`, or from the first where it is -1. */
  | { readonly _: "list"; readonly k: number; readonly limit: number }
  | { readonly _: "pages"; readonly limit: number }
  | { readonly _: "stream"; readonly take: number; readonly slowly: boolean }
  | { readonly _: "count" }
  /** A stream of the client itself, whose consumer runs a command after the first row. */
  | { readonly _: "rows"; readonly take: number; readonly slowly: boolean; readonly command: Command }
  | { readonly _: "create" | "update" | "upsert" | "remove"; readonly k: number }
  /** Statements that leave a row without a name: `insertNull` where there is none, `spoil` where there is one. */
  | { readonly _: "insertNull" | "spoil"; readonly k: number }
  /** A login of another track. */
  | { readonly _: "others"; readonly track: number; readonly k: number }
  | { readonly _: "pause"; readonly at: Moment }
  | { readonly _: "interrupted"; readonly command: Command; readonly at: Moment }
  | { readonly _: "both"; readonly commands: readonly [Command, Command] }
  | {
    readonly _: "transaction"
    readonly commands: ReadonlyArray<Command>
    readonly end: "commit" | "fail" | "die" | "interrupt"
    /** By `Database.transaction`. */
    readonly isRetried: boolean
    /** Goes on after a statement that the database failed. */
    readonly isStubborn: boolean
  }
  /** `pool.snapshot`. */
  | { readonly _: "snapshot"; readonly commands: ReadonlyArray<Command> }
  /** Beside the transaction or snapshot it stands in: by the same client, or by a second one of the same database. */
  | { readonly _: "outside"; readonly command: Command; readonly by: "same" | "second" }
  /** While it runs a thread is killed or a connection closed, or the scope is closed and the database opened again. */
  | {
    readonly _: "struck"
    readonly by: "death" | "reopen"
    readonly command: Command
    readonly at: Moment
    readonly victim: number
  }

export type Program = ReadonlyArray<ReadonlyArray<Command>>

/** What makes sense on an engine. */
export interface Abilities {
  /** It has a client: transactions, and statements of one's own. */
  readonly hasClient: boolean
  /** `sql.stream`. */
  readonly streams: boolean
  readonly snapshots: boolean
  /** Others are served, also writers, while a connection is held by a stream or a snapshot; and readers while a transaction is open. */
  readonly servesBeside: boolean
  /** A second client of the same database may read beside a transaction. */
  readonly hasSecond: boolean
  /** Transactions inside a transaction may begin at once. */
  readonly hasSiblings: boolean
  readonly dies: boolean
  readonly reopens: boolean
  /** What is under way when its scope ends fails typed. */
  readonly endsBusy: boolean
}

export const maxKey = 4

export const maxTracks = 5

const moments: FastCheck.Arbitrary<Moment> = FastCheck.oneof(
  FastCheck.record({ yields: FastCheck.nat(9), turns: FastCheck.constant(0) }),
  FastCheck.record({ yields: FastCheck.nat(2), turns: FastCheck.integer({ min: 1, max: 10 }) }),
  FastCheck.record({ yields: FastCheck.constant(0), turns: FastCheck.integer({ min: 5, max: 80 }) })
)

const is = <A extends string>(...names: ReadonlyArray<A>) => FastCheck.constantFrom(...names)

/** Tracks of the commands that an engine knows. */
export const programs = (able: Abilities): FastCheck.Arbitrary<Program> => {
  const { command } = FastCheck.letrec<{ readonly command: Command }>((tie) => {
    const k = FastCheck.nat(maxKey)
    const ks = FastCheck.array(k, { minLength: 1, maxLength: 6 })
    const limit = FastCheck.integer({ min: 1, max: maxKey + 2 })
    const take = FastCheck.oneof(FastCheck.constant(maxKey + 1), FastCheck.integer({ min: 1, max: 3 }))
    const slowly = FastCheck.boolean()
    const command = tie("command")
    const commands = FastCheck.array(command, { minLength: 1, maxLength: 5 })
    const at = moments
    const few: ReadonlyArray<readonly [boolean, number, FastCheck.Arbitrary<Command>]> = [
      [true, 4, FastCheck.record({ _: is("get", "find"), k })],
      [true, 8, FastCheck.record({ _: is("create", "update", "upsert", "remove"), k })],
      [true, 3, FastCheck.record({ _: is("bulk", "gets", "creates"), ks })],
      [true, 2, FastCheck.record({ _: is("list"), k: FastCheck.integer({ min: -1, max: maxKey }), limit })],
      [true, 1, FastCheck.record({ _: is("pages"), limit })],
      [true, 1, FastCheck.record({ _: is("stream"), take, slowly })],
      [true, 1, FastCheck.record({ _: is("count") })],
      [true, 2, FastCheck.record({ _: is("others"), track: FastCheck.nat(maxTracks - 1), k })],
      [true, 1, FastCheck.record({ _: is("pause"), at })],
      [able.hasClient, 2, FastCheck.record({ _: is("insertNull", "spoil"), k })],
      [true, 4, FastCheck.record({ _: is("interrupted"), command, at })],
      [true, 2, FastCheck.record({ _: is("both"), commands: FastCheck.tuple(command, command) })],
      [
        able.hasClient,
        5,
        FastCheck.record({
          _: is("transaction"),
          commands,
          end: FastCheck.oneof(
            { weight: 3, arbitrary: is("commit") },
            { weight: 2, arbitrary: is("fail") },
            { weight: 1, arbitrary: is("die", "interrupt") }
          ),
          isRetried: FastCheck.boolean(),
          isStubborn: FastCheck.boolean()
        })
      ],
      [able.streams, 1, FastCheck.record({ _: is("rows"), take, slowly, command })],
      [able.snapshots, 1, FastCheck.record({ _: is("snapshot"), commands })],
      [
        able.hasSecond || able.servesBeside,
        2,
        FastCheck.record({ _: is("outside"), command, by: is("same", "second") })
      ],
      [
        able.dies || able.reopens,
        2,
        FastCheck.record({ _: is("struck"), by: is("death", "reopen"), command, at, victim: FastCheck.nat(19) })
      ]
    ]
    return {
      command: FastCheck.oneof(
        { maxDepth: 4 },
        ...few.filter(([isAble]) => isAble).map(([, weight, arbitrary]) => ({ weight, arbitrary }))
      )
    }
  })
  const track = (maxLength: number) => FastCheck.array(command, { minLength: 1, maxLength })
  return FastCheck.oneof(
    FastCheck.array(track(16), { minLength: 1, maxLength: 1 }),
    FastCheck.array(track(8), { minLength: 2, maxLength: maxTracks })
  )
}

/** A command with what it writes, so that each value is written once. */
export interface Step {
  readonly command: Command
  readonly value: string
  readonly steps: ReadonlyArray<Step>
  /** Outside of any transaction and snapshot. */
  readonly isBare: boolean
}

/** Where a command stands. */
interface Place {
  readonly able: Abilities
  readonly tracks: number
  readonly track: number
  readonly inTransaction: boolean
  readonly inSnapshot: boolean
  readonly isOutside: boolean
  /** Only what reads may be asked for. */
  readonly isReadonly: boolean
  /** Nothing of it will stay. */
  readonly isDoomed: boolean
  /** Nothing is around it. */
  readonly isTop: boolean
}

/** Values that are written only inside what is undone end so: nobody else may ever see one. */
export const doomed = "!"

const nothing: Command = { _: "pause", at: { yields: 0, turns: 0 } }

const reads: ReadonlySet<Command["_"]> = new Set(["get", "find", "list", "stream", "count"])
const writes: ReadonlySet<Command["_"]> = new Set(["create", "update", "upsert", "remove"])

/** One step that others see as a whole. */
const isAtomic = (command: Command): boolean =>
  reads.has(command._) || writes.has(command._) || (command._ === "interrupted" && isAtomic(command.command))

const isSibling = (command: Command): boolean => command._ === "transaction" || isAtomic(command)

/** Whether it can be asked for where it stands; what cannot is left out. */
const isPossible = (command: Command, place: Place): boolean => {
  const { able, inSnapshot, inTransaction, isReadonly, isTop, tracks } = place
  switch (command._) {
    case "create":
    case "update":
    case "upsert":
    case "remove":
    case "creates":
    case "insertNull":
    case "spoil":
      return !isReadonly && !inSnapshot
    case "others":
      return command.track < tracks && command.track !== place.track
    case "both":
      return command.commands.every((one) => isAtomic(one) || (inTransaction && able.hasSiblings && isSibling(one)))
    case "transaction":
      return !isReadonly && !inSnapshot
    // Tracks that each hold a connection and wait for another one would wait for each other.
    case "snapshot":
      return !inSnapshot && (tracks === 1 ? !inTransaction || able.servesBeside : !inTransaction && !place.isOutside)
    case "rows":
      return tracks === 1 || !place.isOutside
    case "outside":
      return !place.isOutside && (isTop
        ? command.by === "second" && able.hasSecond && (able.servesBeside || tracks === 1)
        : inTransaction || inSnapshot
        ? command.by === "second" ? able.hasSecond : able.servesBeside
        : false)
    case "struck":
      return isTop && (command.by === "death" ? able.dies : able.reopens && tracks === 1)
    default:
      return true
  }
}

const inside = (command: Command, place: Place): Place => {
  const within = { ...place, isTop: false }
  switch (command._) {
    case "transaction":
      return { ...within, inTransaction: true, isDoomed: place.isDoomed || command.end !== "commit" }
    case "snapshot":
      return { ...within, inSnapshot: true, isReadonly: place.isReadonly || place.inTransaction }
    case "outside":
      return {
        ...within,
        inTransaction: false,
        inSnapshot: false,
        isOutside: true,
        // A writer would wait for the transaction that waits for it.
        isReadonly: place.isReadonly || place.inTransaction || (place.inSnapshot && !place.able.servesBeside),
        isDoomed: false
      }
    case "rows":
      return { ...within, isReadonly: place.isReadonly || place.inTransaction || !place.able.servesBeside }
    default:
      return within
  }
}

const innerOf = (command: Command, able: Abilities): ReadonlyArray<Command> => {
  switch (command._) {
    case "gets":
      return command.ks.map((k, i) => ({ _: i % 2 === 0 ? "get" : "find", k }))
    case "creates":
      return command.ks.map((k) => ({ _: "create", k }))
    case "rows":
      // Beside a cursor that holds its connection nothing else runs there.
      return [isAtomic(command.command) ? command.command : nothing]
    case "struck":
      return [command.by === "reopen" && !able.endsBusy ? nothing : command.command]
    case "interrupted":
    case "outside":
      return [command.command]
    case "both":
    case "transaction":
    case "snapshot":
      return command.commands
    default:
      return []
  }
}

let written = 0

const planned = (command: Command, place: Place): Step => {
  if (!isPossible(command, place)) {
    return planned(nothing, place)
  }
  const within = inside(command, place)
  const isHeld = command._ === "rows" && (place.inTransaction || place.inSnapshot || !place.able.servesBeside)
  return {
    command,
    value: `${place.track}:${++written}${place.isDoomed ? doomed : ""}`,
    steps: isHeld ? [] : innerOf(command, place.able).map((one) => planned(one, within)),
    isBare: !place.inTransaction && !place.inSnapshot
  }
}

/** The steps of a track, in which everything is possible. */
export const plan = (commands: ReadonlyArray<Command>, able: Abilities, track: number, tracks: number) =>
  commands.map((command) =>
    planned(command, {
      able,
      tracks,
      track,
      inTransaction: false,
      inSnapshot: false,
      isOutside: false,
      isReadonly: false,
      isDoomed: false,
      isTop: true
    })
  )

/** The commands that stand inside another. */
export const insideOf = (command: Command): ReadonlyArray<Command> =>
  "command" in command ? [command.command] : "commands" in command ? command.commands : []

/** The number of commands in it, those inside others too. */
export const sizeOf = (program: Program): number =>
  program.flat().reduce((sum, command) => sum + 1 + sizeOf([insideOf(command)]), 0)

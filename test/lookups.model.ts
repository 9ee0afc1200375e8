/**
 * The model of the property tests: programs of several fibers, and what each of their steps may answer. A fiber writes its own logins only,
 * so that its model is exact for them; an interrupted write leaves two worlds, of which later answers choose.
 */
import { FastCheck } from "effect"
import type { Answer } from "./lookups.js"

/** Of a fiber's own logins `k`. */
export type Command =
  | { readonly _: "get" | "find" | "remove"; readonly k: number }
  | { readonly _: "create" | "update" | "upsert"; readonly k: number }
  | { readonly _: "bulk" | "gets" | "creates"; readonly ks: ReadonlyArray<number> }
  | { readonly _: "others"; readonly fiber: number; readonly k: number }
  | { readonly _: "static" }
  | { readonly _: "interrupted"; readonly command: Command; readonly after: number; readonly turn: boolean }
  | { readonly _: "transaction"; readonly commands: ReadonlyArray<Command>; readonly isUndone: boolean }
  | { readonly _: "pause"; readonly yields: number; readonly turn: boolean }

const { command: commands } = FastCheck.letrec<{ readonly command: Command }>((tie) => {
  const k = FastCheck.nat(2)
  const ks = FastCheck.array(FastCheck.nat(3), { minLength: 1, maxLength: 8 })
  const is = <A extends string>(...names: ReadonlyArray<A>) => FastCheck.constantFrom(...names)
  return {
    command: FastCheck.oneof(
      { maxDepth: 3 },
      { weight: 4, arbitrary: FastCheck.record({ _: is("get", "find"), k }) },
      { weight: 4, arbitrary: FastCheck.record({ _: is("create", "update", "upsert", "remove"), k }) },
      { weight: 4, arbitrary: FastCheck.record({ _: is("bulk", "gets", "creates"), ks }) },
      { weight: 3, arbitrary: FastCheck.record({ _: is("others"), fiber: FastCheck.nat(5), k }) },
      { weight: 2, arbitrary: FastCheck.record({ _: is("static") }) },
      {
        weight: 2,
        arbitrary: FastCheck.record({ _: is("pause"), yields: FastCheck.nat(9), turn: FastCheck.boolean() })
      },
      {
        weight: 3,
        arbitrary: FastCheck.record({
          _: is("interrupted"),
          command: tie("command"),
          after: FastCheck.nat(12),
          turn: FastCheck.boolean()
        })
      },
      {
        weight: 2,
        arbitrary: FastCheck.record({
          _: is("transaction"),
          commands: FastCheck.array(tie("command"), { minLength: 1, maxLength: 5 }),
          isUndone: FastCheck.boolean()
        })
      }
    )
  }
})

export const programs = FastCheck.array(FastCheck.array(commands, { minLength: 1, maxLength: 15 }), {
  minLength: 2,
  maxLength: 6
})

/** What stands under a fiber's logins. */
export type World = Readonly<Record<number, string>>

export type Answers = Answer | ReadonlyArray<Answers>

/** A command with what it writes, so that each value is written once in a program. */
export interface Step {
  readonly command: Command
  readonly value: string
  readonly steps: ReadonlyArray<Step>
}

/** Values that are written only inside what is undone end so: no other fiber may see one. */
const doomed = "!"

let written = 0

export const plan = (command: Command, isDoomed: boolean): Step => {
  const isUndone = isDoomed || (command._ === "transaction" && command.isUndone)
  const inner = command._ === "transaction" ? command.commands : command._ === "interrupted" ? [command.command] : []
  return {
    command,
    value: `${++written}${isDoomed ? doomed : ""}`,
    steps: inner.map((command) => plan(command, isUndone))
  }
}

/** All that can follow from a step in a world: the world after it, and what it answers. */
export const outcomes = ({ command, steps, value }: Step, world: World): ReadonlyArray<readonly [World, Answers]> => {
  const read = (k: number) => world[k] ?? "UserNotFound"
  const without = (k: number) => Object.fromEntries(Object.entries(world).filter(([key]) => Number(key) !== k))
  switch (command._) {
    case "get":
    case "find":
      return [[world, read(command.k)]]
    case "bulk":
    case "gets":
      return [[world, command.ks.map(read)]]
    case "create":
      return [command.k in world ? [world, "LoginTaken"] : [{ ...world, [command.k]: value }, "done"]]
    case "creates": {
      const after: Record<number, string> = { ...world }
      const answers = command.ks.map((k, i) => {
        const isTaken = k in after
        after[k] ??= `${i}/${value}`
        return isTaken ? "LoginTaken" : "done"
      })
      return [[after, answers]]
    }
    case "update":
      return [command.k in world ? [{ ...world, [command.k]: value }, "done"] : [world, "UserNotFound"]]
    case "upsert":
      return [[{ ...world, [command.k]: value }, "done"]]
    case "remove":
      return [command.k in world ? [without(command.k), "done"] : [world, "UserNotFound"]]
    case "interrupted": {
      const ended = outcomes(steps[0]!, world)
      return [...ended, ...partly(steps[0]!, world, ended).map((world) => [world, "interrupted"] as const)]
    }
    case "transaction": {
      let all: ReadonlyArray<readonly [World, ReadonlyArray<Answers>]> = [[world, []]]
      for (const step of steps) {
        all = all.flatMap(([world, answers]) =>
          outcomes(step, world).map(([world, answer]) => [world, [...answers, answer]] as const)
        )
      }
      return command.isUndone ? all.map(([, answers]) => [world, answers]) : all
    }
    default:
      return [[world, "fine"]]
  }
}

/** What an interrupted step may leave: of several creates any part, of all else everything or nothing. */
const partly = ({ command, value }: Step, world: World, ended: ReadonlyArray<readonly [World, Answers]>) => {
  let worlds = [world, ...ended.map(([world]) => world)]
  if (command._ === "creates") {
    worlds = [world]
    command.ks.forEach((k, i) => {
      worlds = unique(worlds.flatMap((world) => k in world ? [world] : [world, { ...world, [k]: `${i}/${value}` }]))
    })
  }
  return unique(worlds)
}

export const unique = (worlds: ReadonlyArray<World>): Array<World> =>
  Array.from(new Map(worlds.map((world) => [JSON.stringify(world), world])).values())

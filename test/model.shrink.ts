/** Smaller programs, boldest first. FastCheck's own shrinking keeps what stands around a command, and the number of tracks. */
import { FastCheck } from "effect"
import { type Command, insideOf, type Program } from "./model.commands.js"

export const shrinking = (programs: FastCheck.Arbitrary<Program>): FastCheck.Arbitrary<Program> =>
  new ShrinkingPrograms(programs)

class ShrinkingPrograms extends FastCheck.Arbitrary<Program> {
  constructor(private readonly programs: FastCheck.Arbitrary<Program>) {
    super()
  }

  override generate(random: FastCheck.Random, bias: number | undefined): FastCheck.Value<Program> {
    return new FastCheck.Value(this.programs.generate(random, bias).value, undefined)
  }

  override canShrinkWithoutContext(value: unknown): value is Program {
    return Array.isArray(value)
  }

  override shrink(program: Program): FastCheck.Stream<FastCheck.Value<Program>> {
    return FastCheck.stream(smaller(program)).map((program) => new FastCheck.Value(program, undefined))
  }
}

function* smaller(program: Program): Generator<Program> {
  if (program.length > 1) {
    yield* program.map((track) => [track])
  }
  for (const tracks of shorter(program, 1)) {
    yield tracks
  }
  for (const [i, commands] of program.entries()) {
    for (const fewer of smallerCommands(commands, 0)) {
      yield program.with(i, fewer)
    }
  }
}

/** Halves, and all but one. */
function* shorter<A>(items: ReadonlyArray<A>, least: number): Generator<ReadonlyArray<A>> {
  if (items.length > 3 && items.length >> 1 >= least) {
    yield items.slice(0, items.length >> 1)
    yield items.slice(items.length >> 1)
  }
  if (items.length > least) {
    for (const i of items.keys()) {
      yield items.toSpliced(i, 1)
    }
  }
}

function* smallerCommands(commands: ReadonlyArray<Command>, least: number): Generator<ReadonlyArray<Command>> {
  yield* shorter(commands, least)
  for (const [i, command] of commands.entries()) {
    const inside = insideOf(command)
    if (inside.length > 0) {
      yield commands.toSpliced(i, 1, ...inside)
    }
  }
  for (const [i, command] of commands.entries()) {
    for (const one of smallerCommand(command)) {
      yield commands.with(i, one)
    }
  }
}

function* smallerCommand(command: Command): Generator<Command> {
  if ("command" in command) {
    for (const one of smallerCommands([command.command], 1)) {
      if (one.length === 1) {
        yield { ...command, command: one[0]! }
      }
    }
  }
  if (command._ === "both") {
    const [one, other] = command.commands
    yield* Array.from(smallerCommand(one), (one): Command => ({ ...command, commands: [one, other] }))
    yield* Array.from(smallerCommand(other), (other): Command => ({ ...command, commands: [one, other] }))
  } else if ("commands" in command) {
    yield* Array.from(smallerCommands(command.commands, 0), (commands): Command => ({ ...command, commands }))
  }
  if ("ks" in command) {
    yield* Array.from(shorter(command.ks, 1), (ks): Command => ({ ...command, ks }))
  }
  if ("k" in command && command.k > 0) {
    yield { ...command, k: 0 }
  }
  if ("at" in command && command.at.turns > 0) {
    yield { ...command, at: { yields: 0, turns: command.at.turns >> 1 } }
  }
  if ("at" in command && command.at.yields > 0) {
    yield { ...command, at: { turns: command.at.turns, yields: command.at.yields >> 1 } }
  }
  if (command._ === "transaction" && (command.isRetried || command.isStubborn)) {
    yield { ...command, isRetried: false, isStubborn: false }
  }
  if (command._ === "transaction" && command.end !== "commit") {
    yield { ...command, end: "commit" }
  }
}

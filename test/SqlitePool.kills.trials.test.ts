/** Processes that die by `kill -9` while they write: what they acknowledged is there, and nothing is there in part. */
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect } from "effect"
import { PCGRandom } from "effect/Utils"
import type { ChildProcess } from "node:child_process"
import * as fs from "node:fs"
import { temporaryFile } from "./layers.js"
import { trials } from "./trials.js"
import { bundle, type Finding, Journal, look, run, walSize, writer, type WritesOptions } from "./writes.js"

const fibers = 12
const count = 8

const kill = (child: ChildProcess) => void child.kill("SIGKILL")

/** Kills at a moment of the process's life that the numbers choose: while it opens, makes tables, writes, closes, and at the latest when it has closed. */
const killer = (random: PCGRandom) => {
  const [line, most] = pick(random, [
    ["opening", 40],
    ["open", 5],
    ["closing", 5],
    ...Array.from({ length: 6 }, () => ["+", 2] as const)
  ])
  const delay = random.number() * most
  let left = line === "+" ? random.integer(fibers * (count - 1)) : 0
  return (seen: string, child: ChildProcess) => {
    const isChosen = (line === "+" ? seen.startsWith(line) : seen === line) && left-- === 0
    // Often at once: a timer waits for a millisecond at least.
    if (seen === "closed" || (isChosen && delay < 1)) {
      kill(child)
    } else if (isChosen) {
      setTimeout(kill, delay, child)
    }
  }
}

const pick = <A>(random: PCGRandom, among: ReadonlyArray<A>): A => among[random.integer(among.length)]!

/** Often so few pages that most kills have a checkpoint near. */
const configOf = (random: PCGRandom, filename: string) => ({
  filename,
  pragmas: [`wal_autocheckpoint = ${pick(random, [4, 20, 1_000])}`]
})

const nothingLost = (name: string, { lost, wrong }: Finding) => {
  assert.deepStrictEqual(wrong, [], `${name}: wrong`)
  assert.deepStrictEqual(lost, [], `${name}: acknowledged and lost`)
}

describe("a process that is killed with -9", () => {
  const livesOfFile = 10

  it.live("has stored every write that it acknowledged, and each other one as a whole or not at all", () =>
    Effect.gen(function*() {
      const script = yield* bundle("kills")
      const figures = yield* trials(
        "kill -9 under writes",
        { few: 200, many: 10_000 },
        (first, length) =>
          Effect.gen(function*() {
            const counted = {
              kills: 0,
              "kills while opening": 0,
              "kills while closing": 0,
              "write-ahead logs recovered": 0,
              "under way when killed": 0,
              acknowledged: 0,
              lost: 0
            }
            const oneFile = (numbers: Chunk.Chunk<number>) =>
              Effect.gen(function*() {
                const file = yield* temporaryFile()
                const journal = new Journal()
                for (const trial of numbers) {
                  const random = new PCGRandom(trial)
                  const options = { config: configOf(random, file), life: trial, fibers, count }
                  const { isKilled, lines } = yield* run(writer(script, options), killer(random))
                  const before = journal.underWay
                  journal.add(lines)
                  counted["under way when killed"] += journal.underWay - before
                  counted["write-ahead logs recovered"] += walSize(file) > 0 ? 1 : 0
                  counted.kills += isKilled ? 1 : 0
                  counted["kills while opening"] += isKilled && !lines.includes("open") ? 1 : 0
                  counted["kills while closing"] += isKilled && lines.includes("closing") ? 1 : 0
                  // Otherwise the next process is the one that recovers.
                  if (random.integer(2) === 0 || trial === Chunk.unsafeLast(numbers)) {
                    const finding = look(file, journal)
                    counted.lost += finding.lost.length
                    nothingLost(`trial ${trial}`, finding)
                  }
                }
                counted.acknowledged += journal.acknowledged.size
              }).pipe(Effect.scoped)
            const files = Chunk.chunksOf(Chunk.range(first, first + length - 1), livesOfFile)
            yield* Effect.forEach(files, oneFile, { concurrency: 3, discard: true })
            return counted
          })
      )
      assert.isAbove(figures["acknowledged"]!, 0)
      assert.isAbove(figures["under way when killed"]!, 0)
      assert.isAbove(figures["write-ahead logs recovered"]!, 0)
    }))

  it.live("harms no other process on its file, which goes on and loses nothing either", () =>
    Effect.gen(function*() {
      const script = yield* bundle("kills-shared")
      const figures = yield* trials("kill -9 beside another process", { few: 20, many: 1_000 }, (first, length) =>
        Effect.gen(function*() {
          const counted = { kills: 0, acknowledged: 0, lost: 0, "acknowledged by the other after the kill": 0 }
          yield* Effect.forEach(Chunk.range(first, first + length - 1), (trial) =>
            Effect.gen(function*() {
              const random = new PCGRandom(trial)
              const file = yield* temporaryFile()
              const optionsOf = (life: string): WritesOptions => ({
                config: configOf(random, file),
                life,
                fibers,
                count
              })
              let isDead = false
              let after = 0
              const killed = run(writer(script, optionsOf(`${trial}k`)), killer(random)).pipe(
                Effect.tap(() =>
                  Effect.sync(() =>
                    isDead = true
                  )
                )
              )
              // It writes on for as long as it takes.
              const goesOn = run(writer(script, { ...optionsOf(`${trial}o`), count: 24 }), (line) => {
                after += isDead && line.startsWith("+") ? 1 : 0
              })
              const [one, other] = yield* Effect.all([killed, goesOn], { concurrency: 2 })
              assert.isFalse(other.isKilled, `trial ${trial}`)
              assert.include(other.lines, "closed", `trial ${trial}`)
              const journal = new Journal().add(one.lines).add(other.lines)
              const finding = look(file, journal)
              counted.lost += finding.lost.length
              nothingLost(`trial ${trial}`, finding)
              counted.kills += one.isKilled ? 1 : 0
              counted.acknowledged += journal.acknowledged.size
              counted["acknowledged by the other after the kill"] += after
            }).pipe(Effect.scoped), { concurrency: 2, discard: true })
          return counted
        }))
      assert.isAbove(figures["acknowledged by the other after the kill"]!, 0)
    }))

  it.live("is found out where it acknowledges too early", () =>
    Effect.gen(function*() {
      const script = yield* bundle("kills-early")
      const file = yield* temporaryFile()
      const lost: Array<string> = []
      for (let trial = 0; trial < 5; trial++) {
        const journal = new Journal()
        const options = { config: { filename: file }, life: trial, fibers, count, tooEarly: true }
        const { lines } = yield* run(writer(script, options), (line, child) => {
          if (line.startsWith("+item")) {
            kill(child)
          }
        })
        lost.push(...look(file, journal.add(lines)).lost)
        yield* Effect.sync(() => fs.rmSync(file, { force: true }))
      }
      assert.isAbove(lost.length, 0)
    }).pipe(Effect.scoped))
})

/** The loss of power: what a disk can hold at any moment of a program's life, made from what it wrote and what it fsynced. */
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect } from "effect"
import type { SqlitePool } from "effect-avatars"
import { PCGRandom } from "effect/Utils"
import * as path from "node:path"
import type { TestContext } from "vitest"
import { Disk, type Files, filesIn, read, recorded, replay, restore, type Step, strace } from "./powerLoss.js"
import { temporaryFile } from "./layers.js"
import { trials } from "./trials.js"
import { bundle, type Finding, Journal, look, run, writer } from "./writes.js"

/** What a disk may hold, and what the program had printed. */
interface Crash {
  readonly name: string
  readonly files: Files
  readonly said: ReadonlyArray<string>
  /** Names of files of which something was not synced. */
  readonly unsynced: ReadonlyArray<string>
}

interface Recording {
  readonly steps: ReadonlyArray<Step>
  readonly before: Files
}

/** So many losses of power are made from one recording. */
const statesOfRecording = 25

const sizes = { few: 200, many: 5_000 }

const database = "users.sqlite"

const needsStrace = (ctx: TestContext) => strace === undefined && ctx.skip("strace is not installed")

/** Runs the program in a directory that holds these files, and records it. */
const record = (script: string, options: {
  readonly trial: number
  readonly directory: string
  readonly before: Files
  readonly config: Partial<SqlitePool.SqlitePoolConfig>
  readonly backup?: string
}) =>
  Effect.gen(function*() {
    const { backup, before, config, directory, trial } = options
    restore(before, directory)
    const into = `${directory}.strace`
    const filename = path.join(directory, database)
    const { lines } = yield* run(recorded(
      writer(script, {
        config: { filename, ...config },
        life: trial,
        fibers: 8,
        count: 6,
        backup: backup === undefined ? undefined : path.join(directory, backup)
      }),
      into
    ))
    assert.include(lines, "closed")
    const steps = read(into, directory)
    // The model is right: it ends with the very files that are there, and with what was printed.
    const disk = new Disk(before)
    replay(steps, disk, (_disk, said, moment) => {
      if (moment === steps.length - 1) {
        assert.deepStrictEqual(said, lines)
      }
    })
    assert.deepStrictEqual(sorted(disk.files), sorted(filesIn(directory)))
    return { steps, before } satisfies Recording
  })

const sorted = (files: Files) => Array.from(files).toSorted(([one], [other]) => one < other ? -1 : 1)

/** Losses of power at moments that the numbers choose, of those at which the program has printed enough. */
const crashes = (
  recording: Recording,
  first: number,
  length: number,
  isEnough: (said: ReadonlyArray<string>) => boolean = () => true
): ReadonlyArray<Crash> => {
  let earliest = 0
  replay(recording.steps, new Disk(recording.before), (_disk, said) => earliest += isEnough(said) ? 0 : 1)
  const chosen = Array.from({ length }, (_, i) => {
    const random = new PCGRandom(first + i)
    return { name: `trial ${first + i}`, random, at: earliest + random.integer(recording.steps.length - earliest) }
  })
  const found: Array<Crash> = []
  replay(recording.steps, new Disk(recording.before), (disk, said, moment) => {
    for (const { name, random } of chosen.filter(({ at }) => at === moment)) {
      const unsynced = Array.from(disk.files.keys()).filter((file) => disk.isUnsynced(file))
      found.push({ name, files: disk.crash(random), said: said.slice(), unsynced })
    }
  })
  return found
}

const nothing: { readonly files: Files; readonly journal: Journal } = { files: new Map(), journal: new Journal() }

/** A new life after a loss of power begins with what was found; that stays. */
const known = (journal: Journal, { found, lost }: Finding) => {
  const next = new Journal()
  journal.asked.forEach((key) => next.asked.add(key))
  journal.acknowledged.forEach((key) => !lost.includes(key) && next.acknowledged.add(key))
  found.forEach((key) => next.acknowledged.add(key))
  return next
}

const copyOf = (journal: Journal) =>
  new Journal().add(Array.from(journal.asked, (key) => `?${key}`))
    .add(Array.from(journal.acknowledged, (key) => `+${key}`))

/**
 * Records programs, each second one on what a loss of power left of the one before, and looks at what the losses of power leave. `judge` sees every
 * finding.
 */
const loseThePower = (
  name: string,
  config: Partial<SqlitePool.SqlitePoolConfig>,
  judge: (crash: Crash, finding: Finding) => void
) =>
  Effect.gen(function*() {
    const script = yield* bundle(`power-${name.replaceAll(/\W+/g, "-")}`)
    return yield* trials(`loss of power, ${name}`, sizes, (first, length) =>
      Effect.gen(function*() {
        const directory = path.dirname(yield* temporaryFile())
        const counted = {
          acknowledged: 0,
          lost: 0,
          "before the tables were made": 0,
          "with an unsynced journal or log": 0,
          "with unsynced pages": 0
        }
        let left = nothing
        let isSecond = false
        for (const numbers of Chunk.chunksOf(Chunk.range(first, first + length - 1), statesOfRecording)) {
          const trial = Chunk.unsafeHead(numbers)
          const random = new PCGRandom(trial)
          const { files: before, journal: earlier } = isSecond ? left : nothing
          const recording = yield* record(script, {
            trial,
            directory: path.join(directory, "life"),
            before,
            config: { pragmas: [`wal_autocheckpoint = ${[4, 20, 1_000][random.integer(3)]}`], ...config }
          })
          for (const crash of crashes(recording, trial, numbers.length)) {
            const journal = copyOf(earlier).add(crash.said)
            restore(crash.files, path.join(directory, "left"))
            const finding = look(path.join(directory, "left", database), journal)
            assert.deepStrictEqual(finding.wrong, [], crash.name)
            judge(crash, finding)
            counted.acknowledged += journal.acknowledged.size
            counted.lost += finding.lost.length
            counted["before the tables were made"] += journal.acknowledged.has("tables") ? 0 : 1
            counted["with unsynced pages"] += crash.unsynced.includes(database) ? 1 : 0
            counted["with an unsynced journal or log"] += crash.unsynced.some((name) => name !== database) ? 1 : 0
            left = { files: crash.files, journal: known(journal, finding) }
          }
          isSecond = !isSecond
        }
        return counted
      }).pipe(Effect.scoped))
  })

describe("after the loss of power", () => {
  it.live("with synchronous full every acknowledged write is there, each other one as a whole or not at all", (ctx) =>
    Effect.gen(function*() {
      needsStrace(ctx)
      const figures = yield* loseThePower("synchronous full", {}, nothingLost)
      assert.isAbove(figures["acknowledged"]!, 0)
      assert.isAbove(figures["with unsynced pages"]!, 0)
    }))

  it.live("with synchronous full and without a write-ahead log every acknowledged write is there", (ctx) =>
    Effect.gen(function*() {
      needsStrace(ctx)
      yield* loseThePower("synchronous full without a write-ahead log", { disableWAL: true }, nothingLost)
    }))

  it.live("with synchronous normal nothing is damaged or there in part, and only the last writes are lost", (ctx) =>
    Effect.gen(function*() {
      needsStrace(ctx)
      const figures = yield* loseThePower("synchronous normal", { synchronous: "normal" }, onlyTheLast)
      // So these trials can tell: what is not fsynced is lost in them.
      assert.isAbove(figures["lost"]!, 0)
    }))

  for (const [of, filename] of [["a file", undefined], ["a database in memory", ":memory:"]] as const) {
    it.live(`a finished backup of ${of} is there, with every write that was acknowledged before it began`, (ctx) =>
      Effect.gen(function*() {
        needsStrace(ctx)
        const script = yield* bundle(`power-backup-${filename === undefined ? "file" : "memory"}`)
        yield* trials(`loss of power after a backup of ${of}`, sizes, (first, length) =>
          Effect.gen(function*() {
            const directory = path.dirname(yield* temporaryFile())
            const counted = { copies: 0, "whole copies": 0 }
            for (const numbers of Chunk.chunksOf(Chunk.range(first, first + length - 1), statesOfRecording)) {
              const trial = Chunk.unsafeHead(numbers)
              const recording = yield* record(script, {
                trial,
                directory: path.join(directory, "life"),
                before: new Map(),
                config: filename === undefined ? {} : { filename },
                backup: "copy.sqlite"
              })
              const isFinished = (said: ReadonlyArray<string>) => said.includes("+backup")
              for (const { files, name, said } of crashes(recording, trial, numbers.length, isFinished)) {
                const asked = said.filter((line) => line.startsWith("?"))
                const acknowledged = said.slice(0, said.indexOf("?backup")).filter((line) => line.startsWith("+"))
                restore(files, path.join(directory, "left"))
                const finding = look(
                  path.join(directory, "left", "copy.sqlite"),
                  new Journal().add([...asked, ...acknowledged])
                )
                assert.deepStrictEqual(finding.wrong, [], name)
                assert.deepStrictEqual(finding.lost, [], name)
                counted.copies += 1
                counted["whole copies"] += finding.found.size > 0 ? 1 : 0
              }
            }
            assert.strictEqual(counted["whole copies"], counted.copies)
            return counted
          }).pipe(Effect.scoped))
      }))
  }
})

const nothingLost = ({ name }: Crash, { lost }: Finding) => assert.deepStrictEqual(lost, [], name)

/** A fiber waits for each of its writes: where one is lost, no later one is there. */
const onlyTheLast = ({ name }: Crash, { found, lost }: Finding) => {
  const place = (key: string) => {
    const [, life, fiber, n] = /:(\d+)\.(\d+)\.(\d+)$/.exec(key) ?? []
    return { fiber: `${life}.${fiber}`, n: Number(n) }
  }
  const firstLost = new Map<string, number>()
  for (const key of lost) {
    if (!key.startsWith("remove:") && key !== "tables") {
      const { fiber, n } = place(key)
      firstLost.set(fiber, Math.min(n, firstLost.get(fiber) ?? n))
    }
  }
  for (const key of found) {
    const { fiber, n } = place(key)
    assert.isBelow(n, firstLost.get(fiber) ?? Infinity, `${name}: ${key} is there, an earlier one is lost`)
  }
}

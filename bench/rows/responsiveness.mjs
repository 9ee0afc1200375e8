/** What else goes on while statements run: the event loop, other statements, and nothing at all. */
import { startOnCopy, using, whyAbsent } from "../children.mjs"
import { alternate, median, ratios, summary } from "../statistics.mjs"
import { row } from "./row.mjs"

const ours = "effect-avatars"

const metered = [
  ours,
  "better-sqlite3 get",
  "@effect/sql-sqlite-node sql",
  "better-sqlite3-pool",
  "@libsql/client",
  "node-sqlite3",
  "Twisted adbapi"
]

/** How many steps a slow statement needs to take about so long on this system. */
const stepsFor = async (child, milliseconds) => {
  const steps = 1_000_000
  const times = []
  for (let i = 0; i < 3; i++) {
    times.push((await child.ask("query", { steps })).took)
  }
  return Math.round(steps * milliseconds / median(times))
}

/**
 * The event loop's delay of every system (p99.9, ms), with and without a statement of about a second beside the
 * lookups.
 */
const measureDelays = ({ file, slowRounds, users }) => {
  const present = metered.filter((name) => whyAbsent(name) === undefined)
  const starting = Object.fromEntries(present.map((name) => [name, () => startOnCopy(name, file)]))
  return using(starting, async (children) => {
    const steps = {}
    for (const name of present) {
      steps[name] = await stepsFor(children[name], 1_000)
    }
    const runs = present.map((name) => [name, () => children[name].ask("delays", { steps: steps[name], users })])
    const measured = await alternate(slowRounds, Object.fromEntries(runs))
    return Object.fromEntries(
      Object.entries(measured).map(([name, delays]) => [name, {
        meter: summary(delays.map(({ meter }) => meter)),
        without: summary(delays.map(({ without }) => without.high)),
        beside: summary(delays.map(({ beside }) => beside.high)),
        above: summary(delays.map(({ beside, without }) => beside.high - without.high))
      }])
    )
  })
}

const twoReaders = { poolOptions: { minReaders: "2", maxReaders: "2" } }

/** Goal 10. */
const measureTwo = (child, { rounds }, steps) =>
  alternate(rounds, {
    after: async () => (await child.ask("queryTwice", { steps, isAtOnce: false })).took,
    together: async () => (await child.ask("queryTwice", { steps, isAtOnce: true })).took
  }).then(({ after, together }) =>
    row(
      10,
      "two statements that keep a processor busy, at once, against one after the other (time)",
      { atMost: 0.6 },
      ratios(together, after)
    )
  )

/** Goal 14. */
const measureQuick = async (child, { rounds, users }, steps) => {
  const { quick } = await alternate(rounds, {
    quick: async () => (await child.ask("quick", { steps, users })).slowest
  })
  return row(
    14,
    "the slowest of 64 quick reads sent beside a 1 s statement, two readers",
    { atMost: 50 },
    summary(quick),
    // Not their median: none may take longer.
    { unit: "ms", isReached: Math.max(...quick) <= 50 }
  )
}

/** The processor time of a process that has worked, with an open pool, while it is asked nothing. */
const measureIdle = async (child, { slowRounds }) => {
  const milliseconds = 10_000
  // The round that does not count is also its time to come to rest: V8 collects what the work before has left.
  const { idle } = await alternate(slowRounds, {
    idle: async () => (await child.ask("idle", { milliseconds })).busy / milliseconds * 100
  })
  return row(undefined, "an idle process with an open pool, over 10 s", { atMost: 0.1 }, summary(idle), {
    unit: "% of a core"
  })
}

export const measureResponsiveness = async (bench) => {
  const delays = await measureDelays(bench)
  return {
    delays,
    rows: [
      row(
        9,
        "the event loop's delay (p99.9) while a 1 s statement and 64 lookups run, above the same lookups without it",
        { atMost: 10 },
        delays[ours].above,
        { unit: "ms" }
      ),
      row(
        9,
        "what its meter sees of a block of 100 ms",
        { atLeast: 90 },
        delays[ours].meter,
        { unit: "ms" }
      ),
      ...await using({ pool: () => startOnCopy(ours, bench.file, twoReaders) }, async ({ pool }) => {
        const steps = await stepsFor(pool, 1_000)
        return [
          await measureTwo(pool, bench, Math.round(steps / 2)),
          await measureQuick(pool, bench, steps),
          await measureIdle(pool, bench)
        ]
      })
    ]
  }
}

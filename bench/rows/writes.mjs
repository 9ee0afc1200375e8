/** Durable writes: every system commits with `synchronous = FULL`, and its syncs are counted. */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import { start, startOnCopy, using, whyAbsent } from "../children.mjs"
import { alternate, ratios, summary } from "../statistics.mjs"
import { concurrencies } from "../systems.mjs"
import { row, skipped } from "./row.mjs"

const ours = "effect-avatars"
const oneByOne = "better-sqlite3 get"

const writers = [
  ours,
  oneByOne,
  "@effect/sql-sqlite-node sql",
  "better-sqlite3-pool",
  "@libsql/client",
  "node-sqlite3",
  "Twisted adbapi"
]

const rateOf = ({ answered, took }, count) => {
  if (answered !== count) {
    throw new Error(`Of ${count} users ${answered} were stored.`)
  }
  return Math.round(answered / took * 1_000)
}

/** Each system's creates a second by concurrency. */
const measureRates = ({ empty, rounds, sizes }) => {
  const present = writers.filter((name) => whyAbsent(name) === undefined)
  const starting = Object.fromEntries(present.map((name) => [name, () => startOnCopy(name, empty)]))
  return using(starting, async (children) => {
    const rates = Object.fromEntries(present.map((name) => [name, {}]))
    for (const concurrency of concurrencies) {
      // Few where each is a commit of its own.
      const countOf = (name) => name === ours && concurrency > 1 ? sizes.creates : sizes.creates / 10
      const runs = present.map((name) => [
        name,
        async () => rateOf(await children[name].ask("create", { concurrency, count: countOf(name) }), countOf(name))
      ])
      for (const [name, measured] of Object.entries(await alternate(rounds, Object.fromEntries(runs)))) {
        rates[name][concurrency] = summary(measured)
      }
    }
    return rates
  })
}

const hasStrace = () => {
  try {
    execFileSync("strace", ["-V"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}

/**
 * How many creates one fsync or fdatasync serves: a run of its own, whose time nobody looks at, counted from before the
 * file is opened.
 */
const countSyncs = async (name, { empty, sizes }) => {
  const file = `${empty}-syncs-${name.replace(/\W+/g, "-")}`
  const log = `${file}.strace`
  fs.copyFileSync(empty, file)
  const under = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", "signal=none", "-o", log]
  const child = await start(name, file, { under })
  const count = name === ours ? sizes.creates : 200
  rateOf(await child.ask("create", { concurrency: 256, count }), count)
  await child.end()
  const syncs = fs.readFileSync(log, "utf8").match(/\bf(?:data)?sync\(/g)?.length ?? 0
  return { creates: count, syncs, createsPerSync: count / syncs }
}

/** Goal 7, and that the writes it counts reached the disk. */
export const measureWrites = async (bench) => {
  const rates = await measureRates(bench)
  const rows = [
    row(
      7,
      "durable creates, 256 at once, against one commit a row",
      { atLeast: 20 },
      ratios(rates[ours][256].rounds, rates[oneByOne][256].rounds),
      { perSecond: { ours: rates[ours][256].median, theirs: rates[oneByOne][256].median } }
    )
  ]
  const name = `fsyncs of ${bench.sizes.creates} creates, 256 at once, counted by strace`
  const wanted = { atLeast: 1 }
  if (hasStrace()) {
    const counted = { [ours]: await countSyncs(ours, bench), [oneByOne]: await countSyncs(oneByOne, bench) }
    rows.push(row(7, name, wanted, summary([counted[ours].syncs]), { unit: "fsyncs", counted }))
  } else {
    rows.push(skipped(7, name, wanted, "strace is not installed"))
  }
  return { rows, rates }
}

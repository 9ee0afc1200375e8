/** What every row of the benchmark needs: a database, rounds that alternate, medians, a meter of the event loop's delay. */
import Sqlite from "better-sqlite3"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

/** A users database with `count` users `user0000000`.., in a directory of its own that goes with the process. */
export const makeUsers = (count) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "effect-avatars-bench-"))
  process.on("exit", () => fs.rmSync(directory, { recursive: true, force: true }))
  const file = path.join(directory, "users.sqlite")
  const db = new Sqlite(file)
  db.pragma("journal_mode = WAL")
  db.exec(`
    create table users (login text not null primary key, name text not null, forname text not null);
    insert into users with recursive n(i) as (select 0 union all select i + 1 from n where i < ${count - 1})
    select printf('user%07d', i), 'Garcia Marquez ' || i, 'Estebán ' || i from n;
  `)
  db.close()
  return file
}

/** Logins spread over the whole table. */
export const loginsOf = (count, users) =>
  Array.from({ length: count }, (_, i) => `user${String((i * 7919) % users).padStart(7, "0")}`)

export const median = (values) => values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)]

export const summary = (values) => ({
  median: median(values),
  min: Math.min(...values),
  max: Math.max(...values)
})

export const spread = (values, digits = 2) => {
  const { max, min } = summary(values)
  return `${min.toFixed(digits)} to ${max.toFixed(digits)} in ${values.length} rounds`
}

/** Milliseconds that an asynchronous function takes. */
export const time = async (run) => {
  const start = performance.now()
  await run()
  return performance.now() - start
}

/** Runs each system once a round, in turn; the first round warms up and does not count. Answers each system's times (ms). */
export const alternate = async (rounds, systems) => {
  const times = Object.fromEntries(Object.keys(systems).map((name) => [name, []]))
  for (let round = 0; round <= rounds; round++) {
    for (const [name, run] of Object.entries(systems)) {
      const took = await time(run)
      if (round > 0) {
        times[name].push(took)
      }
    }
  }
  return times
}

/** By how much a timer of one millisecond comes too late: every delay while `run` runs (ms). */
export const delays = async (run) => {
  const late = []
  let last = performance.now()
  let isRunning = true
  const tick = () => {
    const now = performance.now()
    late.push(Math.max(0, now - last - 1))
    last = now
    if (isRunning) {
      setTimeout(tick, 1)
    }
  }
  setTimeout(tick, 1)
  await run()
  // The tick that was due during the last block still counts.
  await new Promise((resolve) => setTimeout(resolve, 5))
  isRunning = false
  return late
}

export const percentile = (values, share) =>
  values.toSorted((one, other) => one - other)[Math.min(values.length - 1, Math.floor(values.length * share))]

/** A meter that misses a known block measures nothing: throws where it does. */
export const checkMeter = async () => {
  const late = await delays(async () => {
    await new Promise((resolve) => setTimeout(resolve, 20))
    const end = performance.now() + 100
    while (performance.now() < end);
    await new Promise((resolve) => setTimeout(resolve, 20))
  })
  const highest = Math.max(...late)
  if (highest < 90 || highest > 200) {
    throw new Error(`The meter saw ${highest} ms where the event loop was blocked for 100 ms.`)
  }
}

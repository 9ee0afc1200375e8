/** What is measured: each row a ratio of two systems in one run, or a figure that has a bound of its own. */
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Effect, ManagedRuntime } from "effect"
import { SqlitePool } from "effect-avatars"
import { alternate, delays, loginsOf, median, percentile, spread, time } from "./harness.mjs"

const slow = (count) => `
  with recursive n(i) as (select 1 union all select i + 1 from n where i < ${count}) select sum(i) as total from n
`

const lookUp = (logins, concurrency) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      Effect.forEach(logins, (login) => sql`select login, name, forname from users where login = ${login}`, {
        concurrency
      }).pipe(Effect.tap((found) => {
        if (found.some((rows, i) => rows.length !== 1 || rows[0].login !== logins[i])) {
          throw new Error("A lookup was answered wrongly.")
        }
      }))
  )

const statement = (text) => Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(text))

/** Runs `use` with a function that runs effects on the layer. */
const using = async (layer, use) => {
  const runtime = ManagedRuntime.make(layer)
  try {
    return await use((effect) => runtime.runPromise(effect))
  } finally {
    await runtime.dispose()
  }
}

/** How far a statement has to count to take about a second here. */
const countForOneSecond = async (run) => {
  const count = 1_000_000
  return Math.round(
    count * 1_000 / median([
      await time(() => run(statement(slow(count)))),
      await time(() => run(statement(slow(count)))),
      await time(() => run(statement(slow(count))))
    ])
  )
}

export const rows = [
  {
    name: "plain reads through the pool, 64 at once, against @effect/sql-sqlite-node (throughput, ratio)",
    goal: ">= 1.0",
    isReached: (measured) => measured >= 1,
    measure: ({ file, rounds, users }) =>
      using(
        SqlitePool.layer({ filename: file }),
        (pool) =>
          using(SqliteClient.layer({ filename: file }), async (plain) => {
            const logins = loginsOf(10_000, users)
            const times = await alternate(rounds, {
              plain: () => plain(lookUp(logins, 64)),
              pool: () => pool(lookUp(logins, 64))
            })
            const ratios = times.plain.map((took, i) => took / times.pool[i])
            const rate = (values) => Math.round(logins.length / median(values) * 1_000)
            return {
              measured: median(ratios),
              spread: spread(ratios),
              perSecond: { pool: rate(times.pool), plain: rate(times.plain) }
            }
          })
      )
  },
  {
    name: "event-loop delay, p99.9, while a 1 s statement and 64 lookups run, above the same without it (ms)",
    goal: "<= 10",
    isReached: (measured) => measured <= 10,
    measure: ({ file, rounds, users }) =>
      using(SqlitePool.layer({ filename: file, minReaders: 2 }), async (pool) => {
        const count = await countForOneSecond(pool)
        const logins = loginsOf(64, users)
        const lookups = async (until) => {
          while (!until()) {
            await pool(lookUp(logins, 64))
            await new Promise((resolve) => setTimeout(resolve, 10))
          }
        }
        const differences = []
        for (let round = 0; round < Math.max(5, rounds); round++) {
          const end = performance.now() + 1_000
          const without = await delays(() => lookups(() => performance.now() > end))
          const beside = await delays(async () => {
            let isDone = false
            const long = pool(statement(slow(count))).then(() => {
              isDone = true
            })
            await lookups(() => isDone)
            await long
          })
          differences.push(percentile(beside, 0.999) - percentile(without, 0.999))
        }
        return { measured: median(differences), spread: spread(differences) }
      })
  },
  {
    name: "two statements that keep a processor busy, at once, against one after the other (time, ratio)",
    goal: "<= 0.6",
    isReached: (measured) => measured <= 0.6,
    measure: ({ file, rounds }) =>
      using(SqlitePool.layer({ filename: file, minReaders: 2 }), async (pool) => {
        const count = Math.round(await countForOneSecond(pool) / 2)
        const one = statement(slow(count))
        const times = await alternate(rounds, {
          after: () => pool(Effect.all([one, one], { concurrency: 1 })),
          together: () => pool(Effect.all([one, one], { concurrency: 2 }))
        })
        const ratios = times.together.map((took, i) => took / times.after[i])
        return { measured: median(ratios), spread: spread(ratios) }
      })
  },
  {
    name: "the slowest of 64 quick reads that were sent beside a 1 s statement, two readers (ms)",
    goal: "<= 50",
    isReached: (measured) => measured <= 50,
    measure: ({ file, rounds, users }) =>
      using(SqlitePool.layer({ filename: file, minReaders: 2, maxReaders: 2 }), async (pool) => {
        const count = await countForOneSecond(pool)
        const logins = loginsOf(64, users)
        const slowest = []
        for (let round = 0; round < rounds; round++) {
          const start = performance.now()
          const quick = []
          const read = (login) =>
            Effect.tap(lookUp([login], 1), () => Effect.sync(() => quick.push(performance.now() - start)))
          await pool(Effect.all(
            [...logins.slice(0, 32).map(read), statement(slow(count)), ...logins.slice(32).map(read)],
            { concurrency: "unbounded" }
          ))
          slowest.push(Math.max(...quick))
        }
        return { measured: Math.max(...slowest), spread: spread(slowest) }
      })
  }
]

/** Goal 11: servers, where the environment names one whose user may create a database. */
import { rateOf, start, using } from "../children.mjs"
import { alternate, ratios } from "../statistics.mjs"
import { userAt } from "../users.mjs"
import { row, skipped } from "./row.mjs"

const engines = [
  {
    name: "PostgreSQL",
    variable: "BENCH_POSTGRES_URL",
    ours: "effect-avatars on PostgreSQL",
    bare: "pg",
    open: async (url) => {
      const { Client } = (await import("pg")).default
      const client = new Client({ connectionString: url })
      await client.connect()
      return { run: (text, values) => client.query(text, values), close: () => client.end() }
    },
    placeholder: (i) => `$${i + 1}`
  },
  {
    name: "MariaDB",
    variable: "BENCH_MYSQL_URL",
    ours: "effect-avatars on MariaDB",
    bare: "mysql2",
    open: async (url) => {
      const client = await (await import("mysql2/promise")).createConnection({ uri: url })
      return { run: (text, values) => client.query(text, values), close: () => client.end() }
    },
    placeholder: () => "?"
  }
]

const statementUsers = 500

/** The table that our layer has made, filled. */
const fill = async (engine, url, users) => {
  const client = await engine.open(url)
  for (let first = 0; first < users; first += statementUsers) {
    const values = Array.from({ length: Math.min(statementUsers, users - first) }, (_, i) => userAt(first + i))
      .flatMap(({ forname, login, name }) => [login, name, forname])
    const rows = Array.from(
      { length: values.length / 3 },
      (_, i) => `(${[0, 1, 2].map((column) => engine.placeholder(i * 3 + column)).join(", ")})`
    )
    await client.run(`insert into users (login, name, forname) values ${rows.join(", ")}`, values)
  }
  await client.run(engine.name === "PostgreSQL" ? "analyze users" : "analyze table users")
  await client.close()
}

const withDatabase = async (engine, url, use) => {
  const name = `effect_avatars_bench_${process.pid}`
  const admin = await engine.open(url)
  await admin.run(`create database ${name}`)
  try {
    const own = new URL(url)
    own.pathname = `/${name}`
    return await use(own.href)
  } finally {
    await admin.run(`drop database ${name}`)
    await admin.close()
  }
}

const measureEngine = (engine, url, { rounds, sizes, users }) =>
  withDatabase(
    engine,
    url,
    (own) =>
      using({ ours: () => start(engine.ours, own), bare: () => start(engine.bare, own) }, async (children) => {
        await fill(engine, own, users)
        const request = { concurrency: 64, count: sizes.lookups, milliseconds: sizes.lookupTime, users }
        const rate = (child) => async () => rateOf(await child.ask("lookUp", request), request)
        const rates = await alternate(rounds, { ours: rate(children.ours), bare: rate(children.bare) })
        return row(
          11,
          `${engine.name}: lookups, 64 at once, against one statement each through the bare driver's pool`,
          { atLeast: 6 },
          ratios(rates.ours, rates.bare)
        )
      })
  )

export const measureServers = async (bench) => {
  const rows = []
  for (const engine of engines) {
    const url = process.env[engine.variable]
    rows.push(
      url === undefined
        ? skipped(11, `${engine.name}: lookups, 64 at once`, { atLeast: 6 }, `${engine.variable} names no server`)
        : await measureEngine(engine, url, bench)
    )
  }
  return { rows }
}

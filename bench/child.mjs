/**
 * One system in a process of its own: `node child.mjs <module> <opener> <file> <options>`. It opens the file, says that
 * it is ready, and then answers one request a line on stdin with one answer a line on stdout: `{ task, ... }` with its
 * result, or `{ error }`.
 */
import { createInterface } from "node:readline"
import { checkMeter, delaysOf } from "./meter.mjs"
import { percentile } from "./statistics.mjs"
import { digestOf, loginsOf, userAt } from "./users.mjs"

const [module, opener, file, options] = process.argv.slice(2)
const peer = await import(`./peers/${module}.mjs`)
const system = await peer[opener](file, JSON.parse(options))

const time = async (run) => {
  const start = performance.now()
  const answer = await run()
  return { took: performance.now() - start, answer }
}

/** A statement that keeps a processor busy and yields one row. */
const slow = (steps) => `
  with recursive n(i) as (select 1 union all select i + 1 from n where i < ${steps}) select sum(i) as total from n
`

const query = async (steps) => {
  const [{ total }] = await system.query(slow(steps))
  if (Number(total) !== steps * (steps + 1) / 2) {
    throw new Error("A slow statement was answered wrongly.")
  }
}

/** Looks the same 64 logins up every 10 ms. */
const keepLookingUp = async (users, isDone) => {
  const logins = loginsOf(64, users)
  while (!isDone()) {
    await system.lookUp(logins, 64)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

let created = 0

const tasks = {
  /**
   * The whole list of logins, again and again for about so many milliseconds; only the lookups are timed, every answer
   * counts for the digest.
   */
  lookUp: async ({ concurrency, count, milliseconds, users }) => {
    const logins = loginsOf(count, users)
    const digests = new Set()
    let took = 0
    let answered = 0
    do {
      const lookedUp = await time(() => system.lookUp(logins, concurrency))
      took += lookedUp.took
      answered += logins.length
      digests.add(digestOf(lookedUp.answer))
    } while (took < milliseconds)
    return { took, answered, digests: Array.from(digests) }
  },

  lookUpMany: async ({ count, users }) => {
    const { answer, took } = await time(() => system.lookUpMany(loginsOf(count, users)))
    return { took, answered: count, digests: [digestOf(answer)] }
  },

  readAll: async () => {
    const { answer, took } = await time(() => system.readAll())
    return { took, answered: answer }
  },

  /** New users; how many rows they added to the table shows that all were stored. */
  create: async ({ concurrency, count }) => {
    const countRows = async () => Number((await system.query("select count(*) as total from users"))[0].total)
    const avatars = Array.from({ length: count }, (_, i) => ({ ...userAt(i), login: `new${created + i}` }))
    const { toAvatar = (avatar) => avatar } = system
    created += count
    const before = await countRows()
    const made = avatars.map(toAvatar)
    const { took } = await time(() => system.create(made, concurrency))
    return { took, answered: await countRows() - before }
  },

  query: async ({ steps }) => {
    const { took } = await time(() => query(steps))
    return { took }
  },

  /** Two slow statements. */
  queryTwice: async ({ isAtOnce, steps }) => {
    const { took } = await time(async () => {
      const one = query(steps)
      await (isAtOnce ? Promise.all([one, query(steps)]) : one.then(() => query(steps)))
    })
    return { took }
  },

  /**
   * The event loop's delay while 64 lookups run again and again for a second, and then while a slow statement runs
   * beside them.
   */
  delays: async ({ steps, users }) => {
    const meter = await checkMeter()
    const end = performance.now() + 1_000
    const without = await delaysOf(() => keepLookingUp(users, () => performance.now() > end))
    const beside = await delaysOf(async () => {
      let isDone = false
      const long = query(steps).finally(() => {
        isDone = true
      })
      await Promise.all([long, keepLookingUp(users, () => isDone)])
    })
    const summaryOf = (late) => ({ high: percentile(late, 0.999), max: Math.max(...late) })
    return { meter, without: summaryOf(without), beside: summaryOf(beside) }
  },

  /**
   * 64 lookups, each its own, of which half are sent before a slow statement and half after it: when the last of them
   * was answered.
   */
  quick: async ({ steps, users }) => {
    const logins = loginsOf(64, users)
    const start = performance.now()
    let slowest = 0
    const lookUp = async (login) => {
      await system.lookUp([login], 1)
      slowest = performance.now() - start
    }
    const quick = logins.slice(0, 32).map(lookUp)
    const long = query(steps)
    await Promise.all([...quick, long, ...logins.slice(32).map(lookUp)])
    return { slowest }
  },

  /** Processor time of all threads while nothing is asked (ms). */
  idle: async ({ milliseconds }) => {
    const before = process.cpuUsage()
    await new Promise((resolve) => setTimeout(resolve, milliseconds))
    const { system, user } = process.cpuUsage(before)
    return { busy: (system + user) / 1_000 }
  },

  /** Lookups under a tracer that keeps nothing but the number of its spans. */
  lookUpTraced: async ({ concurrency, count, users }) => {
    const { countSpans } = await import("./peers/effectAvatars.mjs")
    const logins = loginsOf(count, users)
    const spans = countSpans()
    const { answer, took } = await time(() => system.lookUp(logins, concurrency, spans.wrap))
    return { took, answered: count, digests: [digestOf(answer)], spans: spans.count() }
  }
}

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`)

say({ versions: {} })
for await (const line of createInterface({ input: process.stdin })) {
  const { task, ...request } = JSON.parse(line)
  try {
    say(await tasks[task](request))
  } catch (error) {
    say({ error: `${task}: ${error?.stack ?? error}` })
  }
}
await system.close()

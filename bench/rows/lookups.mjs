/** Lookups of every system by how many are under way at once, and the goals that compare them. */
import { rateOf, startOnCopy, using, whyAbsent } from "../children.mjs"
import { alternate, ratios, summary } from "../statistics.mjs"
import { concurrencies, systems } from "../systems.mjs"
import * as untraced from "../untraced.mjs"
import { row, skipped } from "./row.mjs"

const ours = "effect-avatars"

/**
 * Each system's rates by concurrency: `{ [system]: { [concurrency]: summary } }`, and the versions that the systems
 * tell.
 */
const measureRates = ({ file, rounds, sizes, users }) => {
  const present = Object.keys(systems).filter((name) => whyAbsent(name) === undefined)
  const starting = Object.fromEntries(present.map((name) => [name, () => startOnCopy(name, file)]))
  return using(starting, async (children) => {
    const rates = Object.fromEntries(present.map((name) => [name, {}]))
    for (const concurrency of concurrencies) {
      const request = { concurrency, count: sizes.lookups, milliseconds: sizes.lookupTime, users }
      const runs = present.map((name) => [
        name,
        async () => rateOf(await children[name].ask("lookUp", request), request)
      ])
      for (const [name, rounds_] of Object.entries(await alternate(rounds, Object.fromEntries(runs)))) {
        rates[name][concurrency] = summary(rounds_.map(Math.round))
      }
    }
    return { rates, versions: Object.assign({}, ...Object.values(children).map(({ versions }) => versions)) }
  })
}

/** Rows of goals 1 to 4 and 6. */
const compare = (rates) => {
  const against = (peer, concurrency, us = ours) =>
    ratios(rates[us][concurrency].rounds, rates[peer][concurrency].rounds)
  const asynchronous = Object.keys(systems).filter((name) => systems[name].isAsynchronous)
  const best = asynchronous.toSorted((one, other) => rates[other][64].median - rates[one][64].median)[0]
  const original = "Twisted adbapi"
  const absent = whyAbsent(original)
  return [
    ...[[1, 64], [2, 256]].flatMap(([goal, concurrency]) => [
      row(
        goal,
        `lookups, ${concurrency} at once, against a synchronous loop that decodes to the same Avatar`,
        { atLeast: 1 },
        against("better-sqlite3 get, decoded", concurrency)
      ),
      row(
        goal,
        `lookups, ${concurrency} at once, against the bare synchronous loop`,
        undefined,
        against("better-sqlite3 get", concurrency)
      )
    ]),
    absent === undefined
      ? row(3, "lookups, 64 at once, against adbapi", { atLeast: 10 }, against(original, 64))
      : skipped(3, "lookups, 64 at once, against adbapi", { atLeast: 10 }, absent),
    row(3, `lookups, 64 at once, against the best asynchronous Node peer (${best})`, { atLeast: 6 }, against(best, 64)),
    row(
      4,
      "a lookup alone, against SqlSchema.findOne on @effect/sql-sqlite-node",
      { atLeast: 0.7 },
      against("@effect/sql-sqlite-node findOne", 1)
    ),
    row(
      6,
      "plain sql reads, 64 at once, against @effect/sql-sqlite-node",
      { atLeast: 1 },
      against("@effect/sql-sqlite-node sql", 64, "effect-avatars, plain sql")
    )
  ]
}

/** Goal 5. */
const measureBulk = ({ file, rounds, users }) =>
  using({
    ours: () => startOnCopy(ours, file),
    theirs: () => startOnCopy("better-sqlite3 get", file)
  }, async (children) => {
    const request = { concurrency: 1, count: 10_000, milliseconds: 0, users }
    const rates = await alternate(rounds, {
      ours: async () => rateOf(await children.ours.ask("lookUpMany", request), request),
      theirs: async () => rateOf(await children.theirs.ask("lookUp", request), request)
    })
    return row(
      5,
      "getUserAvatars of 10 000 logins, against the bare synchronous loop (rows)",
      { atLeast: 2 },
      ratios(rates.ours, rates.theirs),
      { perSecond: perSecond(rates) }
    )
  })

/** Whether the cost of a lookup depends on how many there are. */
const measureMany = ({ file, rounds, users }) =>
  using({ ours: () => startOnCopy(ours, file) }, async (children) => {
    const run = (count) => async () => {
      const request = { concurrency: "unbounded", count, milliseconds: 0, users }
      const answer = await children.ours.ask("lookUp", request)
      rateOf(answer, request)
      return answer.took
    }
    const times = await alternate(rounds, { all: run(50_000), half: run(25_000) })
    return row(
      undefined,
      "50 000 lookups at once, against 25 000 (time)",
      { atMost: 2.3 },
      ratios(times.all, times.half)
    )
  })

/**
 * What the possibility of spans costs where nobody traces: the package as it is against the same with its branches for
 * spans taken out when its modules are loaded. With a tracer that only counts, every lookup has a span, and the report
 * says what that costs.
 */
const measureSpans = async ({ file, rounds, sizes, users }) => {
  const name = "lookups with tracing off, 64 at once, against the same code without spans (time)"
  const wanted = { atMost: 1.03 }
  if (!untraced.isFound()) {
    return [skipped(undefined, name, wanted, "bench/untraced.mjs does not find the branches for spans any more")]
  }
  return using({
    stock: () => startOnCopy(ours, file, { nodeOptions: untraced.nodeOptions("with") }),
    untraced: () => startOnCopy(ours, file, { nodeOptions: untraced.nodeOptions("without") }),
    traced: () => startOnCopy(ours, file)
  }, async (children) => {
    const request = { concurrency: 64, count: 10 * sizes.lookups, milliseconds: 0, users }
    const took = async (child, task) => {
      const answer = await child.ask(task, request)
      rateOf(answer, request)
      return answer.took
    }
    const countSpans = async (child) => (await child.ask("lookUpTraced", request)).spans
    if (await countSpans(children.stock) < request.count || await countSpans(children.untraced) >= request.count) {
      throw new Error("Of the two not exactly the stock one made a span for each lookup.")
    }
    const times = await alternate(rounds, {
      stock: () => took(children.stock, "lookUp"),
      untraced: () => took(children.untraced, "lookUp"),
      traced: () => took(children.traced, "lookUpTraced")
    })
    return [
      row(undefined, name, wanted, ratios(times.stock, times.untraced)),
      row(
        undefined,
        "lookups with tracing on, against tracing off (time)",
        undefined,
        ratios(times.traced, times.stock)
      )
    ]
  })
}

const perSecond = (rates) =>
  Object.fromEntries(Object.entries(rates).map(([name, rounds]) => [name, Math.round(summary(rounds).median)]))

export const measureLookups = async (bench) => {
  const { rates, versions } = await measureRates(bench)
  const rows = [
    ...compare(rates),
    await measureBulk(bench),
    await measureMany(bench),
    ...await measureSpans(bench)
  ]
  return { rows, rates, versions }
}

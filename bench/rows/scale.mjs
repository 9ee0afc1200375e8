/** Large tables: reading all of one, and looking up in one of ten million rows. */
import * as path from "node:path"
import { rateOf, start, startOnCopy, using } from "../children.mjs"
import { alternate, ratios } from "../statistics.mjs"
import { writeUsers } from "../users.mjs"
import { row } from "./row.mjs"

const ours = "effect-avatars"

/** Goal 8. */
const measureStream = ({ file, rounds, users }) =>
  using({
    ours: () => startOnCopy(ours, file),
    theirs: () => startOnCopy("better-sqlite3 get, decoded", file)
  }, async (children) => {
    const rate = (child) => async () => {
      const { answered, took } = await child.ask("readAll")
      if (answered !== users) {
        throw new Error(`Of ${users} users ${answered} were read.`)
      }
      return answered / took * 1_000
    }
    const rates = await alternate(rounds, { ours: rate(children.ours), theirs: rate(children.theirs) })
    return row(
      8,
      `stream of ${
        users.toLocaleString("en").replaceAll(",", " ")
      } avatars, against iterate that decodes to the same Avatar`,
      { atLeast: 1.2 },
      ratios(rates.ours, rates.theirs)
    )
  })

/** Goal 13. */
const measureSize = async ({ directory, rounds, sizes }) => {
  const files = { small: path.join(directory, "small"), large: path.join(directory, "large") }
  const counts = { small: 10_000, large: sizes.large }
  writeUsers(files.small, counts.small)
  writeUsers(files.large, counts.large)
  const options = { poolOptions: { minReaders: "2", maxReaders: "2" } }
  return using({
    small: () => start(ours, files.small, options),
    large: () => start(ours, files.large, options)
  }, async (children) => {
    const rate = (which) => async () => {
      const request = { concurrency: 64, count: 10_000, milliseconds: 500, users: counts[which] }
      return rateOf(await children[which].ask("lookUp", request), request)
    }
    const rates = await alternate(rounds, { small: rate("small"), large: rate("large") })
    return row(
      13,
      `lookups in ${sizes.large / 1_000_000} million rows against 10 thousand, 64 at once, two readers`,
      { atLeast: 0.5 },
      ratios(rates.large, rates.small)
    )
  })
}

export const measureScale = async (bench) => ({ rows: [await measureStream(bench), await measureSize(bench)] })

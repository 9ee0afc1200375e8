/** The rows as words: on the terminal, and as the README's table. */

const figure = (value) => {
  if (Number.isInteger(value)) {
    return value.toString()
  }
  const size = Math.abs(value)
  return size >= 100 ? Math.round(value).toString() : size >= 10 ? value.toFixed(1) : value.toFixed(2)
}

const measured = ({ max, median, min, rounds, unit = "" }) => {
  const spread = rounds.length > 1 ? ` (${figure(min)} to ${figure(max)})` : ""
  return `${figure(median)}${unit === "" ? "" : ` ${unit}`}${spread}`
}

const wanted = (row) => {
  if (row.wanted === undefined) {
    return ""
  }
  const { atLeast, atMost } = row.wanted
  return `${atLeast === undefined ? `≤ ${atMost}` : `≥ ${atLeast}`}${row.unit === undefined ? "" : ` ${row.unit}`}`
}

const outcome = (row) =>
  row.skipped !== undefined ? "skipped" : row.isReached === undefined ? "" : row.isReached ? "reached" : "not reached"

export const printRow = (row) => {
  const goal = row.goal === undefined ? "" : `goal ${row.goal}: `
  const told = row.skipped === undefined ? measured(row) : `SKIPPED: ${row.skipped}`
  const want = wanted(row) === "" ? "" : `, wanted ${wanted(row)}: ${outcome(row)}`
  console.log(`${goal}${row.name}\n    ${told}${want}`)
}

/** Of which machine, versions and day; then one line a row. */
export const table = ({ date, machine, rounds, rows, users, versions }) =>
  [
    `Medians of ${rounds} rounds (and their spread) on ${
      date.slice(0, 10)
    }: ${machine.processors} cores of ${machine.model}, Node ` +
    `${versions.node.slice(1)}, better-sqlite3 ${versions["better-sqlite3"]}, ${
      users.toLocaleString("en").replaceAll(",", " ")
    } users.`,
    "",
    "| goal | measured, as a ratio where no unit stands | median (spread) | wanted | |",
    "|---|---|---|---|---|",
    ...rows.map((row) =>
      `| ${row.goal ?? ""} | ${row.name} | ${row.skipped === undefined ? measured(row) : row.skipped} | ${
        wanted(row)
      } | ${outcome(row)} |`
    )
  ].join("\n")

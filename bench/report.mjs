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
export const table = ({ date, isShort, machine, rounds, rows, users, versions }) => {
  const day = date.slice(0, 10)
  const where = `${machine.processors} cores of ${machine.model}, ${machine.system}`
  const what = `Node ${versions.node.slice(1)}, better-sqlite3 ${versions["better-sqlite3"]}, commit ${versions.commit}`
  const line = (row) => {
    const told = row.skipped === undefined ? measured(row) : row.skipped
    return `| ${row.goal ?? ""} | ${row.name} | ${told} | ${wanted(row)} | ${outcome(row)} |`
  }
  const run = `${isShort ? "A short run: medians" : "Medians"} of ${rounds} rounds and their spread`
  return [
    `${run}; ratios where no unit stands. ${day}, ${where}, ${what}, ${users} users.`,
    "",
    "| goal | measured | median (spread) | wanted | |",
    "|---|---|---|---|---|",
    ...rows.map(line)
  ].join("\n")
}

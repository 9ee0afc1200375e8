/** Medians, spreads and rounds that alternate. */

export const median = (values) => values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)]

export const percentile = (values, share) =>
  values.toSorted((one, other) => one - other)[Math.min(values.length - 1, Math.floor(values.length * share))]

export const summary = (values) => ({
  median: median(values),
  min: Math.min(...values),
  max: Math.max(...values),
  rounds: values
})

/** Each round's quotient of two systems that took turns in it. */
export const ratios = (ones, others) => summary(ones.map((one, round) => one / others[round]))

/**
 * Runs each of `runs` (by name) once a round, one at a time; the order is turned around every other round. The first
 * round warms up and does not count. Answers what each run answered, by name and round.
 */
export const alternate = async (rounds, runs) => {
  const names = Object.keys(runs)
  const answers = Object.fromEntries(names.map((name) => [name, []]))
  for (let round = 0; round <= rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const answer = await runs[name]()
      if (round > 0) {
        answers[name].push(answer)
      }
    }
  }
  return answers
}

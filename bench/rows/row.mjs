/**
 * A row of the report: what was wanted, if anything, what was measured and how it spread, and whether that reached what
 * was wanted.
 */
export const row = (goal, name, wanted, measured, details = {}) => ({
  goal,
  name,
  wanted,
  ...measured,
  isReached: isReached(wanted, measured.median),
  ...details
})

const isReached = (wanted, measured) => {
  if (wanted === undefined) {
    return undefined
  }
  return wanted.atLeast === undefined ? measured <= wanted.atMost : measured >= wanted.atLeast
}

/** A row that could not be measured here, and why. */
export const skipped = (goal, name, wanted, why) => ({ goal, name, wanted, skipped: why })

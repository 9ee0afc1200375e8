/** The meter of the event loop's delay. */

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

/** By how much a timer of one millisecond came too late, each time, while `run` ran (ms). */
export const delaysOf = async (run) => {
  const late = []
  let last = performance.now()
  const tick = () => {
    const now = performance.now()
    late.push(Math.max(0, now - last - 1))
    last = now
    timer = setTimeout(tick, 1)
  }
  let timer = setTimeout(tick, 1)
  await run()
  // The tick that was due during the last block still counts.
  await pause(5)
  clearTimeout(timer)
  return late
}

/** What the meter sees of a block of 100 ms (ms). One that misses it measures nothing: throws. */
export const checkMeter = async () => {
  const seen = Math.max(
    ...await delaysOf(async () => {
      await pause(20)
      const end = performance.now() + 100
      while (performance.now() < end);
      await pause(20)
    })
  )
  if (seen < 90 || seen > 200) {
    throw new Error(`The meter saw ${seen} ms where the event loop was blocked for 100 ms.`)
  }
  return seen
}

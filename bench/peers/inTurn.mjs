/**
 * A function on one item as a function on many, of which so many are under way at once as asked; answers in the items'
 * order.
 */
export const inTurn = (run) => async (items, concurrency) => {
  const answers = Array.from({ length: items.length })
  let next = 0
  const worker = async () => {
    while (next < items.length) {
      const place = next++
      answers[place] = await run(items[place])
    }
  }
  await Promise.all(Array.from({ length: concurrency }, worker))
  return answers
}

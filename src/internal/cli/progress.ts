/** How far an import is: a bar on a terminal, a line every few seconds elsewhere, both on stderr. */
import * as Option from "effect/Option"

export interface Progress {
  readonly advance: (bytes: number, users: number) => void
  /** Takes the bar away. */
  readonly end: () => void
}

/** `total` is how many bytes there are, where somebody knows. */
export const makeProgress = (total: Option.Option<number>, output: NodeJS.WriteStream = process.stderr): Progress => {
  const isTerminal = output.isTTY === true
  const interval = isTerminal ? 100 : 5_000
  const start = performance.now()
  let shownAt = start
  let bytes = 0
  let users = 0
  const text = () => {
    const seconds = (performance.now() - start) / 1_000
    const rate = `${users} users, ${Math.round(users / seconds)}/s`
    if (Option.isNone(total) || total.value === 0 || bytes === 0) {
      return rate
    }
    const share = Math.min(1, bytes / total.value)
    const left = `${Math.ceil(seconds / share - seconds)} s left`
    const bar = `[${"#".repeat(Math.round(share * width)).padEnd(width, ".")}] `
    return `${isTerminal ? bar : ""}${Math.floor(share * 100)} %, ${rate}, ${left}`
  }
  return {
    advance: (moreBytes, moreUsers) => {
      bytes += moreBytes
      users += moreUsers
      const now = performance.now()
      if (now - shownAt >= interval) {
        shownAt = now
        output.write(isTerminal ? `\r\x1b[K${text()}` : `${text()}\n`)
      }
    },
    end: () => void (isTerminal && output.write("\r\x1b[K"))
  }
}

const width = 24

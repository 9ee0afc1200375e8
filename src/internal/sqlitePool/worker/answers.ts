/** What goes back to the pool: answers that leave together, and rows in chunks of which each waits until the last was taken. */
import * as protocol from "../protocol.js"
import { Word } from "../protocol.js"
import { noteFailure } from "./database.js"
import { isCancelled, port, words } from "./shared.js"

/** What became of a request. */
export type Outcome = protocol.Rows | Chunks | protocol.Answer

/** All rows of a statement, of which no more than one chunk is under way. */
export class Chunks {
  constructor(readonly chunks: ReadonlyArray<protocol.Rows>) {}
}

export const done: protocol.Answer = { is: "done", changes: 0, lastInsertRowid: 0 }

export const failed = (error: unknown): protocol.Answer => {
  noteFailure(error)
  return { is: "failed", error: protocol.toWire(error) }
}

const isRows = (outcome: Outcome): outcome is protocol.Rows => Array.isArray(outcome)

let replies: Array<protocol.Reply> = []

export const answer = (slot: number, outcome: Outcome): void => {
  if (outcome instanceof Chunks) {
    outcome.chunks.slice(0, -1).forEach((rows) => postChunk(slot, rows))
    answer(slot, outcome.chunks.at(-1)!)
  } else if (!isRows(outcome)) {
    replies.push([slot, outcome])
  } else {
    const [values, names, hasBlobs] = outcome
    replies.push(names === undefined && hasBlobs !== true ? [slot, values] : [slot, values, names, hasBlobs ?? false])
  }
}

/** Lets the answers go. */
export const flush = (): void => {
  if (replies.length > 0) {
    port.postMessage(replies satisfies protocol.Replies)
    Atomics.add(words, Word.Answered, 1)
    replies = []
  }
}

let chunks = 0

/** Posts rows and waits until the pool has taken them. Tells whether more are wanted. */
export const postChunk = (slot: number, rows: protocol.Rows): boolean => {
  answer(slot, { is: "more", rows })
  flush()
  chunks += 1
  for (;;) {
    const taken = Atomics.load(words, Word.Taken)
    if (taken >= chunks || isCancelled(slot)) {
      return !isCancelled(slot)
    }
    Atomics.wait(words, Word.Taken, taken)
  }
}

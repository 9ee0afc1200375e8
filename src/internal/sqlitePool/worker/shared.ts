/** What this thread was started with, and what it shares with the pool: who may run what, and who wants nothing any more. */
import type { MessagePort } from "node:worker_threads"
import { workerData } from "node:worker_threads"
import * as protocol from "../protocol.js"
import { Claim, Word } from "../protocol.js"

export const { options, port, words } = workerData as {
  readonly options: protocol.Options
  readonly port: MessagePort
  readonly words: Int32Array
}

export const isMemory = options.filename === ":memory:" || options.filename === ""

export const now = () => performance.now()

/** Nothing begins any more. */
export const isStopped = () => Atomics.load(words, Word.Closing) === protocol.Closing.Now

/** No lock of another process is waited for any more. */
export const isClosing = () => Atomics.load(words, Word.Closing) !== protocol.Closing.No

export const isCancelled = (slot: number | undefined) =>
  isStopped() || (slot !== undefined && protocol.isCancelled(words, slot))

/** Takes a request for its own; what a thread that is stopped has not begun runs elsewhere. */
export const begins = (slot: number): boolean => !isStopped() && protocol.claim(words, slot, Claim.Begun)

/** From here a death of the thread leaves unknown whether the request was carried out; what ends on a reader has changed nothing. */
export const isCommitting = (slot: number): void => {
  if (options.role !== "reader") {
    protocol.mark(words, slot, Claim.Committing)
  }
}

/** It will run again: the pool may take it back. */
export const runsAgain = (slot: number): void => protocol.mark(words, slot, Claim.Sent)

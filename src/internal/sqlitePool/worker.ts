/**
 * The thread's entry: one connection, one loop. It sleeps until the pool has posted a message, runs what the message asks for, in
 * order, and answers. It runs no promise and no timer: all it does is synchronous, and its sleep is `Atomics.wait`.
 */
import { receiveMessageOnPort } from "node:worker_threads"
import * as protocol from "./protocol.js"
import { Flag, Word } from "./protocol.js"
import { answer, failed, flush } from "./worker/answers.js"
import type { Outcome } from "./worker/answers.js"
import { beginReads, connect, db, isBusy, learnTexts, rollback, untilFree } from "./worker/database.js"
import { group, isClaimed } from "./worker/groups.js"
import type { Member } from "./worker/groups.js"
import { perform } from "./worker/leases.js"
import { isCancelled, isClosing, isStopped, now, options, port, words } from "./worker/shared.js"
import { single } from "./worker/statements.js"
import { limitWal } from "./worker/wal.js"

/** How long a thread stays awake after its last answer: waking it costs more than that (ms). */
const spinTime = 0.05

/** Awake for a moment after each answer, asleep otherwise. Awake it looks at a word only, since a port has a lock. */
const main = () => {
  let isOpen = true
  let awakeUntil = 0
  let seen = -1
  while (isOpen) {
    const pause = limitWal()
    const posted = Atomics.load(words, Word.Posted)
    if (isStopped()) {
      db.close()
      break
    }
    const received = posted === seen ? undefined : receiveMessageOnPort(port)
    if (received !== undefined) {
      const message = received.message as protocol.Message
      const start = now()
      handle(message)
      const end = now()
      Atomics.store(words, Word.Took, (end - start) * 1_000)
      isOpen = !message.requests.some(([, request]) => !protocol.isStatement(request) && request.op === "end")
      awakeUntil = end + spinTime
    } else {
      seen = posted
      if (now() > awakeUntil) {
        sleep(posted, pause)
      }
    }
  }
  port.close()
}

/** Until more than `posted` messages were posted, or for so long (ms). */
const sleep = (posted: number, pause = Infinity): void => {
  // Whatever was posted before the pool could see this has changed the word.
  Atomics.store(words, Word.Asleep, 1)
  Atomics.wait(words, Word.Posted, posted, pause)
  Atomics.store(words, Word.Asleep, 0)
}

const handle = (message: protocol.Message): void => {
  const { requests } = message
  learnTexts(message)
  const isReads = options.role === "reader" && requests.every(([, request]) => protocol.isStatement(request))
  if (isReads && !isSelfContained(requests)) {
    readTogether(requests)
  } else {
    work(requests)
  }
  flush()
}

/** A single statement sees one moment by itself, and no schema need be looked at where no names are told. */
const isSelfContained = (requests: Requests): boolean => {
  const [, request] = requests[0]!
  return requests.length === 1 && protocol.isStatement(request) && (request[3] & Flag.Values) !== 0
}

type Requests = protocol.Message["requests"]

/** Reads that came together see one moment: it comes after all of them were asked for. In a snapshot it is the snapshot's. */
const readTogether = (requests: Requests): void => {
  const isOurs = !db.inTransaction
  try {
    beginReads()
  } catch (error) {
    return readWhenFree(requests, error)
  }
  try {
    work(requests)
  } finally {
    if (isOurs) {
      rollback()
    }
  }
}

/** Where another process keeps even readers out. They have begun, for no other reader would fare better. */
const readWhenFree = (requests: Requests, error: unknown): void => {
  const ours = requests.filter(([slot]) => isClaimed(slot))
  try {
    if (!isBusy(error)) {
      throw error
    }
    untilFree(options.busyTimeout, undefined, beginReads)
  } catch (error) {
    return ours.forEach(([slot]) => answer(slot, failed(error)))
  }
  try {
    ours.forEach(([slot, request]) => answer(slot, outcomeOf(slot, request)))
  } finally {
    rollback()
  }
}

/** All in their order; neighbours that may share a transaction share it. */
const work = (requests: Requests): void => {
  for (let i = 0; i < requests.length;) {
    const members: Array<Member> = []
    for (let next = requests[i]; next !== undefined && isMember(next); next = requests[++i]) {
      members.push(next)
    }
    group(members)
    for (let next = requests[i]; next !== undefined && !isMember(next); next = requests[++i]) {
      const [slot, request] = next
      if (isClaimed(slot)) {
        answer(slot, outcomeOf(slot, request))
      }
    }
  }
}

const isMember = (asked: readonly [slot: number, request: protocol.Request]): asked is Member =>
  protocol.isStatement(asked[1]) && (asked[1][3] & Flag.Grouped) !== 0

const outcomeOf = (slot: number, request: protocol.Request): Outcome => {
  try {
    return protocol.isStatement(request) ? single(slot, request) : perform(slot, request)
  } catch (error) {
    return isCancelled(slot) ? { is: "cancelled" } : failed(error)
  }
}

/** The thread is started before its file may be there. Answers nothing where it is ended before. */
const awaitConnect = (): protocol.Connect | undefined => {
  sleep(0)
  return isClosing() ? undefined : receiveMessageOnPort(port)?.message as protocol.Connect | undefined
}

try {
  const asked = awaitConnect()
  if (asked === undefined) {
    port.close()
  } else {
    Atomics.store(words, Word.Begun, 1)
    const identity = connect(asked.identity)
    port.postMessage([[protocol.nobody, { is: "opened", identity }]] satisfies protocol.Replies)
    main()
  }
} catch (error) {
  port.postMessage([[protocol.nobody, failed(error)]] satisfies protocol.Replies)
  port.close()
}

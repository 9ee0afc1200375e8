/** Group commit: writes that waited together share transactions, and each is answered after its COMMIT. */
import { toWire } from "../protocol.js"
import type { Statement } from "../protocol.js"
import { answer, failed, flush } from "./answers.js"
import type { Outcome } from "./answers.js"
import { begin, checkSchema, commit, db, rollback, tellNamesAgain } from "./database.js"
import { begins, isCommitting, isStopped, now, runsAgain } from "./shared.js"
import { run } from "./statements.js"

/** A group of writes is committed after this time, that those who wait behind it need not wait for all of it (ms). */
const groupTime = 20

export type Member = readonly [slot: number, request: Statement]

/** Whether it is ours to run; one that the pool took back is answered so. */
export const isClaimed = (slot: number): boolean => {
  const isOurs = begins(slot)
  if (!isOurs && !isStopped()) {
    answer(slot, { is: "withdrawn" })
  }
  return isOurs
}

/** Runs the members in as many transactions as they need. */
export const group = (members: ReadonlyArray<Member>): void => {
  let rest = members
  while (rest.length > 0) {
    try {
      begin("BEGIN IMMEDIATE", undefined)
      checkSchema()
    } catch (error) {
      rest.filter(([slot]) => isClaimed(slot)).forEach(([slot]) => answer(slot, failed(error)))
      return
    }
    rest = rest.slice(transact(rest))
    if (rest.length > 0) {
      flush()
    }
  }
}

/**
 * Runs members in the open transaction, ends it, and answers them after its COMMIT; tells how many it got to. A member that fails
 * has undone itself, and the others go on. Where a failure ended the transaction, or the COMMIT fails, nothing of it is there:
 * then each half runs again, until the member that is to blame is alone. Where nobody can tell whether it is there, nothing runs again.
 */
const transact = (members: ReadonlyArray<Member>): number => {
  const start = now()
  const answers: Array<readonly [Member, Outcome]> = []
  let count = 0
  let failure: unknown
  while (count < members.length && failure === undefined && now() - start < groupTime) {
    const member = members[count++]!
    const [slot, request] = member
    if (isClaimed(slot)) {
      try {
        answers.push([member, run(slot, request)])
      } catch (error) {
        answers.push([member, failed(error)])
        failure = db.inTransaction ? undefined : error
      }
    }
  }
  if (failure === undefined) {
    try {
      answers.forEach(([[slot]]) => isCommitting(slot))
      commit(undefined)
    } catch (error) {
      failure = error
    }
  }
  rollback()
  if (failure === undefined || answers.length === 1 || toWire(failure).outcome === "unknown") {
    answers.forEach(([[slot], outcome]) =>
      answer(slot, failure === undefined || isFailed(outcome) ? outcome : failed(failure))
    )
  } else {
    const again = answers.map(([member]) => member)
    again.forEach(([slot]) => runsAgain(slot))
    // Names that were told with answers that are not sent are told again.
    tellNamesAgain()
    const half = again.length >> 1
    group(again.slice(0, half))
    group(again.slice(half))
  }
  return count
}

const isFailed = (outcome: Outcome): boolean => "is" in outcome && outcome.is === "failed"

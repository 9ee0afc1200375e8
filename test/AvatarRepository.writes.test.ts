/** Writes of the same login at once, one of which comes between any two statements of the other. */
import { assert, describe } from "@effect/vitest"
import { Effect } from "effect"
import { type Answer, ask, avatar, claimOn, clients, did, login, numbers } from "./lookups.js"
import type { AvatarRepository } from "effect-avatars"

const kinds = ["create", "update", "upsert", "remove"] as const

type Kind = typeof kinds[number]

const write = (users: AvatarRepository.Service, kind: Kind, value: string) =>
  did(kind === "remove" ? users.remove(login("a")) : users[kind](avatar("a", value)))

/** What a write answers, and leaves under the login. */
const after = (kind: Kind, value: string, before: Answer): readonly [Answer, Answer] => {
  const isThere = before !== "UserNotFound"
  return kind === "upsert" || (kind === "create" && !isThere) || (kind === "update" && isThere)
    ? ["done", value]
    : kind === "create"
    ? ["LoginTaken", before]
    : [isThere ? "done" : "UserNotFound", "UserNotFound"]
}

describe("of two writes of a login at once", () => {
  for (const client of clients) {
    claimOn(client)(
      `each answers on ${client.name} as if one came after the other, wherever between its statements the other comes`,
      function*({ observed, users }) {
        for (const [one, other] of kinds.flatMap((one) => kinds.map((other) => [one, other] as const))) {
          for (const before of ["UserNotFound", "first"]) {
            for (const place of numbers(4)) {
              yield* Effect.ignore(users.remove(login("a")))
              yield* before === "first" ? users.create(avatar("a", before)) : Effect.void
              let answer: Answer | undefined
              let statements = 0
              observed.after = () =>
                statements++ === place
                  ? Effect.map(write(users, other, "other"), (answered) => void (answer = answered))
                  : Effect.void
              const own = yield* write(observed.users, one, "one")
              answer ??= yield* write(users, other, "other")
              const seen = [own, answer, yield* ask(users, "a")]
              const [first, then] = [after(one, "one", before), after(other, "other", before)]
              const [second, last] = [after(other, "other", first[1]), after(one, "one", then[1])]
              assert.deepInclude(
                [[first[0], second[0], second[1]], [last[0], then[0], last[1]]],
                seen,
                `${one} and ${other} after its statement ${place}, where ${before}: ${seen.join(", ")}`
              )
            }
          }
        }
      }
    )
  }
})

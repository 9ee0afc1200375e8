/** Texts at the boundaries: logins and names, URLs, what drivers say, statements by their first words, rows by their logins. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import { trials } from "../trials.js"
import { type Claim, counterexample, holds } from "./claims.js"
import { alike, anyText, anything, serverUrl, sqliteUrl, statement, text } from "./inputs.js"
import * as errors from "./targets/errors.js"
import * as logins from "./targets/logins.js"
import * as routing from "./targets/routing.js"
import * as rows from "./targets/rows.js"
import * as server from "./targets/serverUrl.js"
import * as sqlite from "./targets/sqliteUrl.js"
import { secret } from "./targets/urls.js"

interface Fuzzer<A> {
  readonly name: string
  readonly inputs: FastCheck.Arbitrary<A>
  readonly claim: Claim<A>
  readonly few: number
  /** The same claim on what has a bug. */
  readonly planted: Claim<A>
  readonly bug: string
}

const fuzzer = <A>(fuzzer: Fuzzer<A>): Fuzzer<unknown> => fuzzer as unknown as Fuzzer<unknown>

const cause: FastCheck.Arbitrary<unknown> = FastCheck.letrec((tie) => ({
  cause: FastCheck.oneof(
    { maxDepth: 3 },
    anything,
    FastCheck.record({
      code: FastCheck.oneof(
        FastCheck.constantFrom(
          "SQLITE_BUSY",
          "SQLITE_CONSTRAINT_UNIQUE",
          "40001",
          "40002",
          "23505",
          "EPIPE",
          "XX",
          1062
        ),
        anything
      ),
      errno: FastCheck.oneof(FastCheck.constantFrom(1062, 1213, 4025, -111), anything),
      sqlState: FastCheck.oneof(FastCheck.constantFrom("23000", "40"), anything),
      constraint: anything,
      message: text.map((text) => `${secret} ${text}`),
      cause: tie("cause")
    }, { requiredKeys: ["message"] })
  )
})).cause

const wantedAndFound = FastCheck.tuple(text, text).chain(([one, other]) => {
  const logins = [...alike(one), ...alike(other)]
  return FastCheck.tuple(
    FastCheck.uniqueArray(FastCheck.constantFrom(...logins), { maxLength: 6 }),
    FastCheck.array(FastCheck.oneof(FastCheck.constantFrom<unknown>(...logins), anything), { maxLength: 18 })
  )
})

const fuzzers = [
  fuzzer({
    name: "logins and names",
    inputs: FastCheck.oneof(anyText, text.chain((text) => FastCheck.constantFrom(...alike(text)))),
    claim: logins.claim(logins.real),
    few: 30_000,
    planted: logins.claim(logins.lenient),
    bug: "a check of control characters that knows half of them"
  }),
  fuzzer({
    name: "URLs of a file",
    inputs: sqliteUrl,
    claim: sqlite.claim(sqlite.real),
    few: 14_000,
    planted: sqlite.claim(sqlite.cutting),
    bug: "a parser that cuts paths at `#`"
  }),
  fuzzer({
    name: "URLs of a server",
    inputs: serverUrl,
    claim: server.claim(server.real),
    few: 14_000,
    planted: server.claim((url, port) =>
      Effect.mapError(server.real(url, port), (error) => Object.assign(error, { url }))
    ),
    bug: "a refusal that holds the URL"
  }),
  fuzzer({
    name: "what drivers fail with",
    inputs: cause,
    claim: errors.claim(errors.real),
    few: 10_000,
    planted: errors.claim(errors.leaking),
    bug: "a code whose sentence shows what the driver said"
  }),
  fuzzer({
    name: "routes of statements",
    inputs: statement,
    claim: routing.claim(routing.real),
    few: 8_000,
    planted: routing.claim(routing.naive),
    bug: "a router that takes what begins with a semicolon for a read"
  }),
  fuzzer({
    name: "rows for logins",
    inputs: wantedAndFound,
    claim: ([wanted, found]) => rows.claim(rows.real)(wanted, found),
    few: 6_000,
    planted: ([wanted, found]) => rows.claim(rows.folding)(wanted, found),
    bug: "a lookup that folds case"
  })
]

describe("whatever is drawn of", () => {
  for (const { bug, claim, few, inputs, name, planted } of fuzzers) {
    it.live(`${name} is answered as it is claimed`, () =>
      trials(`fuzz ${name}`, { few, many: 10 * few }, (seed, count) => holds(inputs, claim, seed, count)))

    it.live(`${name} finds ${bug}`, () =>
      Effect.map(counterexample(inputs, planted, few), (found) => assert.isDefined(found)))
  }
})

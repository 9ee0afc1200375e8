import { assert, describe, it } from "@effect/vitest"
import { FastCheck } from "effect"
import { type Call, contradiction, type Operation, type State, step, unexplained } from "./linearizability.js"

/** An operation of one register, in a few characters. */
const at = (invoked: number, returned: number, call: Call, isSure = true): Operation => ({
  key: "x",
  by: `fiber ${invoked}`,
  invoked,
  returned,
  call,
  isSure
})
const read = (saw: State): Call => ({ _: "read", saw })
const write = (value: State): Call => ({ _: "write", value })
const increment = (result: number): Call => ({ _: "increment", result })
const swap = (saw: State, value: State): Call => ({ _: "swap", saw, value })

type Example = readonly [claim: string, history: ReadonlyArray<Operation>, initial?: State]

const linearizable: ReadonlyArray<Example> = [
  ["nothing", []],
  ["a read during a write that sees what was before", [at(0, 9, write(1)), at(1, 2, read(null))]],
  ["a read during a write that sees it", [at(0, 9, write(1)), at(1, 2, read(1))]],
  ["reads during two writes, in the order 2, 1", [
    at(0, 9, write(1)),
    at(0, 9, write(2)),
    at(1, 2, read(2)),
    at(3, 4, read(1))
  ]],
  ["a read at the moment at which a write ends that does not see it", [at(0, 1, write(1)), at(1, 2, read(null))]],
  ["a write whose outcome is unknown and that is never seen", [at(0, Infinity, write(1), false), at(5, 6, read(null))]],
  ["a write whose outcome is unknown and that is seen late", [
    at(0, Infinity, write(1), false),
    at(5, 6, read(null)),
    at(7, 8, read(1))
  ]],
  ["two creates of which the second is answered first", [
    at(0, 5, { _: "create", value: 1, isDone: false }),
    at(1, 2, { _: "create", value: 2, isDone: true })
  ]],
  ["increments in the order of their results", [at(0, 9, increment(2)), at(1, 8, increment(1)), at(9, 10, read(2))], 0],
  ["an increment that is unknown and was made", [at(0, 1, { _: "increment" }, false), at(2, 3, increment(2))], 0],
  ["transfers that are seen whole", [
    at(0, 9, { _: "transfer", amount: 5 }),
    at(1, 2, read("60,40")),
    at(3, 4, read("55,45"))
  ], "60,40"]
]

const contradictory: ReadonlyArray<Example> = [
  ["a stale read", [at(0, 1, write(1)), at(2, 3, write(2)), at(4, 5, read(1))]],
  ["a read of what is written later", [at(0, 1, read(1)), at(2, 3, write(1))]],
  ["a read of what nobody wrote", [at(0, 1, write(1)), at(2, 3, read(2))]],
  ["a write that was acknowledged and is lost", [at(0, 1, write(1)), at(2, 3, read(null))]],
  ["two reads that disagree on the order of two writes", [
    at(0, 9, write(1)),
    at(0, 9, write(2)),
    at(1, 2, read(2)),
    at(3, 4, read(1)),
    at(5, 6, read(2))
  ]],
  ["a lost update", [at(0, 1, write(1)), at(2, 5, swap(1, 2)), at(3, 6, swap(1, 3))]],
  ["an increment that was made twice", [at(0, 1, increment(1)), at(2, 3, increment(3))], 0],
  ["two increments that were answered the same", [at(0, 5, increment(1)), at(1, 6, increment(1))], 0],
  ["a write that was made twice", [
    at(0, 9, write(1)),
    at(1, 2, read(1)),
    at(3, 4, write(2)),
    at(5, 6, read(2)),
    at(7, 8, read(1))
  ]],
  ["two creates that were both the first", [
    at(0, 5, { _: "create", value: 1, isDone: true }),
    at(1, 6, { _: "create", value: 2, isDone: true })
  ]],
  ["a create that found its login taken where nobody had it", [at(0, 1, { _: "create", value: 1, isDone: false })]],
  ["an update that found nobody after a create", [
    at(0, 1, { _: "create", value: 1, isDone: true }),
    at(2, 3, { _: "update", value: 2, isDone: false })
  ]],
  ["a user who is removed twice", [
    at(0, 1, write(1)),
    at(2, 5, { _: "remove", isDone: true }),
    at(3, 6, { _: "remove", isDone: true })
  ]],
  ["a write that had ended, its outcome unknown, and was seen absent and then there", [
    at(0, 1, write(1), false),
    at(2, 3, read(null)),
    at(4, 5, read(1))
  ]],
  ["a transfer of which a read saw a half", [
    at(0, 9, { _: "transfer", amount: 5 }),
    at(1, 2, read("55,40"))
  ], "60,40"]
]

describe("the checker accepts", () => {
  for (const [claim, history, initial = null] of linearizable) {
    it(`${claim}`, () => assert.isUndefined(contradiction(history, initial)))
  }
})

describe("the checker refuses", () => {
  for (const [claim, history, initial = null] of contradictory) {
    it(`${claim}`, () => assert.isDefined(contradiction(history, initial)))
  }
})

/** Whether some order that time allows explains it, by trying all of them. */
const isExplained = (history: ReadonlyArray<Operation>, state: State): boolean =>
  history.every(({ isSure }) => !isSure) ||
  history.some((first) => {
    const others = history.filter((one) => one !== first)
    const after = step(first.call, state)
    return others.every(({ isSure, returned }) => returned >= first.invoked || !isSure) && after !== undefined &&
      isExplained(others.filter(({ returned }) => returned >= first.invoked), after)
  })

const value = FastCheck.integer({ min: 1, max: 3 })
const held: FastCheck.Arbitrary<State> = FastCheck.option(value)

const call: FastCheck.Arbitrary<Call> = FastCheck.oneof(
  FastCheck.record({ _: FastCheck.constant("read" as const), saw: held }),
  FastCheck.record({ _: FastCheck.constant("write" as const), value }),
  FastCheck.record({
    _: FastCheck.constantFrom("create" as const, "update" as const),
    value,
    isDone: FastCheck.boolean()
  }),
  FastCheck.record({ _: FastCheck.constantFrom("create" as const, "update" as const), value }),
  FastCheck.record({ _: FastCheck.constant("remove" as const), isDone: FastCheck.boolean() }),
  FastCheck.record({ _: FastCheck.constant("swap" as const), saw: held, value })
)

const interval = FastCheck.tuple(FastCheck.nat(12), FastCheck.oneof(FastCheck.nat(6), FastCheck.constant(Infinity)))

describe("the checker", () => {
  it("says of 20 000 random histories what trying all orders says", () => {
    let accepted = 0
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(FastCheck.tuple(interval, call, FastCheck.boolean()), { maxLength: 7 }),
        held,
        (drawn, initial) => {
          const history = drawn.map(([[invoked, length], call, isSure]) => at(invoked, invoked + length, call, isSure))
          const isAccepted = unexplained(history, initial) === undefined
          accepted += Number(isAccepted)
          assert.strictEqual(isAccepted, isExplained(history, initial))
        }
      ),
      { numRuns: 20_000 }
    )
    assert.isAbove(accepted, 2_000)
    assert.isBelow(accepted, 18_000)
  })

  it("accepts 100 histories of one register in turn, however its calls are stretched, and refuses them with one stale read", () => {
    const drawn = FastCheck.array(FastCheck.tuple(call, FastCheck.nat(8), FastCheck.nat(8), FastCheck.nat(29)), {
      minLength: 100,
      maxLength: 200
    })
    FastCheck.assert(
      FastCheck.property(drawn, (calls) => {
        let state: State = null
        const history = calls.map(([drawn, before, after, luck], i) => {
          const isSure = luck !== 17
          const [call, next] = played(drawn, i, state)
          state = next
          return at(i - before / 2, isSure ? i + after / 2 : Infinity, call, isSure)
        })
        assert.isUndefined(contradiction(history, null))
        const end = history.length + 20
        const stale = [write("old"), write("new"), read("new"), read("old")]
          .map((call, i) => at(end + 2 * i, end + 2 * i + 1, call))
        assert.isDefined(unexplained([...history, ...stale], null))
      }),
      { numRuns: 100 }
    )
  })

  it("shows those calls that contradict each other and who wrote what they saw, and no other", () => {
    const noise = Array.from(
      { length: 40 },
      (_, i) => at(i, i + 3, i % 3 === 0 ? write(`w${i}`) : read(`w${i - i % 3}`))
    )
    const history = [
      ...noise,
      at(50, 51, write("old")),
      at(52, 53, write("new")),
      at(54, 55, read("old")),
      at(56, 57, read("new"))
    ]
    assert.strictEqual(
      contradiction(history, null),
      [
        "'x', which began as null, is not linearizable:",
        "  from (ms)    to (ms)  by",
        "     0.000      1.000  fiber 50     write value=old  (perhaps)",
        "     2.000      3.000  fiber 52     write value=new",
        "     4.000      5.000  fiber 54     read saw=old  <- cannot be"
      ].join("\n")
    )
  })
})

/** What a register in this state answers, and holds then; every value is another. */
const played = (drawn: Call, i: number, state: State): readonly [Call, State] => {
  const value = `v${i}`
  switch (drawn._) {
    case "read":
      return [read(state), state]
    case "swap":
      return [swap(state, value), value]
    case "create":
      return [{ _: "create", value, isDone: state === null }, state ?? value]
    case "update":
      return [{ _: "update", value, isDone: state !== null }, state === null ? null : value]
    case "remove":
      return [{ _: "remove", isDone: state !== null }, null]
    default:
      return [write(value), value]
  }
}

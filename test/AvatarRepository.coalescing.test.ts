/** That lookups and creates are coalesced at all, seen by the statements that leave and by their spans. */
import { Statement } from "@effect/sql"
import { assert, describe } from "@effect/vitest"
import { Effect, Fiber, Option, Tracer } from "effect"
import type { Sent } from "./lookups.js"
import {
  ask,
  atOnce,
  avatar,
  claimOn,
  clients,
  concurrently,
  fill,
  isSelect,
  login,
  loginsIn,
  numbers,
  turns
} from "./lookups.js"

const selects = (sent: ReadonlyArray<Sent>) => sent.filter(isSelect)

for (const client of clients) {
  const claim = claimOn(client)

  describe(`coalescing on ${client.name}`, () => {
    claim("sends 64 lookups at once as at most 4 statements", function*({ observed, sql }) {
      yield* fill(sql, 64)
      const answers = yield* concurrently(numbers(64), (i) => ask(observed.users, `user${i}`))
      assert.deepStrictEqual(answers, numbers(64).map((i) => `Name of user${i}`))
      assert.isAtMost(selects(observed.sent).length, 4)
    })

    claim("asks for each of 10 logins at most 4 times, where 1 000 lookups want them", function*({ observed, sql }) {
      yield* fill(sql, 10)
      yield* concurrently(numbers(1_000), (i) => ask(observed.users, `user${i % 10}`))
      const logins = loginsIn(selects(observed.sent))
      assert.strictEqual(new Set(logins).size, 10)
      assert.isAtMost(logins.length, 40)
    })

    claim("sends together what is asked while statements are under way", function*({ observed, sql }) {
      yield* fill(sql, 500)
      const gate = yield* Effect.makeLatch(false)
      observed.before = () => gate.await
      const asked = []
      for (const i of numbers(500)) {
        asked.push(...(yield* atOnce([ask(observed.users, `user${i}`)])))
        yield* turns(0)
      }
      // Each turn's lookup leaves alone while more batches may be under way.
      const underWay = observed.sent.length
      assert.isAtMost(underWay, 64)
      yield* gate.open
      assert.deepStrictEqual(yield* Fiber.joinAll(asked), numbers(500).map((i) => `Name of user${i}`))
      assert.isAtMost(observed.sent.length - underWay, 8)
    })

    claim("shows each of its statements to who transforms statements", function*({ users }) {
      const seen = (effect: Effect.Effect<unknown, unknown>) =>
        Effect.suspend(() => {
          const texts: Array<string> = []
          const observing = (statement: Statement.Statement<unknown>) =>
            Effect.sync(() => {
              texts.push(statement.compile()[0])
              return statement
            })
          return Effect.map(Statement.withTransformer(effect, observing as never), () => texts)
        })
      const statements = {
        create: yield* seen(users.create(avatar("yoen"))),
        lookup: yield* seen(users.getUserAvatar(login("yoen"))),
        bulk: yield* seen(users.getUserAvatars([login("yoen"), login("esteban")])),
        page: yield* seen(users.list({ limit: 10 }))
      }
      for (const [name, texts] of Object.entries(statements)) {
        assert.isTrue(texts.some((text) => /\busers\b/.test(text)), `${name}: ${texts}`)
      }
    })

    claim("answers one lookup while the statement of another is held", function*({ observed, sql }) {
      yield* fill(sql, 2)
      let isFirst = true
      observed.before = () => isFirst ? Effect.never : Effect.void
      const [held] = yield* atOnce([ask(observed.users, "user0")])
      yield* turns(2)
      isFirst = false
      assert.strictEqual(yield* ask(observed.users, "user1"), "Name of user1")
      yield* Fiber.interrupt(held!)
    })
  })

  describe(`with a tracer on ${client.name}`, () => {
    claim("each lookup is an ended span of the repository, linked with the statement that served it", function*({
      sql,
      users
    }) {
      yield* fill(sql, 32)
      const { spans, tracer } = collecting()
      const lookups: Record<string, (name: string) => Effect.Effect<unknown, unknown>> = {
        getUserAvatar: (name) => users.getUserAvatar(login(name)),
        findUserAvatar: (name) => users.findUserAvatar(login(name)),
        getUserAvatars: (name) => users.getUserAvatars([login(name), login("nobody")])
      }
      for (const [method, lookup] of Object.entries(lookups)) {
        spans.length = 0
        const asker = Effect.withSpan(
          concurrently(numbers(32), (i) => lookup(`user${i}`)),
          "asker"
        )
        yield* Effect.withTracerEnabled(Effect.withTracer(asker, tracer), true)
        const ofRepository = spans.filter(({ name }) => name === `AvatarRepository.${method}`)
        assert.lengthOf(ofRepository, 32)
        for (const span of ofRepository) {
          assert.strictEqual(span.status._tag, "Ended")
          assert.deepStrictEqual(
            Option.map(span.parent, (parent) => parent._tag === "Span" && parent.name),
            Option.some("asker")
          )
        }
        const statements = spans.filter(({ name }) => name === "sql.execute")
        assert.isAtLeast(statements.length, 1)
        const unserved = ofRepository.filter((span) => !statements.some((statement) => areLinked(span, statement)))
        assert.deepStrictEqual(unserved.map(({ name }) => name), [])
      }
    })

    claim("a lookup that fails or is interrupted ends its span so", function*({ observed }) {
      const { spans, tracer } = collecting()
      const traced = <A, E>(effect: Effect.Effect<A, E>) => Effect.withTracer(effect, tracer)
      const ended = () =>
        spans.filter(({ name }) => name === "AvatarRepository.getUserAvatar").map(({ status }) =>
          status._tag === "Ended" ? status.exit._tag : status._tag
        )
      yield* Effect.flip(traced(observed.users.getUserAvatar(login("nobody"))))
      observed.before = () => Effect.never
      const [held] = yield* atOnce([traced(observed.users.getUserAvatar(login("nobody")))])
      yield* turns(2)
      yield* Fiber.interrupt(held!)
      assert.deepStrictEqual(ended(), ["Failure", "Failure"])
    })
  })
}

/** A tracer that keeps its spans. */
function collecting() {
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (name, parent, context, links, startTime, kind) => {
      const all = [...links]
      const attributes = new Map<string, unknown>()
      const span = {
        _tag: "Span" as const,
        name,
        spanId: `span${spans.length}`,
        traceId: "trace",
        parent,
        context,
        status: { _tag: "Started", startTime } as Tracer.SpanStatus,
        attributes,
        links: all,
        sampled: true,
        kind,
        end: (endTime: bigint, exit: (Tracer.SpanStatus & { readonly _tag: "Ended" })["exit"]) => {
          span.status = { _tag: "Ended", startTime, endTime, exit }
        },
        attribute: (key: string, value: unknown) => void attributes.set(key, value),
        event: () => {},
        addLinks: (links: ReadonlyArray<Tracer.SpanLink>) => void all.push(...links)
      }
      spans.push(span)
      return span
    },
    context: (f) => f()
  })
  return { spans, tracer }
}

/** A span with all that contain it. */
const chain = (span: Tracer.AnySpan): ReadonlyArray<Tracer.AnySpan> =>
  span._tag === "Span" ? [span, ...Option.match(span.parent, { onNone: () => [], onSome: chain })] : [span]

const pointsTo = (from: Tracer.AnySpan, to: Tracer.AnySpan) =>
  from._tag === "Span" && from.links.some(({ span }) => span.spanId === to.spanId)

/** As an ancestor, or by a link in either direction, to the statement or to a span (of its batch) that contains it. */
const areLinked = (lookup: Tracer.Span, statement: Tracer.Span) =>
  chain(statement).some((span) => span === lookup || pointsTo(lookup, span) || pointsTo(span, lookup))

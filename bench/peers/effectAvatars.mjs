/** This package: the repository over a pool, and plain statements through the pool. */
import { SqlClient } from "@effect/sql"
import { Effect, Layer, ManagedRuntime, Stream, Tracer } from "effect"
import { Avatar, AvatarRepository, Database } from "effect-avatars"

const sqliteUrl = (file, options) => `sqlite:${encodeURIComponent(file)}?${new URLSearchParams(options)}`

const open = async (url, makeLookUp) => {
  const runtime = ManagedRuntime.make(Layer.provideMerge(AvatarRepository.layer, Database.layer(url)))
  const { sql, users } = await runtime.runPromise(
    Effect.all({ sql: SqlClient.SqlClient, users: AvatarRepository.AvatarRepository })
  )
  const lookUp = makeLookUp({ sql, users })
  return {
    lookUp: (logins, concurrency, wrap = (effect) => effect) =>
      runtime.runPromise(wrap(Effect.forEach(logins, lookUp, { concurrency }))),
    lookUpMany: async (logins) =>
      Array.from((await runtime.runPromise(users.getUserAvatars(logins))).values(), ({ right }) => right),
    readAll: () => runtime.runPromise(Stream.runCount(users.stream)),
    create: (avatars, concurrency) =>
      runtime.runPromise(Effect.forEach(avatars, users.create, { concurrency, discard: true })),
    toAvatar: (user) => Avatar.Avatar.make(user),
    query: (text) => runtime.runPromise(sql.unsafe(text)),
    close: () => runtime.dispose()
  }
}

export const repository = (file, options) => open(sqliteUrl(file, options), ({ users }) => users.getUserAvatar)

export const server = (url) => open(url, ({ users }) => users.getUserAvatar)

export const template = (file, options) =>
  open(
    sqliteUrl(file, options),
    ({ sql }) => (login) =>
      Effect.map(sql`select login, name, forname from users where login = ${login}`, ([row]) => row)
  )

/** A tracer that counts the spans that are begun under it. */
export const countSpans = () => {
  let count = 0
  const tracer = Tracer.make({
    span: (name, parent, context, links, startTime, kind) => {
      count += 1
      return new Span(name, parent, context, links, startTime, kind)
    },
    context: (run) => run()
  })
  return { wrap: Effect.withTracer(tracer), count: () => count }
}

class Span {
  _tag = "Span"
  sampled = true
  spanId = "0000000000000001"
  traceId = "00000000000000000000000000000001"
  attributes = new Map()
  constructor(name, parent, context, links, startTime, kind) {
    Object.assign(this, { name, parent, context, links, kind, status: { _tag: "Started", startTime } })
  }
  attribute() {}
  event() {}
  addLinks() {}
  end() {}
}

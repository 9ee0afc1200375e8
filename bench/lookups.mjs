/** The repository's lookups and creates beside the synchronous driver's own loop. */
import { SqlClient, SqlSchema } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import Sqlite from "better-sqlite3"
import { Effect, Layer, ManagedRuntime, Schema } from "effect"
import { Avatar, AvatarRepository, Database } from "effect-avatars"
import { alternate, loginsOf, makeUsers, median, summary } from "./harness.mjs"

const repository = (file) => Layer.provide(AvatarRepository.layer, Database.layer(`sqlite:${encodeURIComponent(file)}`))

const using = async (layer, use) => {
  const runtime = ManagedRuntime.make(layer)
  try {
    return await use((effect) => runtime.runPromise(effect))
  } finally {
    await runtime.dispose()
  }
}

const check = (avatars, logins) => {
  if (avatars.length !== logins.length || avatars.some(({ login }, i) => login !== logins[i])) {
    throw new Error("A lookup was answered wrongly.")
  }
}

const ratio = (times, count) => {
  const ratios = times.theirs.map((took, i) => took / times.ours[i])
  const { max, min } = summary(ratios)
  const rate = (values) => Math.round(count / median(values) * 1_000)
  return {
    measured: median(ratios),
    spread: `${min.toFixed(2)} to ${max.toFixed(2)} in ${ratios.length} rounds`,
    perSecond: { ours: rate(times.ours), theirs: rate(times.theirs) }
  }
}

const lookUp = (logins, concurrency) =>
  Effect.flatMap(
    AvatarRepository.AvatarRepository,
    (users) => Effect.forEach(logins, users.getUserAvatar, { concurrency })
  ).pipe(
    Effect.map((avatars) => check(avatars, logins))
  )

const againstLoop = (concurrency) => ({
  name:
    `repository lookups, ${concurrency} at once, against a synchronous loop that decodes to the same Avatar (throughput, ratio)`,
  goal: ">= 1.0",
  isReached: (measured) => measured >= 1,
  measure: ({ file, rounds, users }) =>
    using(repository(file), async (run) => {
      const logins = loginsOf(50_000, users)
      const db = new Sqlite(file)
      const get = db.prepare("select login, name, forname from users where login = ?")
      const decode = Schema.decodeUnknownSync(Avatar.Avatar)
      const times = await alternate(rounds, {
        theirs: () => check(logins.map((login) => decode(get.get(login))), logins),
        ours: () => run(lookUp(logins, concurrency))
      })
      db.close()
      return ratio(times, logins.length)
    })
})

const findOne = (login) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    SqlSchema.findOne({
      Request: Schema.String,
      Result: Avatar.Avatar,
      execute: (login) => sql`select login, name, forname from users where login = ${login}`
    })(login))

export const lookups = [
  againstLoop(64),
  againstLoop(256),
  {
    name: "a repository lookup alone, against SqlSchema.findOne on @effect/sql-sqlite-node (throughput, ratio)",
    goal: ">= 0.7",
    isReached: (measured) => measured >= 0.7,
    measure: ({ file, rounds, users }) =>
      using(repository(file), (run) =>
        using(SqliteClient.layer({ filename: file }), async (plain) => {
          const logins = loginsOf(10_000, users)
          const times = await alternate(rounds, {
            theirs: () => plain(Effect.forEach(logins, findOne)),
            ours: () => run(lookUp(logins, 1))
          })
          return ratio(times, logins.length)
        }))
  },
  {
    name: "getUserAvatars of 10 000 logins, against the bare synchronous loop (rows, ratio)",
    goal: ">= 2.0",
    isReached: (measured) => measured >= 2,
    measure: ({ file, rounds, users }) =>
      using(repository(file), async (run) => {
        const logins = loginsOf(10_000, users)
        const db = new Sqlite(file)
        const get = db.prepare("select login, name, forname from users where login = ?")
        const bulk = Effect.flatMap(AvatarRepository.AvatarRepository, (users) => users.getUserAvatars(logins))
        const times = await alternate(rounds, {
          theirs: () => check(logins.map((login) => get.get(login)), logins),
          ours: async () => check(Array.from((await run(bulk)).values(), ({ right }) => right), logins)
        })
        db.close()
        return ratio(times, logins.length)
      })
  },
  {
    name: "durable creates, 256 at once, against one commit a row (throughput, ratio)",
    goal: ">= 20",
    isReached: (measured) => measured >= 20,
    measure: ({ rounds }) => {
      const file = makeUsers(1)
      const count = 5_000
      let round = 0
      return using(repository(file), async (run) => {
        const db = new Sqlite(makeUsers(1))
        db.pragma("synchronous = FULL")
        const insert = db.prepare("insert into users values (?, ?, ?)")
        const avatars = () => {
          round += 1
          return Array.from(
            { length: count },
            (_, i) =>
              Avatar.Avatar.make({ login: Avatar.Login.make(`new${round}-${i}`), name: "Garcia", forname: "Estebán" })
          )
        }
        const create = (avatars) =>
          Effect.flatMap(
            AvatarRepository.AvatarRepository,
            (users) => Effect.forEach(avatars, users.create, { concurrency: 256, discard: true })
          )
        const times = await alternate(rounds, {
          theirs: () => avatars().forEach(({ forname, login, name }) => insert.run(login, name, forname)),
          ours: () => run(create(avatars()))
        })
        db.close()
        return ratio(times, count)
      })
    }
  }
]

/**
 * Coalescing changes no answer: random programs of lookups, writes, transactions and interruptions, in several fibers at once, against a model.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Exit, FastCheck, Fiber, Option, Runtime } from "effect"
import { SqlClient } from "@effect/sql"
import { type AvatarRepository, Database } from "effect-avatars"
import { type Answers, type Command, outcomes, plan, programs, type Step, unique, type World } from "./lookups.model.js"
import {
  type Answer,
  ask,
  avatar,
  clients,
  concurrently,
  type Db,
  did,
  legacyTable,
  login,
  open,
  turns
} from "./lookups.js"

/** On each client. */
const runs = 80

const lookUp = (users: AvatarRepository.Service, text: string): Effect.Effect<Answer> =>
  Effect.match(users.findUserAvatar(login(text)), {
    onFailure: ({ _tag }) => _tag,
    onSuccess: Option.match({ onNone: () => "UserNotFound", onSome: ({ name }) => name })
  })

const bulk = (users: AvatarRepository.Service, names: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<Answer>> =>
  Effect.match(users.getUserAvatars(names.map((name) => login(name))), {
    onFailure: ({ _tag }) => names.map(() => _tag),
    onSuccess: (found) =>
      names.map((name) => {
        const answer = found.get(login(name))
        return answer === undefined ? "UserNotFound" : Either.isRight(answer) ? answer.right.name : answer.left._tag
      })
  })

/** Runs a step, and answers as `outcomes` says. */
const perform = ({ sql, users }: Db, own: number, name: (k: number, fiber?: number) => string) => {
  const transaction = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.provideService(Database.transaction(effect), SqlClient.SqlClient, sql)
  const run = ({ command, steps, value }: Step): Effect.Effect<Answers, unknown> => {
    switch (command._) {
      case "get":
        return ask(users, name(command.k))
      case "find":
        return lookUp(users, name(command.k))
      case "bulk":
        return bulk(users, command.ks.map((k) => name(k)))
      case "gets":
        return concurrently(command.ks, (k, i) => i % 2 === 0 ? ask(users, name(k)) : lookUp(users, name(k)))
      case "creates":
        return concurrently(command.ks, (k, i) => did(users.create(avatar(name(k), `${i}/${value}`))))
      case "create":
      case "update":
      case "upsert":
        return did(users[command._](avatar(name(command.k), value)))
      case "remove":
        return did(users.remove(login(name(command.k))))
      case "others":
        return Effect.map(
          ask(users, name(command.k, command.fiber)),
          (answer) =>
            command.fiber === own || answer === "UserNotFound" || /^(\d+\/)?\d+$/.test(answer)
              ? "fine"
              : `another's login is ${answer}`
        )
      case "static":
        return Effect.map(
          Effect.all([bulk(users, statics), ...statics.map((name) => ask(users, name))], { concurrency: "unbounded" }),
          ([many, ...each]) =>
            JSON.stringify([many, each]) === JSON.stringify([staticAnswers, staticAnswers]) ? "fine" : [many, ...each]
        )
      case "pause":
        return Effect.as(Effect.zipRight(Effect.repeatN(Effect.yieldNow(), command.yields), turn(command.turn)), "fine")
      case "interrupted":
        // It has ended when this ends, also where this is interrupted itself: else it would outlive its transaction.
        return Effect.uninterruptibleMask((restore) =>
          Effect.gen(function*() {
            const fiber = yield* Effect.fork(Effect.interruptible(run(steps[0]!)))
            const pause = Effect.zipRight(Effect.repeatN(Effect.yieldNow(), command.after), turn(command.turn))
            const paused = yield* Effect.exit(restore(pause))
            const exit = yield* Fiber.interrupt(fiber)
            yield* paused
            return Exit.isFailure(exit) && Exit.isInterrupted(exit) ? "interrupted" : yield* exit
          })
        )
      case "transaction":
        return Effect.gen(function*() {
          let answers: ReadonlyArray<Answers> = []
          const body = Effect.tap(Effect.forEach(steps, run), (all) => Effect.sync(() => void (answers = all)))
          // A transaction that the server has ended, since it lost against another one, is done again as a whole.
          const undone = Effect.flip(
            transaction(Effect.zipRight(Effect.zipRight(body, sql`select 1`), Effect.fail("undo")))
          )
          yield* command.isUndone ? Effect.filterOrFail(undone, (error) => error === "undo") : transaction(body)
          return answers
        })
    }
  }
  return run
}

const turn = (isMeant: boolean) => isMeant ? turns(0) : Effect.void

const statics = ["static1", "absent", "malformed", "static2"]
const staticAnswers = ["Name of static1", "UserNotFound", "MalformedUser", "Name of static2"]

/** Runs a program: each fiber's answers have to follow from its own steps in some world. */
const check = (db: Db, program: ReadonlyArray<ReadonlyArray<Command>>, id: number) =>
  Effect.forEach(program, (commands, fiber) =>
    Effect.gen(function*() {
      const name = (k: number, of = fiber) => `${id}-${of}-${k}`
      const run = perform(db, fiber, name)
      let worlds: ReadonlyArray<World> = [{}]
      const everything: Command = { _: "bulk", ks: [0, 1, 2, 3] }
      for (const command of [...commands, everything, { _: "gets", ks: [0, 1, 2, 3] } satisfies Command]) {
        const step = plan(command, false)
        const answer = yield* run(step)
        const possible = worlds.flatMap((world) => outcomes(step, world))
        worlds = unique(
          possible.filter(([, expected]) => JSON.stringify(expected) === JSON.stringify(answer)).map(([world]) => world)
        )
        assert.isAbove(
          worlds.length,
          0,
          `fiber ${fiber} was answered ${JSON.stringify(answer)} by ${JSON.stringify(command)}, and expected ${
            JSON.stringify(possible.map(([, expected]) => expected))
          }`
        )
      }
    }), { concurrency: "unbounded", discard: true })

describe("random lookups, writes, transactions and interruptions", () => {
  for (const client of clients) {
    it.scopedLive(
      `are answered as the model says on ${client.name}, in ${runs} programs`,
      (context) =>
        Effect.gen(function*() {
          context.skip(client.missing !== undefined, client.missing)
          const db = yield* open(client)
          yield* legacyTable(db.sql)
          yield* Effect.forEach(["static1", "static2"], (name) => db.users.create(avatar(name)))
          yield* db.sql`insert into users values ('malformed', null, '')`
          const runtime = yield* Effect.runtime()
          let id = 0
          yield* Effect.promise(() =>
            FastCheck.assert(
              FastCheck.asyncProperty(programs, (program) => Runtime.runPromise(runtime)(check(db, program, id++))),
              { numRuns: runs, interruptAfterTimeLimit: 60_000 }
            )
          )
          assert.lengthOf(yield* db.sql`select login from users where name like '%!'`, 0)
        }),
      120_000
    )
  }
})

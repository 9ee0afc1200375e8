#!/usr/bin/env node
/**
 * The program. Without arguments it looks the original's three users up, several at once, in a temporary database, and prints a line for each;
 * with arguments it is the command line of `cli.ts`, which is loaded only then.
 *
 *     npm start
 *     npm start --silent -- --database users.sqlite yoen nobody
 *     npm start --silent -- --help
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { defaultTeardown } from "@effect/platform/Runtime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import type { Login } from "./Avatar.js"
import { AvatarRepository } from "./AvatarRepository.js"
import { demonstration, users } from "./internal/cli/demonstration.js"
import { terminal } from "./internal/cli/output.js"
import { tell } from "./internal/cli/terminal.js"

const lookUp = Effect.fn(function*(logins: ReadonlyArray<Login>) {
  const { getUserAvatar } = yield* AvatarRepository
  const avatars = yield* Effect.forEach(logins, getUserAvatar, { concurrency: 16 })
  yield* Effect.forEach(avatars, (avatar) => Console.log(avatar.render()), { discard: true })
})

const commandLine = Effect.flatMap(Effect.promise(() => import("./cli.js")), (cli) => cli.run(process.argv))

const program = process.argv.length > 2
  ? commandLine
  : lookUp(users.map(({ login }) => login)).pipe(
    Effect.provide(demonstration),
    Effect.catchAll(tell),
    Effect.withConsole(terminal)
  )

// What cannot be written is told by whoever writes it; nobody need read it.
process.stdout.on("error", () => {})
process.stderr.on("error", () => {})

// On stdout is what was asked for, and nothing else.
const logged = Effect.tapDefect(program, Effect.logError).pipe(
  Effect.provide(Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger)))
)

NodeRuntime.runMain(logged, {
  disableErrorReporting: true,
  disablePrettyLogger: true,
  teardown: (exit, onExit) => Exit.isInterrupted(exit) ? onExit(130) : defaultTeardown(exit, onExit)
})

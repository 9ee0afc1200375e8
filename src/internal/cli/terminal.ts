/** What a person sees: sentences, exit codes, progress. */
import type { PlatformError } from "@effect/platform/Error"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { stripVTControlCharacters } from "node:util"
import type * as AvatarRepository from "../../AvatarRepository.js"
import type { DatabaseError } from "../../DatabaseError.js"

/** How the process ends. Of several failures the largest counts. */
export const exitCodes = {
  /** No user has a login, or a login is taken. */
  absent: 1,
  /** The command line, or a login or a name in it, cannot be used. */
  usage: 2,
  /** The database could not be opened, or it failed. */
  database: 3,
  /** A row of the database or a line of a file is no avatar. */
  malformed: 4,
  /** A file that is not the database could not be read or written. */
  file: 5
} as const

export const exitCodesHelp = `It exits with 0, or with the largest of

  1    a user is not there, or a login is taken
  2    the command line cannot be used
  3    the database could not be opened, or failed
  4    a row or a line is no avatar
  5    another file could not be read or written
  130  it was stopped by Ctrl-C or another signal`

/** A failure that a command has a sentence for. */
export class Failed {
  readonly _tag = "Failed"
  constructor(readonly kind: keyof typeof exitCodes, readonly message: string) {}
}

export type Failure =
  | Failed
  | AvatarRepository.UserNotFound
  | AvatarRepository.LoginTaken
  | AvatarRepository.MalformedUser
  | DatabaseError
  | PlatformError

const kindOf = (failure: Failure): keyof typeof exitCodes => {
  switch (failure._tag) {
    case "Failed":
      return failure.kind
    case "UserNotFound":
    case "LoginTaken":
      return "absent"
    case "MalformedUser":
      return "malformed"
    case "DatabaseError":
      return "database"
    default:
      return "file"
  }
}

/** What a database or a file holds might otherwise forge a line, or command the terminal. */
export const printable = (text: string): string => text.replace(/\p{Cc}/gu, "\uFFFD")

/** Without colours. */
export const stripped: (text: string) => string = stripVTControlCharacters

/** One sentence on stderr; the rest goes on, and the process ends with the code of its kind or a larger one. */
export const tell = (failure: Failure): Effect.Effect<void> =>
  Effect.zipRight(
    Console.error(printable(failure.message)),
    Effect.sync(() => {
      process.exitCode = Math.max(Number(process.exitCode ?? 0), exitCodes[kindOf(failure)])
    })
  )

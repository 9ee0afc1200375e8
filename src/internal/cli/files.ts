/** Files of users that are no databases: read in blocks of whole lines, written whole or not at all. */
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { isUtf8 } from "node:buffer"
import { randomUUID } from "node:crypto"
import * as fs from "node:fs"
import { Failed } from "./terminal.js"

/** In place of a file: standard input or output. No file has such a name. */
export const standard = "\0"

/** Whole lines of a file. */
export interface Block {
  readonly bytes: Buffer
  readonly isUtf8: boolean
}

/** Whether a text of some bytes is not what stands there, since that is not UTF-8. U+FFFD may stand there itself. */
export const isAltered = (text: string, bytes: Buffer): boolean => text.includes("\uFFFD") && !bytes.includes(text)

/** The lines of a file in order. None is cut; one beyond 16 MB fails, since it would have to be held in memory. */
export const blocks = (file: string): Stream.Stream<Block, Failed> => {
  const open = () => file === standard ? process.stdin : fs.createReadStream(file, { highWaterMark: 64 * 1024 })
  if (file === standard && fs.fstatSync(0).isDirectory()) {
    return Stream.fail(failedTo("read", file)(Object.assign(new Error(), { code: "EISDIR" })))
  }
  return NodeStream.fromReadable<Failed, Buffer>(open, failedTo("read", file), { closeOnDone: file !== standard }).pipe(
    Stream.map(Option.some),
    Stream.concat(Stream.succeed(Option.none<Buffer>())),
    Stream.mapAccumEffect(Buffer.alloc(0), (rest, chunk) => {
      if (Option.isNone(chunk)) {
        return Effect.succeed([Buffer.alloc(0), rest])
      }
      const end = chunk.value.lastIndexOf(newLine) + 1
      const lines = end === 0 ? Buffer.alloc(0) : Buffer.concat([rest, chunk.value.subarray(0, end)])
      const left = Buffer.concat(end === 0 ? [rest, chunk.value] : [chunk.value.subarray(end)])
      return left.length > maxLine
        ? Effect.fail(new Failed("malformed", `${nameOf("read", file)} has a line of more than 16 MB.`))
        : Effect.succeed([left, lines])
    }),
    Stream.filter(({ length }) => length > 0),
    Stream.map((bytes) => ({ bytes, isUtf8: isUtf8(bytes) }))
  )
}

/** The lines of a file that are not empty. */
export const lines = (file: string): Stream.Stream<{ readonly text: string; readonly isUtf8: boolean }, Failed> =>
  Stream.mapConcat(
    blocks(file),
    ({ bytes, isUtf8: isAll }) =>
      bytes.toString().split(/\r?\n/).filter((line) => line !== "").map((text) => ({
        text,
        isUtf8: isAll || !isAltered(text, bytes)
      }))
  )

/** How many bytes a file has, where it has an end. */
export const sizeOf = (file: string): Effect.Effect<Option.Option<number>> =>
  Effect.sync(() => {
    const stats = statsOf(file)
    return stats?.isFile() === true ? Option.some(stats.size) : Option.none()
  })

/**
 * Writes texts to standard output, to what is no regular file, or to a file: into another beside it, which only its owner may read and which takes its
 * place when all is written and on the disk. Where that fails or is interrupted, nothing is left of it.
 */
export const write = <E>(file: string, texts: Stream.Stream<string, E>): Effect.Effect<void, E | Failed> =>
  Effect.suspend(() => {
    if (file === standard) {
      return Effect.catchIf(
        Stream.runForEach(texts, (text) => print(text)),
        (error): error is typeof gone => error === gone,
        () => Effect.void
      )
    }
    const failed = failedTo("written", file)
    const attempt = <A>(run: () => A) => Effect.try({ try: run, catch: failed })
    const before = statsOf(file)
    const isReplaced = before === undefined || before.isFile() || before.isDirectory()
    const target = before === undefined || !isReplaced ? file : fs.realpathSync(file)
    const part = isReplaced ? `${target}.${randomUUID().slice(0, 8)}.part` : target
    return Effect.acquireUseRelease(
      attempt(() => fs.openSync(part, isReplaced ? "wx" : "w", 0o600)),
      (descriptor) =>
        texts.pipe(
          Stream.runForEachChunk((chunk) => attempt(() => fs.writeFileSync(descriptor, Chunk.join(chunk, "")))),
          Effect.zipRight(attempt(() => {
            if (isReplaced) {
              fs.fsyncSync(descriptor)
              fs.renameSync(part, target)
            }
          }))
        ),
      (descriptor) =>
        Effect.sync(() => {
          fs.closeSync(descriptor)
          if (isReplaced) {
            fs.rmSync(part, { force: true })
          }
        })
    )
  })

/** A text on standard output, when it is written. Fails with `gone` where nobody reads it any more. */
const print = (text: string): Effect.Effect<void, Failed | typeof gone> =>
  Effect.async((resume) => {
    const fail = (error: unknown) => resume(Effect.fail(isGone(error) ? gone : failedTo("written", standard)(error)))
    try {
      process.stdout.write(text, (error) => error == null ? resume(Effect.void) : fail(error))
    } catch (error) {
      fail(error)
    }
  })

/** A line on standard output; nobody need read it. */
export const printLine = (text: string): Effect.Effect<void, Failed> =>
  Effect.catchIf(print(`${text}\n`), (error): error is typeof gone => error === gone, () => Effect.void)

/** Of what is there and may be seen: what else is wrong with it is told by whoever opens it. */
const statsOf = (file: string): fs.Stats | undefined => {
  try {
    return file === standard ? undefined : fs.statSync(file)
  } catch {
    return undefined
  }
}

/** Whether two paths lead to one file that is there. */
export const areSame = (one: string, other: string): boolean => {
  const [first, second] = [one, other].map(statsOf)
  return first !== undefined && second !== undefined && first.dev === second.dev && first.ino === second.ino
}

/** Whether a file may be read again: it is no pipe, no terminal, no device. */
export const isRegular = (file: string): boolean => statsOf(file)?.isFile() === true

/** Adds texts to a file that is made anew, for its owner alone, when there is something to write. */
export const appender = (file: string) => {
  let isMade = false
  return (texts: ReadonlyArray<string>): Effect.Effect<void, Failed> =>
    Effect.try({
      try: () => {
        if (texts.length > 0) {
          fs.writeFileSync(file, texts.join(""), { flag: isMade ? "a" : "w", mode: 0o600 })
          isMade = true
        }
      },
      catch: failedTo("written", file)
    })
}

/** Whoever reads standard output has gone, and wants no more. */
const gone = "gone" as const

const isGone = (error: unknown) => error instanceof Error && "code" in error && error.code === "EPIPE"

const newLine = 10

const maxLine = 16 * 1024 * 1024

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or directory",
  EACCES: "this user may not do that",
  EPERM: "this user may not do that",
  EISDIR: "it is a directory",
  ENOTDIR: "a part of its path is no directory",
  EEXIST: "it is there already",
  ENOSPC: "the disk is full",
  EROFS: "the file system is read-only",
  EMFILE: "too many files are open",
  ENAMETOOLONG: "its name is too long",
  EIO: "the disk failed"
}

const nameOf = (done: "read" | "written", file: string) =>
  file !== standard ? `The file '${file}'` : done === "read" ? "Standard input" : "Standard output"

const failedTo = (done: "read" | "written", file: string) => (error: unknown): Failed => {
  const code = error instanceof Error && "code" in error ? String(error.code) : "no code"
  const reason = reasons[code] ?? "the reason has no name here"
  return new Failed("file", `${nameOf(done, file)} could not be ${done}: ${reason} (${code}).`)
}

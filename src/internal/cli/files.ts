/** Files of users that are no databases: read in blocks of whole lines, written whole or not at all. */
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { isUtf8 } from "node:buffer"
import { randomUUID } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { failedTo, gone, nameOf, print, standard } from "./output.js"
import { Failed } from "./terminal.js"

/** Whole lines of a file. */
export interface Block {
  readonly bytes: Buffer
  readonly isUtf8: boolean
}

/**
 * Whether a text of some bytes is not what stands there, since that is not UTF-8. U+FFFD may stand there itself; where it stands in one place and is read
 * in another too, nobody can tell which this is, and it is taken for altered.
 */
export const isAltered = (text: string, bytes: Buffer): boolean =>
  text.includes("\uFFFD") && (!bytes.includes(text) || countIn(bytes.toString(), text) > countIn(bytes, text))

const countIn = (within: string | Buffer, text: string): number => {
  let count = 0
  for (let at = within.indexOf(text); at !== -1; at = within.indexOf(text, at + 1)) {
    count += 1
  }
  return count
}

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
 * Writes texts to standard output, to what is no regular file, or to a file: into another beside it, which has the rights of the one that was there, or else is its owner's
 * alone, and which takes its place when all is written and on the disk. Where that fails or is interrupted, nothing is left of it.
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
    const target = isReplaced ? resolved(file) : file
    const part = isReplaced ? `${target}.${randomUUID().slice(0, 8)}.part` : target
    return Effect.acquireUseRelease(
      attempt(() => {
        if (isReplaced && before !== undefined) {
          fs.accessSync(file, fs.constants.W_OK)
        }
        const descriptor = fs.openSync(part, isReplaced ? "wx" : "w", 0o600)
        if (isReplaced && before !== undefined) {
          takeRights(descriptor, before)
        }
        return descriptor
      }),
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

/** Those of another file, as far as this user may give them: nobody else gets any. */
const takeRights = (descriptor: number, { gid, mode, uid }: fs.Stats) => {
  const own = fs.fstatSync(descriptor)
  try {
    if (own.uid !== uid || own.gid !== gid) {
      fs.fchownSync(descriptor, uid, gid)
    }
    fs.fchmodSync(descriptor, mode & 0o777)
  } catch {
    // It stays its owner's alone.
  }
}

/** Of what is there and may be seen: what else is wrong with it is told by whoever opens it. */
const statsOf = (file: string): fs.Stats | undefined => {
  try {
    return file === standard ? undefined : fs.statSync(file)
  } catch {
    return undefined
  }
}

/** Whether two paths lead to one file, which need not be there yet. */
export const areSame = (one: string, other: string): boolean => placeOf(one) === placeOf(other)

/** Of standard input too, where it is a file. */
const placeOf = (file: string): string => {
  const stats = file === standard ? fs.fstatSync(0) : statsOf(file)
  return stats === undefined ? resolved(file) : `${stats.dev} ${stats.ino}`
}

/** Where a path leads, by the system's rules for links and `..`, though nothing need be there yet. */
export const resolved = (file: string, links = 0): string => {
  try {
    return fs.realpathSync.native(file)
  } catch {
    // It is not there, or no link leads to what is.
  }
  try {
    const link = fs.readlinkSync(file)
    return links > maxLinks
      ? file
      : resolved(path.isAbsolute(link) ? link : `${path.dirname(file)}${path.sep}${link}`, links + 1)
  } catch {
    // It is no link.
  }
  try {
    return path.join(fs.realpathSync.native(path.dirname(file)), path.basename(file))
  } catch {
    return path.resolve(file)
  }
}

/** Whether a file may be read again: it is no pipe, no terminal, no device. */
export const isRegular = (file: string): boolean => statsOf(file)?.isFile() === true

/** Without a file of rejects; whatever else has its name stays. */
export const withoutRejects = (file: string): Effect.Effect<void, Failed> =>
  Effect.try({
    try: () => {
      const isFile = fs.lstatSync(file, { throwIfNoEntry: false })?.isFile() === true
      if (isFile && beginsWith(file, "{\"line\":")) {
        fs.rmSync(file)
      }
    },
    catch: failedTo("written", file)
  })

/** Of a file of any size. */
const beginsWith = (file: string, text: string): boolean => {
  const descriptor = fs.openSync(file, "r")
  try {
    const bytes = Buffer.alloc(Buffer.byteLength(text))
    fs.readSync(descriptor, bytes)
    return bytes.toString() === text
  } finally {
    fs.closeSync(descriptor)
  }
}

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

const newLine = 10

/** As many as Linux follows. */
const maxLinks = 40

const maxLine = 16 * 1024 * 1024

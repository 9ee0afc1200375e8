/**
 * What a disk can hold after a loss of power. strace records what a program does to the files of one directory; a model of the disk takes it one
 * system call after the other. What was fsynced is there for sure; of what came later anything may be there or not: any of the writes, any of
 * their sectors, and the names of files that were made or removed, unless their directory was fsynced.
 */
import type { PCGRandom } from "effect/Utils"
import * as fs from "node:fs"
import * as path from "node:path"
import { find } from "./daemons.js"

export const strace = find("strace", {})

/** Some are absent on some processors. */
const calls = "openat,?open,write,pwrite64,ftruncate,fsync,fdatasync,?link,linkat,?unlink,unlinkat"

/** The same command, recorded into a file. */
export const recorded = (command: ReadonlyArray<string>, into: string): ReadonlyArray<string> => {
  const options = ["-f", "-y", "-xx", "-s", "1000000", "--seccomp-bpf", "-e", `trace=${calls}`, "-o", into]
  return [strace!, ...options, ...command]
}

type Change =
  | { readonly is: "write"; readonly file: string; readonly offset: number; readonly bytes: Buffer }
  | { readonly is: "truncate"; readonly file: string; readonly size: number }
  | { readonly is: "make" | "remove"; readonly file: string }
  | { readonly is: "link"; readonly file: string; readonly from: string }
  | { readonly is: "sync"; readonly file: string }

/** Something that the program did. It began and ended at places in the order of all; a write may be on the disk from its beginning. */
export type Step =
  & { readonly began: number; readonly ended: number }
  & (Change | { readonly is: "say"; readonly text: string })

const decode = (hex: string): Buffer => Buffer.from(hex.replaceAll("\\x", ""), "hex")

/** Reads a record: what was done to the files of a directory (their names are told without it, its own is ""), and what was printed. */
export const read = (record: string, directory: string): ReadonlyArray<Step> => {
  const steps: Array<Step> = []
  const positions = new Map<string, number>()
  const unfinished = new Map<string, { readonly began: number; readonly text: string }>()
  const nameOf = (file: string) =>
    file === directory
      ? ""
      : path.dirname(file) === directory && !file.endsWith("-shm")
      ? path.basename(file)
      : undefined

  const take = (text: string, began: number, ended: number) => {
    const call = /^(\w+)\((.*)\)\s+= (-?\d+)/.exec(text)
    if (call === null || Number(call[3]) < 0) {
      return
    }
    const [, name, args, result] = call as unknown as [string, string, string, string]
    const [, fd, hex, isDeleted] = /^(\d+)<([^>]*)>(\(deleted\))?/.exec(args) ?? []
    const strings = Array.from(args.matchAll(/"([^"]*)"/g), ([, hex]) => decode(hex!))
    const numbers = args.split(", ").slice(1).map(Number)
    const push = (change: Change) => void steps.push({ began, ended, ...change })
    const named = strings[0] === undefined ? undefined : nameOf(path.resolve(String(strings[0])))
    if (name.startsWith("open")) {
      if (named) {
        positions.set(result, 0)
        if (args.includes("O_CREAT")) {
          push({ is: "make", file: named })
        }
        if (args.includes("O_TRUNC")) {
          steps.push({ began: ended, ended, is: "truncate", file: named, size: 0 })
        }
      }
    } else if (name.startsWith("link") && named) {
      const file = nameOf(path.resolve(String(strings[1])))
      if (file !== undefined) {
        push({ is: "link", file, from: named })
      }
    } else if (name.startsWith("unlink") && named) {
      push({ is: "remove", file: named })
    } else if (fd === "1" && name === "write") {
      steps.push({ began, ended, is: "say", text: String(strings[0]) })
    } else if (hex !== undefined && isDeleted === undefined) {
      const file = nameOf(String(decode(hex)))
      if (file === undefined) {
        return
      }
      if (name.endsWith("sync")) {
        push({ is: "sync", file })
      } else if (name === "ftruncate") {
        push({ is: "truncate", file, size: numbers[0]! })
      } else {
        const bytes = strings[0]!.subarray(0, Number(result))
        const offset = name === "pwrite64" ? numbers[2]! : positions.get(fd!) ?? 0
        if (name === "write") {
          positions.set(fd!, offset + bytes.length)
        }
        push({ is: "write", file, offset, bytes })
      }
    }
  }

  fs.readFileSync(record, "latin1").split("\n").forEach((line, place) => {
    const [, thread, text] = /^(\d+)\s+(.*)$/.exec(line) ?? []
    if (thread === undefined || text === undefined) {
      return
    }
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(text)
    if (text.endsWith("<unfinished ...>")) {
      unfinished.set(thread, { began: place, text: text.slice(0, -"<unfinished ...>".length) })
    } else if (resumed === null) {
      take(text, place, place)
    } else {
      const start = unfinished.get(thread)
      if (start !== undefined) {
        take(start.text + resumed[1]!, start.began, place)
      }
    }
  })
  return steps
}

/** The moment at which a step has its effect: fsync and a new name when they end, all else when it begins. */
const momentOf = (step: Step) =>
  step.is === "sync" || step.is === "make" || step.is === "link" ? step.ended : step.began

interface Content {
  synced: Buffer
  pending: Array<Step & { readonly is: "write" | "truncate" }>
}

/** A name of the directory, and what it comes to stand for. */
interface Naming {
  readonly ended: number
  readonly name: string
  readonly content: Content | undefined
}

const rename = (names: Map<string, Content>, name: string, content: Content | undefined) => {
  if (content === undefined) {
    names.delete(name)
  } else {
    names.set(name, content)
  }
}

const write = (onto: Buffer, offset: number, bytes: Buffer): Buffer => {
  const end = offset + bytes.length
  const whole = end > onto.length ? Buffer.concat([onto, Buffer.alloc(end - onto.length)]) : onto
  bytes.copy(whole, offset)
  return whole
}

const resize = (content: Buffer, size: number): Buffer =>
  size <= content.length ? content.subarray(0, size) : Buffer.concat([content, Buffer.alloc(size - content.length)])

const sector = 512

const sectors = (offset: number, bytes: Buffer): ReadonlyArray<readonly [number, Buffer]> => {
  const cut: Array<readonly [number, Buffer]> = []
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + sector - (offset + at) % sector)
    cut.push([offset + at, bytes.subarray(at, end)])
    at = end
  }
  return cut
}

/** Files by their names. */
export type Files = ReadonlyMap<string, Buffer>

export class Disk {
  /** As every program sees them. */
  private readonly current = new Map<string, Content>()
  private readonly synced = new Map<string, Content>()
  private namings: Array<Naming> = []

  /** A disk on which these files are for sure. */
  constructor(files: Files = new Map()) {
    for (const [name, bytes] of files) {
      const content = { synced: Buffer.from(bytes), pending: [] }
      this.current.set(name, content)
      this.synced.set(name, content)
    }
  }

  take(step: Step): void {
    switch (step.is) {
      case "make":
        return this.current.has(step.file)
          ? undefined
          : this.name(step, step.file, { synced: Buffer.alloc(0), pending: [] })
      case "link":
        return this.name(step, step.file, this.current.get(step.from))
      case "remove":
        return this.name(step, step.file, undefined)
      case "write":
      case "truncate":
        return void this.current.get(step.file)!.pending.push(step)
      case "sync":
        return step.file === ""
          ? this.syncNames(step.began)
          : this.syncContent(this.current.get(step.file)!, step.began)
    }
  }

  /** What every program sees. */
  get files(): Files {
    return new Map(
      Array.from(
        this.current,
        ([name, content]) => [name, content.pending.reduce(changed, Buffer.from(content.synced))]
      )
    )
  }

  /** Whether something of it is not synced. */
  isUnsynced(file: string): boolean {
    return this.namings.some(({ name }) => name === file) || (this.current.get(file)?.pending.length ?? 0) > 0
  }

  /** What may be there after a loss of power at this moment. */
  crash(random: PCGRandom): Files {
    const often = [0, 0.5, 0.95, random.number()][random.integer(4)]!
    const isTorn = random.integer(2) === 0
    const isThere = () => random.number() < often
    const names = new Map(this.synced)
    const stopped = new Set<string>()
    for (const { content, name } of this.namings) {
      // Changes of one name keep their order.
      if (stopped.has(name) || !isThere()) {
        stopped.add(name)
      } else {
        rename(names, name, content)
      }
    }
    return new Map(Array.from(names, ([name, { pending, synced }]) => {
      let bytes: Buffer = Buffer.from(synced)
      for (const step of pending) {
        if (step.is === "truncate") {
          bytes = isThere() ? resize(bytes, step.size) : bytes
        } else {
          for (
            const [offset, part] of isTorn
              ? sectors(step.offset, step.bytes)
              : [[step.offset, step.bytes] as const]
          ) {
            bytes = isThere() ? write(bytes, offset, part) : bytes
          }
        }
      }
      return [name, bytes]
    }))
  }

  private name({ ended }: Step, name: string, content: Content | undefined) {
    this.namings.push({ ended, name, content })
    rename(this.current, name, content)
  }

  private syncNames(began: number) {
    for (const { content, ended, name } of this.namings) {
      if (ended < began) {
        rename(this.synced, name, content)
      }
    }
    this.namings = this.namings.filter(({ ended }) => ended >= began)
  }

  private syncContent(content: Content, began: number) {
    const isSynced = ({ ended }: Step) => ended < began
    content.synced = content.pending.filter(isSynced).reduce(changed, content.synced)
    content.pending = content.pending.filter((step) => !isSynced(step))
  }
}

const changed = (bytes: Buffer, step: Content["pending"][number]): Buffer =>
  step.is === "truncate" ? resize(bytes, step.size) : write(bytes, step.offset, step.bytes)

/** All states between two steps: `visit` may look at the disk and at what had been printed. */
export const replay = (
  steps: ReadonlyArray<Step>,
  disk: Disk,
  visit: (disk: Disk, said: ReadonlyArray<string>, moment: number) => void
): void => {
  const said: Array<string> = []
  const inOrder = steps.toSorted((one, other) => momentOf(one) - momentOf(other))
  inOrder.forEach((step, moment) => {
    if (step.is === "say") {
      said.push(...step.text.split("\n").filter((line) => line !== ""))
    } else {
      disk.take(step)
    }
    visit(disk, said, moment)
  })
}

/** The files of a directory that a loss of power would find. */
export const filesIn = (directory: string): Files =>
  new Map(
    fs.readdirSync(directory).filter((name) => !name.endsWith("-shm"))
      .map((name) => [name, fs.readFileSync(path.join(directory, name))])
  )

/** Puts files into an empty directory. */
export const restore = (files: Files, directory: string): void => {
  fs.rmSync(directory, { recursive: true, force: true })
  fs.mkdirSync(directory)
  for (const [name, bytes] of files) {
    fs.writeFileSync(path.join(directory, name), bytes)
  }
}

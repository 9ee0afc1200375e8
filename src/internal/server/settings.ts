/** What a URL such as `postgres://user:password@host:5432/database?maxConnections=8` asks for. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { readFileSync } from "node:fs"
import type { DatabaseError } from "../../DatabaseError.js"
import { unusableUrl } from "../failure.js"

export interface Settings {
  readonly host: string
  readonly port: number
  /** A socket of this machine, or the directory of one, in place of host and port. */
  readonly socket: string | undefined
  readonly database: string | undefined
  readonly username: string | undefined
  readonly password: Redacted.Redacted | undefined
  readonly tls: Tls | undefined
  readonly readonly: boolean
  readonly maxConnections: number
  readonly minConnections: number
  readonly maxQueue: number
  /** Times, in milliseconds. */
  readonly idleTimeout: number
  readonly connectTimeout: number
  readonly acquireTimeout: number
  readonly statementTimeout: number
  readonly closeTimeout: number
  readonly applicationName: string
}

/** A connection is encrypted; whose certificate the server shows may be checked, and whether it is for the server's name. */
export interface Tls {
  readonly rejectUnauthorized: boolean
  readonly checksName: boolean
  readonly ca: string | undefined
}

/** What is told to a person of where a database is: no user, no password. */
export const placeOf = ({ database, host, port, socket }: Settings): string =>
  `${database === undefined ? "the server" : `the database '${database}'`} at ${
    socket ?? `${host.includes(":") ? `[${host}]` : host}:${port}`
  }`

type Options = Omit<Settings, "host" | "port" | "database" | "username" | "password" | "tls"> & {
  readonly sslmode: "disable" | "require" | "verify-ca" | "verify-full"
  readonly sslrootcert: string | undefined
}

/** What a reader answers for a value that it does not take. */
type Wrong = { readonly wants: string }

const wrong = (wants: string): Wrong => ({ wants })

const count = (least: number, most: number) => (value: string): number | Wrong =>
  /^\d{1,8}$/.test(value) && Number(value) >= least && Number(value) <= most
    ? Number(value)
    : wrong(`a whole number from ${least} to ${most}`)

/** What a timer of Node can count (ms). */
const maxTime = 2 ** 31 - 1

const time = (value: string): number | Wrong => {
  const duration = Duration.decodeUnknown(/^\d+$/.test(value) ? Number(value) : value)
  const milliseconds = duration._tag === "Some" ? Duration.toMillis(duration.value) : Number.NaN
  return milliseconds >= 1 && milliseconds <= maxTime
    ? milliseconds
    : wrong("a duration such as '2 seconds', from 1 millisecond to 24 days")
}

const boolean = (value: string): boolean | Wrong =>
  value === "true" ? true : value === "false" ? false : wrong("true or false")

const oneOf = (...words: ReadonlyArray<string>) => (value: string): string | Wrong =>
  words.includes(value) ? value : wrong(`one of ${words.join(", ")}`)

const text = (value: string): string | Wrong =>
  value === "" || value.includes("\0") ? wrong("a text that is not empty") : value

const readers: { readonly [Option in keyof Options]: (value: string) => unknown } = {
  socket: text,
  maxConnections: count(1, 10_000),
  minConnections: count(0, 10_000),
  maxQueue: count(1, 10_000_000),
  idleTimeout: time,
  connectTimeout: time,
  acquireTimeout: time,
  statementTimeout: time,
  closeTimeout: time,
  applicationName: text,
  readonly: boolean,
  sslmode: oneOf("disable", "require", "verify-ca", "verify-full"),
  sslrootcert: text
}

const otherwise: Options = {
  socket: undefined,
  maxConnections: 10,
  minConnections: 0,
  maxQueue: 100_000,
  idleTimeout: 30_000,
  connectTimeout: 10_000,
  acquireTimeout: 30_000,
  statementTimeout: 60_000,
  closeTimeout: 10_000,
  applicationName: "effect-avatars",
  readonly: false,
  sslmode: "disable",
  sslrootcert: undefined
}

/** The settings of a URL. `socket` may be given as `host` too, as PostgreSQL's own programs take it. */
export const parse = (url: string, port: number): Effect.Effect<Settings, DatabaseError> =>
  Effect.gen(function*() {
    const { address, fields } = yield* Effect.try({ try: () => partsOf(url), catch: () => unusableUrl(malformed) })
    const options: Record<string, unknown> = { ...otherwise }
    for (const [name, value] of address.searchParams) {
      const option = name === "host" && value.startsWith("/") ? "socket" : name
      if (!Object.hasOwn(readers, option)) {
        return yield* unusableUrl(`it has an option that is not known; they are ${Object.keys(readers).join(", ")}`)
      }
      const read = readers[option as keyof Options](value)
      if (typeof read === "object") {
        return yield* unusableUrl(`${option} is ${(read as Wrong).wants}`)
      }
      options[option] = read
    }
    const { sslmode, sslrootcert, ...rest } = options as Options
    if (rest.minConnections > rest.maxConnections) {
      return yield* unusableUrl(
        `minConnections (${rest.minConnections}) is at most maxConnections (${rest.maxConnections})`
      )
    }
    const tls = yield* Effect.try({
      try: () => tlsOf(sslmode, sslrootcert),
      catch: () => unusableUrl("the file of sslrootcert cannot be read")
    })
    return { ...rest, ...fields, port: fields.port ?? port, tls }
  })

const malformed =
  "it is not of the form scheme://user:password@host:port/database, with %-codes for /, ?, # and @ in its parts"

const partsOf = (url: string) => {
  const address = new URL(url)
  const decoded = (part: string) => part === "" ? undefined : decodeURIComponent(part)
  const password = decoded(address.password)
  const fields = {
    host: decoded(address.hostname.replace(/^\[(.*)\]$/, "$1")) ?? "localhost",
    port: address.port === "" ? undefined : Number(address.port),
    database: decoded(address.pathname.replace(/^\//, "")),
    username: decoded(address.username),
    password: password === undefined ? undefined : Redacted.make(password)
  }
  const isWhole = /^[a-z]+:\/\//i.test(url) && address.hash === "" && !url.includes("\0") &&
    !fields.database?.includes("\0")
  // An '@' in the path comes after a password that has a '/' in it, the rest of which would be shown as the database.
  if (!isWhole || address.pathname.includes("@")) {
    throw new Error(malformed)
  }
  return { address, fields }
}

/** As PostgreSQL names the modes; `require` encrypts without asking whose certificate it is. */
const tlsOf = (mode: Options["sslmode"], file: string | undefined): Tls | undefined =>
  mode === "disable" ? undefined : {
    rejectUnauthorized: mode !== "require",
    checksName: mode === "verify-full",
    ca: file === undefined ? undefined : readFileSync(file, "utf8")
  }

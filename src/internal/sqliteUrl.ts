/** The pool that a URL such as `sqlite:./users.sqlite?maxReaders=8` asks for. */
import * as Effect from "effect/Effect"
import type { DatabaseError } from "../DatabaseError.js"
import type { SqlitePoolConfig } from "../SqlitePool.js"
import { unusableUrl } from "./failure.js"

/** By hand: `new URL` would cut a path at `#`. */
export const parse = (url: string): Effect.Effect<SqlitePoolConfig, DatabaseError> =>
  Effect.gen(function*() {
    const [, encoded = "", query] = /^[a-z]+:([^?]*)\??(.*)$/is.exec(url) ?? []
    const filename = yield* Effect.try({
      try: () => decodeURIComponent(encoded),
      catch: () => unusableUrl("a '%' in its path begins no character of UTF-8")
    })
    if (filename === "" || filename.includes("\0") || /^\/\/[^/]/.test(filename)) {
      return yield* unusableUrl("it names no file")
    }
    const config: Record<string, unknown> = { filename }
    for (const [option, value] of new URLSearchParams(query)) {
      const read = options.get(option)
      if (read === undefined) {
        return yield* unusableUrl(
          `it has an option that is not known; they are ${Array.from(options.keys()).join(", ")}`
        )
      }
      config[option] = read(value)
    }
    return config as unknown as SqlitePoolConfig
  })

/** A value that is none is passed on as it is: the pool says what it may be. */
const number = (value: string): unknown => /^\d+$/.test(value) ? Number(value) : value
const boolean = (value: string): unknown => value === "true" ? true : value === "false" ? false : value

/** The options of a pool that a URL can name. Durations are milliseconds, or such as `2 seconds`. */
const options: ReadonlyMap<string, (value: string) => unknown> = new Map<string, (value: string) => unknown>([
  ["readonly", boolean],
  ["disableWAL", boolean],
  ["minReaders", number],
  ["maxReaders", number],
  ["maxQueue", number],
  ["prepareCacheSize", number],
  ["prepareCacheTTL", number],
  ["readerIdleTimeout", number],
  ["acquireTimeout", number],
  ["statementTimeout", number],
  ["closeTimeout", number],
  ["busyTimeout", number],
  ["synchronous", String],
  ["poolName", String]
])

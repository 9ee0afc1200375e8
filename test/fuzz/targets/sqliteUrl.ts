/** `sqlite:` URLs. */
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import type { DatabaseError } from "../../../src/DatabaseError.js"
import { parse } from "../../../src/internal/sqliteUrl.js"
import { bytesOf, textOf } from "./text.js"
import { secret, understood } from "./urls.js"

type Parse = (url: string) => Effect.Effect<{ readonly filename: string }, DatabaseError>

export const real: Parse = parse

export const claim = (parse: Parse) => (url: string): void => {
  const config = understood(parse(url))
  if (config !== undefined) {
    const { filename } = config
    assert.equal(typeof filename, "string")
    assert.ok(filename !== "" && !filename.includes("\0"))
    // A text that is not well-formed cannot be written in %-codes.
    const again = filename.isWellFormed() ? understood(parse(`sqlite:${encodeURIComponent(filename)}`)) : { filename }
    assert.deepEqual(again, { filename })
  }
}

export const fuzz = (data: Buffer): void => claim(parse)(`sqlite:${textOf(data)}`)

/** Cuts a path at `#`, as `new URL` does. */
export const cutting: Parse = (url) =>
  Effect.map(parse(url), (config) => ({ ...config, filename: config.filename.replace(/#.*$/s, "") }))

export const planted = (data: Buffer): void => claim(cutting)(`sqlite:${textOf(data)}`)

export const seeds = [
  "./users.sqlite",
  ":memory:",
  "a%3Fb%25c",
  "/tmp/a?maxReaders=8&busyTimeout=2 seconds",
  "a?readonly=true",
  `//u:${secret}@h/a`
].map(bytesOf)

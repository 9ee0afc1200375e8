/** `postgres:` and `mysql:` URLs. */
import { Effect, Redacted } from "effect"
import * as assert from "node:assert/strict"
import type { DatabaseError } from "../../../src/DatabaseError.js"
import type { Settings } from "../../../src/internal/server/settings.js"
import { parse, placeOf } from "../../../src/internal/server/settings.js"
import { bytesOf, textOf } from "./text.js"
import { secret, understood } from "./urls.js"

type Parse = (url: string, port: number) => Effect.Effect<Settings, DatabaseError>

export const real: Parse = parse

export const claim = (parse: Parse) => (url: string): void => {
  // It would read whatever file is named there.
  const settings = /sslrootcert/i.test(url) ? undefined : understood(parse(url, 5432))
  if (settings === undefined) {
    return
  }
  const { database, host, maxConnections, minConnections, password, port, username } = settings
  const hidden = password === undefined ? undefined : Redacted.value(password)
  for (const part of [host, database, username, hidden, settings.socket, settings.applicationName]) {
    assert.ok(part === undefined || (part !== "" && !part.includes("\0")), "a part is empty, or holds U+0000")
  }
  const { acquireTimeout, closeTimeout, connectTimeout, idleTimeout, statementTimeout } = settings
  for (const time of [acquireTimeout, closeTimeout, connectTimeout, idleTimeout, statementTimeout]) {
    assert.ok(time >= 1 && time < 2 ** 31, "a time is none")
  }
  assert.ok(port >= 0 && port <= 65_535 && minConnections <= maxConnections && maxConnections >= 1)
  // What comes before an `@` may be a password, written as it is.
  if (url.split(secret).length === 2 && new RegExp(`^[^?]*${secret}[^?]*@`).test(url)) {
    assert.equal(placeOf(settings).includes(secret), false, "what is told of the place shows the password")
  }
  assert.equal(String(JSON.stringify(settings)).includes(hidden ?? "\0"), isShownElsewhere(settings, hidden))
}

/** A password that is also the name of something else, or a part of what stands in its place. */
const isShownElsewhere = (settings: Settings, hidden: string | undefined): boolean =>
  hidden !== undefined && JSON.stringify({ ...settings, password: Redacted.make("") }).includes(hidden)

export const fuzz = (data: Buffer): void => claim(parse)(`postgres://${textOf(data)}`)

/** Shows the password of a pool of seven. */
export const leaking: Parse = (url, port) =>
  Effect.map(parse(url, port), (settings) =>
    settings.maxConnections !== 7 || settings.password === undefined
      ? settings
      : { ...settings, database: Redacted.value(settings.password) })

export const planted = (data: Buffer): void => claim(leaking)(`postgres://${textOf(data)}`)

export const seeds = [
  `user:${secret}@host:5432/database`,
  `user:${secret}%2F%3A@[::1]/a?maxConnections=8&minConnections=2&acquireTimeout=2 seconds`,
  `user:12/${secret}@host/a`,
  "host?host=/run/postgresql&sslmode=require&readonly=true",
  "a:b@c/d?applicationName=e&socket=/f&idleTimeout=1"
].map(bytesOf)

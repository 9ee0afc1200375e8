/** What a driver failed with, whatever that is, is classified. */
import { SqlError } from "@effect/sql/SqlError"
import { Schema } from "effect"
import * as assert from "node:assert/strict"
import { DatabaseError, fromSqlError } from "../../../src/DatabaseError.js"
import { secret } from "./urls.js"
import { bytesOf, textOf } from "./text.js"

type Classify = (error: SqlError) => DatabaseError

export const real: Classify = fromSqlError

/** What holds the secret is text that nobody may see. */
export const claim = (classify: Classify) => (cause: unknown): void => {
  const error = classify(new SqlError({ cause, message: secret }))
  assert.ok(error instanceof DatabaseError)
  // The name of a constraint is the schema's own, and may hold anything.
  assert.match(error.message, error.constraint === undefined ? /^[A-Z].*\.$/ : /^[A-Z].*\.$/s)
  const json: unknown = JSON.parse(JSON.stringify(Schema.encodeSync(DatabaseError)(error)))
  const again = Schema.decodeUnknownSync(DatabaseError)(json)
  assert.deepEqual(JSON.parse(JSON.stringify(again)), json)
  assert.equal(again.isRetryable, error.isRetryable)
  if (error.constraint === undefined) {
    assert.equal(JSON.stringify(json).includes(secret), false, "it shows what the driver said")
  }
}

/** A cause by its lines, one inside the other. */
const causeOf = (text: string): unknown => {
  const [code = "", errno = "", sqlState, ...message] = text.split("\n")
  const own = {
    ...(code === "" ? {} : { code: /^\d{1,4}$/.test(code) ? Number(code) : code }),
    ...(errno === "" ? {} : { errno: Number(errno) }),
    ...(sqlState === undefined ? {} : { sqlState }),
    message: `${secret} ${message.join("\n")}`
  }
  return message[0] === "cause" ? { ...own, cause: causeOf(message.slice(1).join("\n")) } : own
}

export const fuzz = (data: Buffer): void => claim(real)(causeOf(textOf(data)))

/** Shows what the driver said together with one of the codes. */
export const leaking: Classify = (error) => {
  const told = fromSqlError(error)
  const message = told.code === "40002" ? `${told.message} ${(error.cause as Error).message}.` : told.message
  return new DatabaseError({ ...told, message })
}

export const planted = (data: Buffer): void => claim(leaking)(causeOf(textOf(data)))

export const seeds = [
  "SQLITE_BUSY",
  "SQLITE_CONSTRAINT_UNIQUE\n\n\nUNIQUE constraint failed: users.login",
  "40001",
  "\n1062\n23000\nDuplicate entry 'a' for key 'login'",
  "ECONNREFUSED\n-111",
  "X\n\n\ncause\nSQLITE_IOERR_READ"
].map(bytesOf)

/** Rows that came for logins: each login has its own row or none. */
import * as assert from "node:assert/strict"
import type { Row } from "../../../src/internal/row.js"
import { foundByLogin, only } from "../../../src/internal/row.js"
import { bytesOf, textOf } from "./text.js"

export interface Subject {
  readonly foundByLogin: typeof foundByLogin
  readonly only: typeof only
}

export const real: Subject = { foundByLogin, only }

/** Values are triples of a login, a name and a forname. */
export const claim =
  ({ foundByLogin, only }: Subject) => (wanted: ReadonlyArray<string>, values: ReadonlyArray<unknown>): void => {
    const found = foundByLogin(wanted, values)
    assert.equal(found.length, wanted.length)
    const rows = Array.from({ length: Math.ceil(values.length / 3) }, (_, i): Row => ({
      login: values[3 * i],
      name: values[3 * i + 1],
      forname: values[3 * i + 2]
    }))
    wanted.forEach((login, i) => {
      assert.deepEqual(found[i], rows.findLast((row) => typeof row.login === "string" && row.login === login))
    })
    assert.deepEqual(only(wanted, rows), rows.filter(({ login }) => wanted.some((wanted) => wanted === login)))
  }

/** The values of texts: some stand for others than themselves. */
const valueOf = (text: string): unknown =>
  text === "" ? null : /^\d/.test(text) ? Number(text) : text.startsWith("b") ? Buffer.from(text) : text

const run = (subject: Subject) => (data: Buffer): void => {
  const [wanted = "", ...values] = textOf(data).split("\n")
  claim(subject)(Array.from(new Set(wanted.split(","))), values.map(valueOf))
}

export const fuzz = run(real)

/** Finds whoever's login is the same in another case. */
export const folding: Subject = {
  ...real,
  foundByLogin: (wanted, values) => {
    const plain = (value: unknown) => typeof value === "string" ? value.toLowerCase() : value
    const folded = values.map((value, i) => i % 3 === 0 ? plain(value) : value)
    return foundByLogin(wanted.map((login) => login.toLowerCase()), folded).map((row, i) =>
      row === undefined ? undefined : { login: wanted[i], name: row.name, forname: row.forname }
    )
  }
}

export const planted = run(folding)

export const seeds = ["a,á,b\na\n1\n2\ná\n3\n4", "a\n1\n\n", "a\nbytes\n2\n3\na\n\n"].map(bytesOf)

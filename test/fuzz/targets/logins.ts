/** What is a login and what a name: what the schemas say, against another way to tell. */
import { Either, Schema } from "effect"
import * as assert from "node:assert/strict"
import { Avatar, isLogin, isName, Login } from "../../../src/Avatar.js"
import { bytesOf, textOf } from "./text.js"

export interface Subject {
  readonly isLogin: (text: string) => boolean
  readonly isName: (text: string) => boolean
  readonly decodeLogin: (input: unknown) => Either.Either<string, { readonly message: string }>
  readonly decodeAvatar: (input: unknown) => Either.Either<object, { readonly message: string }>
}

export const real: Subject = {
  isLogin,
  isName,
  decodeLogin: Schema.decodeUnknownEither(Login),
  decodeAvatar: Schema.decodeUnknownEither(Avatar)
}

const isText = (points: ReadonlyArray<number>) => points.every((point) => point < 0xd800 || point > 0xdfff)
const isControl = (point: number) => point < 0x20 || (point >= 0x7f && point <= 0x9f)

export const claim = ({ decodeAvatar, decodeLogin, isLogin, isName }: Subject) => (text: string): void => {
  const points = Array.from(text, (character) => character.codePointAt(0)!)
  const mayBeLogin = points.length >= 1 && points.length <= 255 && isText(points) && !points.some(isControl)
  const mayBeName = isText(points) && !points.includes(0)
  assert.equal(isLogin(text), mayBeLogin)
  assert.equal(isName(text), mayBeName)
  const login = decodeLogin(text)
  assert.deepEqual(Either.getOrUndefined(login), mayBeLogin ? text : undefined)
  if (Either.isLeft(login)) {
    assert.equal(login.left.message, sentence)
  }
  const avatar = decodeAvatar({ login: text, name: text, forname: text })
  assert.equal(Either.isRight(avatar), mayBeLogin && mayBeName)
  if (Either.isRight(avatar)) {
    assert.deepEqual({ ...avatar.right }, { login: text, name: text, forname: text })
  }
}

const sentence = "A login is 1 to 255 characters of well-formed text without control characters."

export const fuzz = (data: Buffer): void => claim(real)(textOf(data))

/** Takes the second half of the control characters, U+0080 to U+009F, for others. */
export const lenient: Subject = { ...real, isLogin: (text) => isLogin(text.replaceAll(/[\u0080-\u009f]/g, "x")) }

export const planted = (data: Buffer): void => claim(lenient)(textOf(data))

export const seeds = ["yoen", "Estebán", "e\u0301", "👩", "x".repeat(255)].map(bytesOf)

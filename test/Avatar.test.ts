import { describe, expect, it } from "@effect/vitest"
import { Arbitrary, Either, Equal, FastCheck, Hash, Schema } from "effect"
import { Avatar, isLogin, isName, Login } from "effect-avatars/Avatar"

const sentence = "A login is 1 to 255 characters of well-formed text without control characters."

/** Unicode's general category Cc: 65 code points, which never change. */
const controls = Array.from({ length: 0xa0 }, (_, code) => code)
  .filter((code) => code < 0x20 || code > 0x7e)
  .map((code) => String.fromCodePoint(code))

const codePoint = (min: number, max: number) =>
  FastCheck.integer({ min, max })
    .filter((code) => code < 0xd800 || code > 0xdfff)
    .map((code) => String.fromCodePoint(code))

/** One code point that a login may hold: from near to far, or one that likes to break things. */
const character = FastCheck.oneof(
  codePoint(0x20, 0x7e),
  codePoint(0xa0, 0x17f),
  codePoint(0xa0, 0xffff),
  codePoint(0x10000, 0x10ffff),
  FastCheck.constantFrom(" ", "'", "\"", "\\", "%", "\u0301", "\u200d", "\ufeff", "\ufffd", "\uffff", "\u{10ffff}")
)

const text = (minLength: number, maxLength: number) =>
  FastCheck.array(character, { minLength, maxLength, size: "max" }).map((characters) => characters.join(""))

const loneSurrogate = FastCheck.oneof(
  FastCheck.integer({ min: 0xd800, max: 0xdbff }).chain((high) =>
    FastCheck.constantFrom("", "a", "\uffff", "\ud800").map((after) => String.fromCharCode(high) + after)
  ),
  FastCheck.integer({ min: 0xdc00, max: 0xdfff }).chain((low) =>
    FastCheck.constantFrom("", "a", "\uffff", "\udc00").map((before) => before + String.fromCharCode(low))
  )
)

const around = (middle: FastCheck.Arbitrary<string>) =>
  FastCheck.tuple(text(0, 20), middle, text(0, 20)).map((parts) => parts.join(""))

const name = FastCheck.oneof(
  text(0, 300),
  FastCheck.array(FastCheck.oneof(character, FastCheck.constantFrom(...controls.slice(1)))).map((all) => all.join(""))
)

const avatar = FastCheck.record({ login: text(1, 255), name, forname: name })
  .map(({ forname, login, name }) => new Avatar({ login: Login.make(login), name, forname }))

const forAll = <A>(arbitrary: FastCheck.Arbitrary<A>, claim: (value: A) => void) =>
  FastCheck.assert(FastCheck.property(arbitrary, (value) => void claim(value)))

const parseError = expect.objectContaining({ _tag: "ParseError" })

/** With which words a text is refused; the same by all ways to make a login. */
const refusal = (text: string) => {
  expect(isLogin(text)).toBe(false)
  const decoded = Schema.decodeUnknownEither(Login)(text)
  const message = Either.isLeft(decoded) ? decoded.left.message : undefined
  expect(() => Login.make(text)).toThrow(expect.objectContaining({ message }))
  return message
}

describe("Login", () => {
  it("every text of 1 to 255 code points without control characters is one, and is kept as it is", () =>
    forAll(text(1, 255), (text) => {
      expect(isLogin(text)).toBe(true)
      expect(Schema.decodeUnknownSync(Login)(text)).toBe(text)
      expect(Login.make(text)).toBe(text)
    }))

  it("a text that holds a control character is refused with one sentence", () =>
    forAll(around(FastCheck.constantFrom(...controls)), (text) => expect(refusal(text)).toBe(sentence)))

  it("each of the 65 control characters is refused, and none of their neighbours", () => {
    expect(controls.length).toBe(65)
    expect(controls.filter(isLogin)).toEqual([])
    expect([" ", "~", "\u00a0", "\u00ad", "\u200b", "\u2028"].filter(isLogin).length).toBe(6)
  })

  it("a text that holds a lone surrogate is refused with one sentence", () =>
    forAll(around(loneSurrogate), (text) => expect(refusal(text)).toBe(sentence)))

  it("a text of 256 or more code points is refused with one sentence", () =>
    forAll(text(256, 600), (text) => expect(refusal(text)).toBe(sentence)))

  it("the empty text is refused with one sentence", () => {
    expect(refusal("")).toBe(sentence)
  })

  it.each(["a", "\u00e9", "\uffff", "\u{1f469}", "\u{10ffff}"])("255 times %j is one, 256 times is none", (one) => {
    expect(Login.make(one.repeat(255))).toBe(one.repeat(255))
    expect(refusal(one.repeat(256))).toBe(sentence)
  })

  it("255 astral characters are one, though they are 510 UTF-16 units", () => {
    const text = "👩".repeat(255)
    expect(text.length).toBe(510)
    expect(isLogin(text)).toBe(true)
    expect(refusal(`${text}a`)).toBe(sentence)
    expect(refusal(`${"a".repeat(255)}👩`)).toBe(sentence)
  })

  it("case, accents, spaces around it and normal forms tell logins apart", () => {
    const texts = ["estebán".normalize("NFC"), "estebán".normalize("NFD"), "esteban", "Esteban", "esteban ", " esteban"]
    const logins = texts.map((text) => Login.make(text))
    expect(logins).toEqual(texts)
    expect(new Set(logins).size).toBe(6)
    const avatars = logins.map((login) => new Avatar({ login, name: "", forname: "" }))
    expect(avatars.map((one) => avatars.filter((other) => Equal.equals(one, other)).length)).toEqual([1, 1, 1, 1, 1, 1])
  })

  it("what is no text fails typed", () => {
    const anything = FastCheck.anything({
      withBigInt: true,
      withBoxedValues: true,
      withDate: true,
      withMap: true,
      withNullPrototype: true,
      withSet: true,
      withSparseArray: true,
      withTypedArray: true
    })
    forAll(anything.filter((value) => typeof value !== "string"), (value) => {
      const decoded = Schema.decodeUnknownEither(Login)(value)
      expect(decoded).toMatchObject({ _tag: "Left", left: { _tag: "ParseError" } })
      expect(Either.isLeft(decoded) && decoded.left.message).toBe(
        "A login is 1 to 255 characters of well-formed text without control characters."
      )
    })
  })

  it.each([
    ["a symbol", Symbol("yoen")],
    ["a function", () => "yoen"],
    ["a boxed string", new Object("yoen")],
    ["a text's bytes", new TextEncoder().encode("yoen")],
    ["an object that makes a text", { [Symbol.toPrimitive]: () => "yoen" }]
  ])("%s is none", (_, value) => {
    expect(Schema.decodeUnknownEither(Login)(value)).toMatchObject({ _tag: "Left", left: { _tag: "ParseError" } })
  })

  it("a text of a million units is refused without being read: a thousand times in less than a second", () => {
    const texts = ["a".repeat(1_000_000), "👩".repeat(500_000), "\0".repeat(1_000_000)]
    const start = performance.now()
    const refused = Array.from({ length: 1_000 }, (_, i) => isLogin(texts[i % texts.length] ?? "")).filter((is) => !is)
    expect(performance.now() - start).toBeLessThan(1_000)
    expect(refused.length).toBe(1_000)
    expect(texts.map(refusal)).toEqual([sentence, sentence, sentence])
  })
})

describe("Avatar", () => {
  it.each([
    ["yoen", "Van der Veld", "Yoen", "Mr 'Yoen Van der Veld' is connected under 'yoen'"],
    ["esteban", "Garcia Marquez", "Estebán", "Mr 'Estebán Garcia Marquez' is connected under 'esteban'"],
    ["mohamed", "Al Ghâlib", "Mohamed", "Mr 'Mohamed Al Ghâlib' is connected under 'mohamed'"],
    ["x", "", "", "Mr ' ' is connected under 'x'"],
    ["it's", "%s", "$&", "Mr '$& %s' is connected under 'it's'"]
  ])("%s renders as the original's line", (login, name, forname, line) => {
    expect(new Avatar({ login: Login.make(login), name, forname }).render()).toBe(line)
  })

  it("the line holds the fields as they are stored", () =>
    forAll(avatar, (avatar) => {
      const line = ["Mr '", avatar.forname, " ", avatar.name, "' is connected under '", avatar.login, "'"].join("")
      expect(avatar.render()).toBe(line)
    }))

  it("two avatars of the same fields are equal", () =>
    forAll(avatar, (avatar) => {
      const again = new Avatar({ login: avatar.login, name: avatar.name, forname: avatar.forname })
      expect(Equal.equals(avatar, again)).toBe(true)
      expect(Hash.hash(avatar)).toBe(Hash.hash(again))
    }))

  it("an avatar that differs in any one field is another", () =>
    forAll(avatar, ({ forname, login, name }) => {
      const one = new Avatar({ login, name, forname })
      expect(Equal.equals(one, new Avatar({ login: Login.make(login === "x" ? "y" : "x"), name, forname }))).toBe(false)
      expect(Equal.equals(one, new Avatar({ login, name: `${name} `, forname }))).toBe(false)
      expect(Equal.equals(one, new Avatar({ login, name, forname: `${forname} ` }))).toBe(false)
    }))

  it("an avatar that went through JSON is equal to itself", () =>
    forAll(avatar, (avatar) => {
      const json: unknown = JSON.parse(JSON.stringify(Schema.encodeSync(Avatar)(avatar)))
      expect(json).toEqual({ login: avatar.login, name: avatar.name, forname: avatar.forname })
      const back = Schema.decodeUnknownSync(Avatar)(json)
      expect(back).toBeInstanceOf(Avatar)
      expect(Equal.equals(back, avatar)).toBe(true)
    }))

  it("what Schema generates as an avatar is one", () =>
    forAll(Arbitrary.make(Avatar), (avatar) => {
      expect(Equal.equals(Schema.decodeUnknownSync(Avatar)(Schema.encodeSync(Avatar)(avatar)), avatar)).toBe(true)
    }))

  it("a name is any well-formed text without U+0000, the empty one and control characters too", () => {
    forAll(FastCheck.oneof(name, FastCheck.constantFrom("", ...controls.slice(1))), (name) => {
      expect(isName(name)).toBe(true)
      expect(new Avatar({ login: Login.make("yoen"), name, forname: name })).toMatchObject({ name, forname: name })
    })
  })

  it("a name with U+0000 or a lone surrogate is refused, and the refusal does not show it", () => {
    const bad = around(FastCheck.oneof(FastCheck.constant("\0"), loneSurrogate)).map((text) => `secret${text}`)
    const fields = bad.chain((bad) =>
      FastCheck.constantFrom({ name: bad, forname: "" }, { name: "", forname: bad }, { name: bad, forname: bad })
    )
    forAll(fields, (fields) => {
      expect(isName(fields.name) && isName(fields.forname)).toBe(false)
      const decoded = Schema.decodeUnknownEither(Avatar)({ login: "yoen", ...fields })
      const message = Either.isLeft(decoded) ? decoded.left.message : ""
      expect(message).toContain("A name is well-formed text without the character U+0000.")
      expect(message).not.toContain("secret")
      expect(() => new Avatar({ login: Login.make("yoen"), ...fields })).toThrow(parseError)
    })
  })

  it("what is no avatar fails typed", () => {
    const anything = FastCheck.anything({ withBigInt: true, withNullPrototype: true })
    const fields = FastCheck.record({ login: anything, name: anything, forname: FastCheck.constantFrom(null, 1, {}) })
    forAll(FastCheck.oneof(anything, fields), (value) => {
      expect(Schema.decodeUnknownEither(Avatar)(value)).toMatchObject({ _tag: "Left", left: { _tag: "ParseError" } })
    })
  })

  it.each([
    ["an empty login", { login: "", name: "", forname: "" }],
    ["a login with a control character", { login: "a\tb", name: "", forname: "" }],
    ["no login", { name: "", forname: "" }],
    ["a NULL name", { login: "yoen", name: null, forname: "" }]
  ])("fields with %s are none", (_, fields) => {
    expect(Schema.decodeUnknownEither(Avatar)(fields)).toMatchObject({ _tag: "Left", left: { _tag: "ParseError" } })
  })
})

/**
 * A user as the program shows it: an `Avatar`, known by its `Login`.
 *
 * The columns of a users table, `login`, `name` and `forname`, keep their own names here, as the tables of the original
 * program have them.
 *
 * @since 0.1.0
 */
import type * as Brand from "effect/Brand"
import * as Schema from "effect/Schema"

const maxLoginLength = 255

const controlCharacter = /\p{Cc}/u

/** The number of code points, counted only where the number of UTF-16 units leaves a doubt. */
const isAtMostCodePoints = (text: string, limit: number): boolean =>
  text.length <= limit || (text.length <= 2 * limit && Array.from(text).length <= limit)

/**
 * Whether a text is a login. See {@link Login}.
 *
 * @since 0.1.0
 * @category guards
 */
export const isLogin = (text: string): text is Login =>
  text.length > 0 && isAtMostCodePoints(text, maxLoginLength) && text.isWellFormed() && !controlCharacter.test(text)

/**
 * Whether a text can be a `name` or a `forname`: well-formed Unicode without U+0000, which PostgreSQL cannot store. The
 * empty text is one.
 *
 * @since 0.1.0
 * @category guards
 */
export const isName = (text: string): boolean => text.isWellFormed() && !text.includes("\0")

/**
 * What a user is known by: 1 to 255 code points of well-formed Unicode (no lone surrogate) without a control character
 * (`\p{Cc}`).
 *
 * Two logins are equal only if they are the same code points: case, accents, trailing spaces and normal forms (NFC, NFD)
 * all tell logins apart, on every database.
 *
 * @example
 * ```ts
 * import { Avatar } from "effect-avatars"
 * import { Schema } from "effect"
 *
 * const yoen = Avatar.Login.make("yoen") // throws a ParseError for a text that is no login
 * const parse = Schema.decodeUnknownEither(Avatar.Login) // answers Left for one
 * ```
 *
 * @since 0.1.0
 * @category schemas
 */
export const Login = Schema.String.pipe(Schema.filter(isLogin, {
  identifier: "Login",
  description: "1 to 255 characters of well-formed text without control characters",
  message: () => ({
    message: "A login is 1 to 255 characters of well-formed text without control characters.",
    override: true
  })
}))

/**
 * @since 0.1.0
 * @category schemas
 */
export type Login = string & Brand.Brand<"Login">

const Name = Schema.String.pipe(Schema.filter(isName, {
  identifier: "Name",
  description: "well-formed text without U+0000",
  message: () => ({ message: "A name is well-formed text without the character U+0000.", override: true })
}))

/**
 * A user: what the original calls a person who is connected. Compared by value (`Equal.equals`).
 *
 * The constructor throws a `ParseError` for fields that are no `Login` or no name; decode unknown input by
 * `Schema.decodeUnknown(Avatar)` instead.
 *
 * @since 0.1.0
 * @category models
 */
export class Avatar extends Schema.Class<Avatar>("effect-avatars/Avatar")({
  login: Login,
  name: Name,
  forname: Name
}) {
  /**
   * The original's line, exactly: `Mr 'Yoen Van der Veld' is connected under 'yoen'`. Names stand in it as they are stored,
   * also with control characters: strip those before you print names from a database you do not trust to a terminal.
   *
   * @since 0.1.0
   */
  render(): string {
    return `Mr '${this.forname} ${this.name}' is connected under '${this.login}'`
  }
}

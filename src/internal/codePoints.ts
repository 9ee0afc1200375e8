/** The order of logins. */

/** JavaScript compares UTF-16 units, where surrogates (U+D800 to U+DFFF) stand for what comes after U+FFFF. */
const rank = (unit: number) => unit >= 0xe000 ? unit - 0x800 : unit >= 0xd800 ? unit + 0x2000 : unit

export const byCodePoint = (one: string, other: string): number => {
  for (let i = 0; i < one.length && i < other.length; i++) {
    const difference = rank(one.charCodeAt(i)) - rank(other.charCodeAt(i))
    if (difference !== 0) {
      return difference
    }
  }
  return one.length - other.length
}

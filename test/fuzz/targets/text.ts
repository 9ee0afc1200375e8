/** The texts that a fuzzer's bytes mean. */

/** By its first byte as UTF-8, in which all is well-formed, or as UTF-16, in which it need not be. */
export const textOf = (data: Buffer): string =>
  (data[0] ?? 0) % 2 === 0 ? data.toString("utf8", 1) : data.toString("utf16le", 1)

export const bytesOf = (text: string): Buffer => Buffer.from(` ${text}`)

/** Rows as the caller gets them, from the values that crossed. */
import type { Value } from "./protocol.js"

type Names = ReadonlyArray<string>

export const toObjects = (names: Names, values: ReadonlyArray<Value>, hasBlobs: boolean): Array<unknown> => {
  const rows: Array<unknown> = []
  for (let i = 0; i < values.length;) {
    const row: Record<string, Value> = {}
    for (let column = 0; column < names.length; column++) {
      row[names[column]!] = received(values[i++]!, hasBlobs)
    }
    rows.push(row)
  }
  return rows
}

export const toArrays = (names: Names, values: ReadonlyArray<Value>, hasBlobs: boolean): Array<unknown> => {
  const rows: Array<unknown> = []
  for (let i = 0; i < values.length; i += names.length) {
    const row = values.slice(i, i + names.length)
    rows.push(hasBlobs ? row.map((value) => received(value, hasBlobs)) : row)
  }
  return rows
}

/** A blob arrives as a `Buffer`, as from the driver. */
const received = (value: Value, hasBlobs: boolean): Value =>
  hasBlobs && value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value

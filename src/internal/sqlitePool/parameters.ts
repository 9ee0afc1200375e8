/** The values of a statement, as they can cross to a thread and be bound there. */
import * as Predicate from "effect/Predicate"
import type { Parameters } from "./protocol.js"

/** Why a value cannot be a parameter, found before it spoils the message that others share. */
export const badParameter = (params: Parameters): string | undefined => {
  for (let i = 0; i < params.length; i++) {
    const value = params[i]
    const type = typeof value
    if (type === "function" || type === "symbol" || type === "boolean" || (type === "object" && !isBindable(value))) {
      return `Parameter ${i + 1} is a ${type}; SQLite knows numbers, bigints, strings, blobs and null.`
    }
  }
  return undefined
}

/** A blob, null, or values by name, as the driver takes them. */
const isBindable = (value: unknown): boolean =>
  value === null || ArrayBuffer.isView(value) ||
  (Predicate.isRecord(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value)) &&
    badParameter(Object.values(value)) === undefined)

/** A small Buffer is a view of a pool that would cross with it. */
const ownBytes = (value: unknown): unknown =>
  ArrayBuffer.isView(value) ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice() : value

export const copied = (params: Parameters): Parameters =>
  params.some(ArrayBuffer.isView) ? params.map(ownBytes) : params

/** The values of a statement, as they can cross to a thread and be bound there. */
import * as Predicate from "effect/Predicate"
import type { Parameters } from "./protocol.js"

/** Why a value cannot be a parameter, found before it spoils the message that others share. */
export const badParameter = (params: Parameters): string | undefined => {
  for (let i = 0; i < params.length; i++) {
    const value = params[i]
    if (!isValue(value) && !(isNamed(value) && Object.values(value).every(isValue))) {
      return `Parameter ${i + 1} is a ${typeof value}; SQLite knows numbers, bigints, strings, blobs and null.`
    }
  }
  return undefined
}

const isValue = (value: unknown): boolean => {
  const type = typeof value
  return type === "object"
    ? value === null || (ArrayBuffer.isView(value) && bytesOf(value) !== undefined)
    : type !== "function" && type !== "symbol" && type !== "boolean"
}

/** They are gone where their buffer was transferred. */
const bytesOf = (view: ArrayBufferView): Uint8Array | undefined => {
  try {
    return new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
  } catch {
    return undefined
  }
}

/** Values by name, as the driver takes them. */
const isNamed = (value: unknown): value is Record<string, unknown> =>
  Predicate.isRecord(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value))

/** A small Buffer is a view of a pool that would cross with it; a proxy of named values could not cross. */
const own = (value: unknown): unknown =>
  ArrayBuffer.isView(value) ? bytesOf(value)?.slice() ?? value : isNamed(value) ? { ...value } : value

export const copied = (params: Parameters): Parameters => params.some(Predicate.isObject) ? params.map(own) : params

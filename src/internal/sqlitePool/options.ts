/** What the options of a pool are: a configuration, or a program without types, may give anything. */
import * as Predicate from "effect/Predicate"

const isText = ["a text", Predicate.isString] as const
const isNumber = ["a number", Predicate.isNumber] as const
const isSwitch = ["true or false", Predicate.isBoolean] as const
const isFunction = ["a function", Predicate.isFunction] as const
const areTexts = [
  "a list of texts",
  (value: unknown) => Array.isArray(value) && value.every(Predicate.isString)
] as const

/** Durations are looked at when they are decoded. */
const kinds = {
  readonly: isSwitch,
  disableWAL: isSwitch,
  minReaders: isNumber,
  maxReaders: isNumber,
  maxQueue: isNumber,
  prepareCacheSize: isNumber,
  pragmas: areTexts,
  initialSql: areTexts,
  extensions: areTexts,
  poolName: isText,
  spanAttributes: ["a record", Predicate.isRecord] as const,
  transformQueryNames: isFunction,
  transformResultNames: isFunction
}

/** What each option is that is something else here. */
export const wrongTypes = (
  config: { readonly [Option in keyof typeof kinds | "filename"]?: unknown }
): Array<string> => [
  ...(Predicate.isString(config.filename) ? [] : ["filename is a text"]),
  ...Object.entries(kinds).flatMap(([option, [kind, is]]) => {
    const value = config[option as keyof typeof kinds]
    return Predicate.isNullable(value) || is(value) ? [] : [`${option} is ${kind}`]
  })
]

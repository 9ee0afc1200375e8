/** What the fuzzers draw from: texts, values, URLs, statements that like to break things, and all others. */
import { FastCheck } from "effect"
import { words } from "./targets/routing.js"
import { secret } from "./targets/urls.js"

const { array, bigInt, constant, constantFrom, double, integer, oneof, option, record, tuple, uint8Array } = FastCheck

const special = [
  ..."\0\u0001\t\n\r\u001b\u007f\u0080\u0085\u009f \u00a0\u00ad\u0301\u200b\u200d\u2028\u202e\ufeff\ufffd\uffff",
  ..."%_'\"`\\/?*[]{}()<>,;:.=+-~#@&|!$^",
  ..."é|e\u0301|ß|ẞ|ss|ſ|K|\u212a|Å|\u212b|İ|ı|i|I|ﬁ|a|A|a |Ａ|\u{1f469}|\u{10ffff}|\u{10000}".split("|"),
  ..."' or 1=1 --|a'; drop table users; --|--|/*|*/|%%|%s|${a}|?1|:a|@a|\\0|\\u0000|null|true|1e5|-1|0x1|__proto__"
    .split("|")
]

/** Half a character of UTF-16. */
export const surrogate = integer({ min: 0xd800, max: 0xdfff }).map((unit) => String.fromCharCode(unit))

const codePoint = integer({ min: 0, max: 0x10ffff }).map((point) => String.fromCodePoint(point))
const near = integer({ min: 0x20, max: 0x17f }).map((point) => String.fromCodePoint(point))
const piece = oneof(
  { arbitrary: near, weight: 4 },
  { arbitrary: constantFrom(...special), weight: 3 },
  { arbitrary: codePoint, weight: 2 },
  { arbitrary: surrogate, weight: 1 }
)

const joined = (pieces: FastCheck.Arbitrary<string>, maxLength: number) =>
  array(pieces, { maxLength, size: "max" }).map((pieces) => pieces.join(""))

const repeated = (...lengths: ReadonlyArray<number>) =>
  constantFrom("a", "é", "\u{1f469}", "\0", "\ud800", "%", "'").chain((one) =>
    constantFrom(...lengths).map((length) => one.repeat(length / one.length))
  )

/** Any text of a few hundred characters, also those that are none of Unicode. */
export const text: FastCheck.Arbitrary<string> = oneof(
  { arbitrary: joined(piece, 12), weight: 90 },
  { arbitrary: joined(oneof(near, constantFrom("é", "\u{1f469}")), 270), weight: 5 },
  { arbitrary: repeated(255, 256, 510, 512), weight: 5 }
)

/** Of which a few are long. */
export const anyText: FastCheck.Arbitrary<string> = oneof(
  { arbitrary: text, weight: 999 },
  { arbitrary: repeated(65_536, 1_000_000), weight: 1 }
)

/** The same text in all the ways that somebody may take for the same. */
export const alike = (text: string): ReadonlyArray<string> =>
  Array.from(
    new Set([
      text,
      text.normalize("NFC"),
      text.normalize("NFD"),
      text.normalize("NFKC"),
      text.toLowerCase(),
      text.toUpperCase(),
      `${text} `,
      ` ${text}`,
      `${text}\0`,
      `${text}%`,
      `${text}\u0301`,
      text.slice(1),
      text.replaceAll(/[a-z]/gi, "_")
    ])
  )

const cyclic = () => {
  const one: Record<string, unknown> = { a: 1 }
  one["itself"] = one
  return one
}

const detached = () => {
  const bytes = new Uint8Array(8)
  structuredClone(bytes, { transfer: [bytes.buffer] })
  return bytes
}

/** What a typed program does not hand over, and what a driver may. */
const strange: FastCheck.Arbitrary<unknown> = constantFrom<Array<() => unknown>>(
  () => undefined,
  () => null,
  () => Symbol("s"),
  () => () => 1,
  () => cyclic(),
  () => [cyclic()],
  () => new Date(),
  () => new Date(Number.NaN),
  () => new Map([[1, 2]]),
  () => new Set([1]),
  () => /a/,
  () => new Error("e"),
  () => Promise.resolve(1),
  () => Object.create(null) as unknown,
  () => new Proxy({}, {}),
  () => new String("s"),
  () => new Number(1),
  () => detached(),
  () => new ArrayBuffer(8),
  () => new SharedArrayBuffer(8),
  () => new Uint8Array(new SharedArrayBuffer(8)),
  () => new Float64Array([1, Number.NaN]),
  () => new DataView(new ArrayBuffer(4), 1),
  () => Buffer.from("bytes"),
  () => new WeakMap(),
  () => class A extends Array {},
  () => globalThis
).map((make): unknown => make())

export const number = oneof(
  double(),
  integer(),
  constantFrom(Number.NaN, -0, 0, -1, 0.5, 1e308, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2 ** 31, 2 ** 53)
)

const bigNumber = oneof(
  bigInt({ min: -(2n ** 70n), max: 2n ** 70n }),
  constantFrom(0n, -1n, 2n ** 63n - 1n, 2n ** 63n, -(2n ** 63n), -(2n ** 63n) - 1n, 10n ** 100n)
)

/** Anything at all. */
export const anything: FastCheck.Arbitrary<unknown> = oneof(
  strange,
  number,
  bigNumber,
  text,
  uint8Array({ maxLength: 20 }),
  FastCheck.boolean(),
  FastCheck.anything({ withBigInt: true, withDate: true, withNullPrototype: true, withTypedArray: true })
)

/** What SQLite can bind. */
export const bindable: FastCheck.Arbitrary<unknown> = oneof(
  constant(null),
  number,
  bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  text,
  uint8Array({ maxLength: 20 })
)

/** With up to three changes: what was cut out, put in, or doubled. */
export const mutated = (texts: FastCheck.Arbitrary<string>): FastCheck.Arbitrary<string> => {
  const change = record({ at: double({ min: 0, max: 1, noNaN: true }), cut: integer({ min: 0, max: 3 }), put: piece })
  return tuple(texts, oneof(constant([]), array(change, { maxLength: 3 }))).map(([text, changes]) =>
    changes.reduce((text, { at, cut, put }) => {
      const i = Math.floor(at * text.length)
      return text.slice(0, i) + put + text.slice(i + cut)
    }, text)
  )
}

export const encoded = oneof(text, joined(near, 8)).map((text) => encodeURIComponent(text.toWellFormed()))

const optionNames = [
  ..."readonly|disableWAL|minReaders|maxReaders|maxQueue|prepareCacheSize|prepareCacheTTL|readerIdleTimeout".split("|"),
  ..."acquireTimeout|statementTimeout|closeTimeout|busyTimeout|synchronous|poolName|socket|host|maxConnections".split(
    "|"
  ),
  ..."minConnections|idleTimeout|connectTimeout|applicationName|sslmode|sslrootcert|__proto__|constructor".split("|")
]

const optionValue = oneof(
  encoded,
  integer().map(String),
  constantFrom("true", "false", "2 seconds", "1.5 nanos", "-1 millis", "Infinity", "NaN", "1e9", "full", "verify-full"),
  constantFrom("/nowhere", "", "0", "99999999999999999999", "2 weeks")
)

export const query = option(
  array(tuple(constantFrom(...optionNames), optionValue).map((parts) => parts.join("=")), { maxLength: 4 }),
  { nil: [], freq: 2 }
).map((options) => options.length === 0 ? "" : `?${options.join("&")}`)

export const sqliteUrl = mutated(
  tuple(constantFrom("", "./", "/", "//h/", ":memory:"), encoded, query).map(([start, name, query]) =>
    `sqlite:${start}${name}${query}`
  )
)

export const serverUrl = mutated(
  record({
    scheme: constantFrom("postgres", "postgresql", "mysql", "mariadb", "MySQL"),
    user: option(encoded, { nil: undefined }),
    password: option(tuple(encoded, encoded), { nil: undefined, freq: 6 }),
    host: oneof(constantFrom("127.0.0.1", "[::1]", "localhost", "", "xn--a", "é", "a.b"), encoded),
    port: option(oneof(integer({ min: -1, max: 70_000 }), constant("")), { nil: undefined }),
    database: option(encoded, { nil: undefined }),
    query
  }).map(({ database, host, password, port, query, scheme, user }) =>
    `${scheme}://${user ?? ""}${password === undefined ? "" : `:${password[0]}${secret}${password[1]}`}${
      user === undefined && password === undefined ? "" : "@"
    }${host}${port === undefined ? "" : `:${port}`}${database === undefined ? "" : `/${database}`}${query}`
  )
)

const word = oneof(constantFrom(...words), constantFrom("users", "login", "name", "forname", "typeof", "cast", "blob"))

const between = constantFrom(" ", " ", " ", "", "\n", "/**/", "/* ; */", "--\n", "--é\n", "\t", "\f", ";")

const pragma = record({
  start: constantFrom("", "explain ", "EXPLAIN QUERY PLAN ", ";", "/**/", "\ufeff", "-- a\n"),
  schema: constantFrom("", "main.", "temp.", "a$b.", "\"a$b\" . ", "[main].", "`main`/**/.", "'main'."),
  name: constantFrom(
    "foreign_keys",
    "\"cache_size\"",
    "[recursive_triggers]",
    "user_version",
    "query_only",
    "optimize"
  ),
  value: constantFrom("", "=0", " = 1", "(0)", "/**/(1)", "--\n=2", "\n=\n3", "=on", " ", ";", "='a'")
}).map(({ name, schema, start, value }) => `${start}pragma ${schema}${name}${value}`)

/** SQL, or what begins like it. */
export const statement: FastCheck.Arbitrary<string> = oneof(
  mutated(array(tuple(word, between), { maxLength: 10 }).map((words) => words.flat().join(""))),
  mutated(pragma),
  mutated(constantFrom(
    "select login, name from users where login = ?",
    "with x as (select 1 as a) insert into users select a, a, a from x returning login",
    "insert into users (login, name, forname) values (?, ?, ?) on conflict (login) do update set name = excluded.name",
    "insert or rollback into users values (?, ?, ?) returning *",
    "delete from users where login = :a returning rowid",
    "update users set name = cast(x'ff00' as text) where login in (select value from json_each(?))",
    "select count(*), typeof(?), quote(?), hex(?) from users group by 1 having 1 order by 1 limit ?",
    "values (1, 'a', x'00', null, 1.5), (?, ?, ?, ?, ?)",
    "create table if not exists t (a check (a <> 1), b references t (a) deferrable initially deferred)",
    "create temp view v as select * from users",
    "begin; commit",
    "savepoint a",
    "explain query plan select * from users",
    "select json_extract(?, '$.a'), ? -> 'b', ?1, ?2"
  )),
  text
)

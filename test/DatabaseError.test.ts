import { SqlError } from "@effect/sql"
import { afterAll, describe, expect, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Cause, Effect, FastCheck, Inspectable, Schema } from "effect"
import { DatabaseError, fromSqlError, Operation, Reason } from "effect-avatars/DatabaseError"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inspect } from "node:util"
import * as source from "../src/internal/errorCodes.js"

type Engine = "sqlite" | "postgres" | "mysql" | "network"
type Expected = Partial<Record<Reason, string>>

// What each code means, written down from the engines' own references and not from the source's table.

/** https://www.sqlite.org/rescode.html */
const sqlite: Expected = {
  SqlSyntaxError: "SQLITE_ERROR SQLITE_RANGE",
  UniqueViolation: "SQLITE_CONSTRAINT_UNIQUE SQLITE_CONSTRAINT_PRIMARYKEY SQLITE_CONSTRAINT_ROWID",
  ConstraintError: "SQLITE_CONSTRAINT SQLITE_MISMATCH SQLITE_TOOBIG",
  LockTimeoutError: "SQLITE_BUSY SQLITE_LOCKED SQLITE_PROTOCOL",
  SerializationError: "SQLITE_BUSY_SNAPSHOT SQLITE_ERROR_SNAPSHOT SQLITE_SCHEMA",
  StatementTimeoutError: "SQLITE_INTERRUPT",
  AuthorizationError: "SQLITE_AUTH SQLITE_PERM SQLITE_READONLY",
  ConnectionError: "SQLITE_CANTOPEN SQLITE_NOTADB SQLITE_READONLY_DBMOVED",
  UnknownError:
    `SQLITE_ABORT SQLITE_ABORT_ROLLBACK SQLITE_CORRUPT SQLITE_FULL SQLITE_INTERNAL SQLITE_IOERR SQLITE_IOERR_NOMEM SQLITE_IOERR_SHMSIZE SQLITE_MISUSE
    SQLITE_NOLFS SQLITE_NOMEM SQLITE_NOTFOUND`
}

/** https://www.postgresql.org/docs/current/errcodes-appendix.html, where two characters are a class. */
const postgres: Expected = {
  SqlSyntaxError: "0A 42 3F000",
  UniqueViolation: "23505",
  ConstraintError: "21 22 23 23P01 40002 44 54",
  DeadlockError: "40P01",
  SerializationError: "40 40001",
  LockTimeoutError: "55P03 55006",
  StatementTimeoutError: "57014 25P04",
  AuthenticationError: "28",
  AuthorizationError: "42501 25006",
  ConnectionError: "08 3D000 53300 57P01 57P02 57P03 57P04 57P05 25P03",
  UnknownError: "08007 08P01 25 40003 53100 53200 58 XX001 XX002"
}

/** https://mariadb.com/kb/en/mariadb-error-codes and https://dev.mysql.com/doc/mysql-errors/8.4/en */
const mysql: Expected = {
  SqlSyntaxError: "1046 1050 1051 1052 1054 1060 1061 1064 1091 1109 1136 1146 1149 1235 1305",
  UniqueViolation: "1022 1062 1169 1586 1859",
  ConstraintError: "1048 1216 1217 1242 1264 1265 1292 1364 1366 1406 1451 1452 1690 3819 4025",
  DeadlockError: "1213 1614 3058",
  SerializationError: "1020 3101",
  LockTimeoutError: "1205 1206 3572",
  StatementTimeoutError: "1317 1969 3024",
  AuthenticationError: "1045 1130 1251 1698 1820 1862 3118 3955 4151",
  AuthorizationError: "1044 1142 1143 1227 1290 1370 1792 1836",
  ConnectionError:
    `1040 1043 1047 1049 1053 1077 1080 1129 1152 1158 1159 1160 1161 1184 1203 1226 1927 2002 2003 2005 2006 2013
    2026 2055 3159 3168 3169
    4031`,
  UnknownError: "1021 1114 1180"
}

/** Node's os.constants.errno, dns and tls, and mysql2's own. */
const network: Expected = {
  AuthenticationError: "AUTH_SWITCH_PLUGIN_ERROR",
  AuthorizationError: "EACCES EPERM EROFS",
  StatementTimeoutError: "PROTOCOL_SEQUENCE_TIMEOUT",
  ConnectionError: `EAI_AGAIN EHOSTDOWN ELOOP EMFILE ENAMETOOLONG ENETDOWN ENOTDIR EPROTO CERT_NOT_YET_VALID
    UNABLE_TO_GET_ISSUER_CERT_LOCALLY ECONNABORTED ECONNREFUSED ECONNRESET EHOSTUNREACH ENETUNREACH ENOENT ENOTFOUND EPIPE ETIMEDOUT
    PROTOCOL_CONNECTION_LOST HANDSHAKE_NO_SSL_SUPPORT HANDSHAKE_SSL_ERROR CERT_HAS_EXPIRED DEPTH_ZERO_SELF_SIGNED_CERT
    SELF_SIGNED_CERT_IN_CHAIN UNABLE_TO_VERIFY_LEAF_SIGNATURE ERR_TLS_CERT_ALTNAME_INVALID`,
  UnknownError: "EDQUOT EIO ENOSPC"
}

const rowsOf = (tables: Partial<Record<Engine, Expected>>) =>
  Object.entries(tables).flatMap(([engine, expected]) =>
    Object.entries(expected).flatMap(([reason, codes]) =>
      codes.split(/\s+/).map((code) => [engine as Engine, code, reason as Reason] as const)
    )
  )

const rows = rowsOf({ sqlite, postgres, mysql, network })

/** Codes without a line of their own. */
const fallbacks = rowsOf({
  sqlite: {
    AuthorizationError: "SQLITE_READONLY_DIRECTORY SQLITE_AUTH_USER",
    ConnectionError: "SQLITE_CANTOPEN_ISDIR",
    ConstraintError: "SQLITE_CONSTRAINT_CHECK SQLITE_CONSTRAINT_TRIGGER SQLITE_CONSTRAINT_DATATYPE",
    LockTimeoutError: "SQLITE_BUSY_RECOVERY SQLITE_LOCKED_SHAREDCACHE",
    SqlSyntaxError: "SQLITE_ERROR_MISSING_COLLSEQ",
    UnknownError: "SQLITE_IOERR_READ SQLITE_CORRUPT_INDEX"
  },
  postgres: {
    AuthenticationError: "28P01",
    ConnectionError: "08001 08006 08ZZZ",
    ConstraintError: "22P02 23502 23503 23514",
    SerializationError: "40ZZZ",
    SqlSyntaxError: "42601 42703 42P01",
    UnknownError: "25P02 58030"
  }
})

const lines = { sqlite: source.sqlite, postgres: source.postgres, mysql: source.mysql, network: source.network }

/** The code as the driver gives it; a class of SQLSTATEs stands for its most general member. */
const own = (engine: Engine, code: string) =>
  engine === "mysql" ? Number(code) : engine === "postgres" ? code.padEnd(5, "0") : code

/** An error as better-sqlite3, pg, mysql2 or Node makes it. */
const driverError = (engine: Engine, code: string, says = "what the driver says"): Error =>
  engine === "sqlite"
    ? new Sqlite.SqliteError(says, code)
    : Object.assign(
      new Error(says),
      engine === "postgres"
        ? { severity: "ERROR", code: own(engine, code), routine: "errfinish" }
        : engine === "mysql"
        ? { errno: own(engine, code), code: "ER_NAME", sqlState: "HY000", sqlMessage: says }
        : { errno: -111, code, syscall: "connect" }
    )

const classified = (cause: unknown, operation?: Operation) => fromSqlError(new SqlError.SqlError({ cause }), operation)

const isSentence = expect.stringMatching(/^[A-Z][^\n]*\.$/)

const forAll = <A>(arbitrary: FastCheck.Arbitrary<A>, claim: (value: A) => void) =>
  FastCheck.assert(FastCheck.property(arbitrary, (value) => void claim(value)))

describe("the table of codes", () => {
  it.each(rows)("%s %s is %s", (engine, code, reason) => {
    const error = classified(driverError(engine, code))
    expect(error).toMatchObject({ reason, operation: "execute", code: own(engine, code), message: isSentence })
    expect(error.message).toContain(`(${own(engine, code)})`)
    expect(error.constraint).toBe(undefined)
    expect(error.outcome).toBe(code === "08007" || code === "40003" ? "unknown" : undefined)
  })

  it.each(Object.entries(lines))("the source has a line for each code of %s above, and no other", (engine, lines) => {
    const codes = rows.filter((row) => row[0] === engine).map(([, code]) => code)
    expect(lines.map(([code]) => String(code)).toSorted()).toEqual(codes.toSorted())
  })

  it("each code has one line, each reason a sentence of its own", () => {
    const codes = rows.map(([, code]) => code)
    expect(new Set(codes).size).toBe(codes.length)
    expect(Object.keys(source.says)).toEqual([...Reason.literals])
    expect(new Set(Object.values(source.says)).size).toBe(Reason.literals.length)
  })

  it.each(fallbacks)("%s %s, which has no line, is %s as its primary code or class", (engine, code, reason) => {
    expect(lines[engine].some(([known]) => known === code)).toBe(false)
    expect(classified(driverError(engine, code))).toMatchObject({ reason, code, message: isSentence })
  })

  it("EPIPE is no SQLSTATE, though it looks like one", () => {
    expect(classified(driverError("network", "EPIPE"))).toMatchObject({ reason: "ConnectionError", code: "EPIPE" })
  })

  it.each(
    [
      ["postgres", "ZZ123"],
      ["mysql", "9999"],
      ["network", "EWHATEVER"],
      ["sqlite", "SQLITE_WHATEVER"]
    ] as const
  )("%s %s, which nobody knows, is UnknownError", (engine, code) => {
    expect(classified(driverError(engine, code))).toMatchObject({ reason: "UnknownError", message: isSentence })
  })
})

describe("fromSqlError", () => {
  const busy = driverError("sqlite", "SQLITE_BUSY")

  it("finds a code that other errors wrap, the outermost first", () => {
    const wrap = (cause: unknown) => new Error("wrapped", { cause })
    expect(classified(wrap(wrap(wrap(busy))))).toMatchObject({ reason: "LockTimeoutError", code: "SQLITE_BUSY" })
    expect(classified(wrap(Object.assign(driverError("postgres", "40001"), { cause: busy }))).code).toBe("40001")
    expect(classified(new SqlError.SqlError({ cause: { code: "ERR_OTHER", cause: busy } })).code).toBe("SQLITE_BUSY")
  })

  it("finds the code of an AggregateError, which Node makes where a host has several addresses", () => {
    const each = ["::1", "127.0.0.1"].map((address) => driverError("network", "ECONNREFUSED", address))
    const cause = Object.assign(new AggregateError(each), { code: "ECONNREFUSED" })
    expect(classified(cause)).toMatchObject({ reason: "ConnectionError", code: "ECONNREFUSED" })
  })

  it("takes no number for a code that JSON cannot hold, or that no engine gives", () => {
    for (const number of [Number.NaN, Number.POSITIVE_INFINITY, 0.5, 2 ** 53]) {
      expect(classified({ code: number }).code).toBe(undefined)
      expect(classified({ errno: number, code: "SQLITE_BUSY" }).code).toBe("SQLITE_BUSY")
    }
  })

  it("terminates on causes that go round", () => {
    const one: { cause?: unknown } = new Error("one")
    one.cause = new Error("other", { cause: one })
    expect(classified(one)).toMatchObject({ reason: "UnknownError" })
    one.cause = one
    expect(classified(one)).toMatchObject({ reason: "UnknownError" })
  })

  it("takes what is no object for an UnknownError, whatever it says", () => {
    const numbers = [1062, Number.NaN, 1n]
    for (const cause of [undefined, null, "", "SQLITE_BUSY", "23505", ...numbers, Symbol("23505"), () => 1062]) {
      expect(Schema.encodeSync(DatabaseError)(classified(cause))).toEqual({
        _tag: "DatabaseError",
        reason: "UnknownError",
        operation: "execute",
        message: "The database did not run the statement: the reason has no name here."
      })
    }
  })

  it("makes a valid DatabaseError of whatever a cause's fields hold", () => {
    const codes = rows.flatMap(([, code]) => [code, Number(code)])
    const anything = FastCheck.oneof(
      FastCheck.anything({ withBigInt: true, withDate: true, withNullPrototype: true, withSparseArray: true }),
      FastCheck.constantFrom(...codes)
    )
    const fields = { code: anything, errno: anything, message: anything, constraint: anything, cause: anything }
    forAll(FastCheck.oneof(anything, FastCheck.record(fields, { requiredKeys: [] })), (cause) => {
      const encoded = Schema.encodeSync(DatabaseError)(classified(cause))
      expect(Schema.encodeSync(DatabaseError)(Schema.decodeUnknownSync(DatabaseError)(encoded))).toEqual(encoded)
    })
  })

  it("names the operation, each by a sentence of its own", () => {
    const errors = Operation.literals.map((operation) => classified(busy, operation))
    expect(errors.map(({ operation }) => operation)).toEqual([...Operation.literals])
    expect(new Set(errors.map(({ message }) => message.split(":")[0])).size).toBe(Operation.literals.length)
  })

  it("answers a DatabaseError inside a SqlError as it is", () => {
    const inside = new DatabaseError({ reason: "ConnectionError", operation: "acquireConnection", message: "Full." })
    expect(classified(inside, "commitTransaction")).toBe(inside)
    expect(classified(new Error("wrapped", { cause: inside }))).toBe(inside)
  })
})

const foreignKey =
  "a foreign key constraint fails (`s`.`b`, CONSTRAINT `b_ibfk_1` FOREIGN KEY (`a`) REFERENCES `a` (`id`))"

describe("constraint", () => {
  it.each(
    [
      ["sqlite", "SQLITE_CONSTRAINT_UNIQUE", "UNIQUE constraint failed: users.login", "users.login"],
      ["sqlite", "SQLITE_CONSTRAINT_PRIMARYKEY", "UNIQUE constraint failed: t.a, t.b", "t.a, t.b"],
      ["sqlite", "SQLITE_CONSTRAINT_NOTNULL", "NOT NULL constraint failed: users.name", "users.name"],
      ["sqlite", "SQLITE_CONSTRAINT_CHECK", "CHECK constraint failed: name_is_short", "name_is_short"],
      ["mysql", "1062", "Duplicate entry 'yoen' for key 'users.login'", "users.login"],
      ["mysql", "1062", "Duplicate entry 'a' for key 'b' for key 'PRIMARY'", "PRIMARY"],
      ["mysql", "1586", "Duplicate entry 'yoen' for key 'login'", "login"],
      ["mysql", "1452", `Cannot add or update a child row: ${foreignKey}`, "b_ibfk_1"],
      ["mysql", "1451", `Cannot delete or update a parent row: ${foreignKey}`, "b_ibfk_1"],
      ["mysql", "3819", "Check constraint 'users_chk_1' is violated.", "users_chk_1"],
      ["mysql", "4025", "CONSTRAINT `users_chk` failed for `shop`.`users`", "users_chk"]
    ] as const
  )("is the name in %s %s, %s", (engine, code, says, constraint) => {
    const error = classified(driverError(engine, code, says))
    expect(error.constraint).toBe(constraint)
    expect(error.message).toContain(`(${code}, ${constraint}).`)
  })

  it("is PostgreSQL's field of that name", () => {
    const cause = Object.assign(driverError("postgres", "23505"), { constraint: "users_pkey", table: "users" })
    expect(classified(cause)).toMatchObject({ reason: "UniqueViolation", constraint: "users_pkey" })
  })
})

describe("what is shown", () => {
  const shown = (error: DatabaseError) =>
    [
      String(error),
      JSON.stringify(error),
      inspect(error, { depth: 10, showHidden: true }),
      Inspectable.toStringUnknown(error),
      Cause.pretty(Cause.fail(error), { renderErrorCause: true }),
      JSON.stringify(Effect.runSyncExit(error))
    ].join("\n")

  const secret = "s3cr3t"

  const fragment = FastCheck.oneof(
    FastCheck.fullUnicodeString({ maxLength: 5 }),
    FastCheck.constantFrom(
      "'",
      "\"",
      "\n",
      " for key '",
      " CONSTRAINT `",
      "` FOREIGN KEY ",
      "UNIQUE constraint failed: "
    )
  )

  /** A user's data, with the secret among words that the engines themselves say around a constraint's name. */
  const data = FastCheck.tuple(FastCheck.array(fragment, { maxLength: 3 }), FastCheck.array(fragment, { maxLength: 3 }))
    .map(([before, after]) => [...before, secret, ...after].join(""))

  it.each<[Engine, string, (data: string) => string]>([
    ["mysql", "1062", (data) => `Duplicate entry '${data}' for key 'login'`],
    ["mysql", "1064", (data) => `You have an error in your SQL syntax near '${data}' at line 1`],
    ["mysql", "1292", (data) => `Truncated incorrect DOUBLE value: '${data}'`],
    ["mysql", "1366", (data) => `Incorrect string value: '${data}' for column 'name' at row 1`],
    ["mysql", "9999", (data) => data],
    ["postgres", "23505", () => "duplicate key value violates unique constraint \"users_pkey\""],
    ["postgres", "22P02", (data) => `invalid input syntax for type integer: "${data}"`],
    ["postgres", "P0001", (data) => data],
    ["sqlite", "SQLITE_ERROR", (data) => `near "${data}": syntax error`],
    ["sqlite", "SQLITE_ERROR", (data) => `no such column: ${data}`],
    ["sqlite", "SQLITE_CONSTRAINT_TRIGGER", (data) => data],
    ["network", "ENOENT", (data) => `ENOENT: no such file or directory, stat '${data}'`],
    ["network", "ENOTFOUND", (data) => `getaddrinfo ENOTFOUND ${data}`]
  ])("holds nothing of the driver's message, SQL or data: %s %s", (engine, code, says) =>
    forAll(data, (data) => {
      const fields = { sql: data, detail: data, where: data, hint: data, path: data, address: data, values: [data] }
      const cause = Object.assign(driverError(engine, code, says(data)), fields)
      expect(shown(classified(cause))).not.toContain(secret)
      expect(shown(classified(new Error(data, { cause }), "connect"))).not.toContain(secret)
    }))

  it.each(
    [
      ["mysql", "1292", "Truncated incorrect DOUBLE value: 'x' for key 's3cr3t'"],
      ["postgres", "22P02", "invalid input syntax for type integer: \" CONSTRAINT `s3cr3t` FOREIGN KEY \""],
      ["sqlite", "SQLITE_CONSTRAINT_TRIGGER", "UNIQUE constraint failed: s3cr3t"]
    ] as const
  )("holds no data that looks like a constraint's name: %s %s, %s", (engine, code, says) => {
    expect(shown(classified(driverError(engine, code, says)))).not.toContain(secret)
  })

  it("holds no SQL of a CHECK that has no name", () => {
    const database = new Sqlite(":memory:")
    database.exec("create table t (a check (a <> 's3cr3t'))")
    expect(shown(classified(thrown(() => database.exec("insert into t values ('s3cr3t')"))))).not.toContain(secret)
  })

  it("holds the key of a duplicate login, and not the login", () => {
    expect(classified(driverError("mysql", "1062", "Duplicate entry 'secret' for key 'login'")).message).toBe(
      "The database did not run the statement: a value that must be unique is taken (1062, login)."
    )
  })
})

describe("DatabaseError", () => {
  const retryable = new Set<Reason>(
    ["ConnectionError", "DeadlockError", "SerializationError", "LockTimeoutError", "StatementTimeoutError"]
  )

  it.each([...Reason.literals])("isRetryable tells whether %s may pass", (reason) => {
    const error = new DatabaseError({ reason, operation: "execute", message: "It failed." })
    expect(error.isRetryable).toBe(retryable.has(reason))
  })

  it("comes back from JSON as it was", () =>
    forAll(FastCheck.constantFrom(...rows), ([engine, code]) => {
      const cause = Object.assign(driverError(engine, code), { constraint: "users_pkey" })
      const error = classified(cause, "beginTransaction")
      const json: unknown = JSON.parse(JSON.stringify(Schema.encodeSync(DatabaseError)(error)))
      const back = Schema.decodeUnknownSync(DatabaseError)(json)
      expect(back).toBeInstanceOf(DatabaseError)
      expect({ ...back }).toEqual({ ...error })
      expect([back.message, back.isRetryable]).toEqual([error.message, error.isRetryable])
    }))

  it("is what an Effect that yields it fails with, and has no cause", () => {
    const error = classified(driverError("sqlite", "SQLITE_BUSY"))
    expect(Effect.runSync(Effect.flip(error))).toBe(error)
    expect(error.cause).toBe(undefined)
  })
})

const thrown = (run: () => unknown): unknown => {
  try {
    run()
  } catch (error) {
    return error
  }
  throw new Error("nothing was thrown")
}

describe("what better-sqlite3 really throws", () => {
  const directory = mkdtempSync(join(tmpdir(), "effect-avatars-"))
  afterAll(() => rmSync(directory, { recursive: true }))

  const database = new Sqlite(":memory:")
  database.exec(`
    pragma foreign_keys = on;
    create table users (login text not null primary key, name text not null, email text unique,
      age int, constraint grown_up check (age >= 18));
    create table pairs (a, b, unique (a, b));
    create table pets (id integer primary key, owner text references users (login));
    insert into users values ('yoen', 'Van der Veld', 'y@x', 40);
    insert into pairs values (1, 2);
    insert into pets values (1, 'yoen')
  `)

  it.each([
    ["a login twice", "insert into users values ('yoen', '', '', 40)", "UniqueViolation", "PRIMARYKEY", "users.login"],
    ["an id twice", "insert into pets values (1, 'yoen')", "UniqueViolation", "PRIMARYKEY", "pets.id"],
    ["an email twice", "insert into users values ('a', '', 'y@x', 40)", "UniqueViolation", "UNIQUE", "users.email"],
    ["a pair twice", "insert into pairs values (1, 2)", "UniqueViolation", "UNIQUE", "pairs.a, pairs.b"],
    ["a rowid twice", "insert into pairs (rowid) values (1)", "UniqueViolation", "ROWID", "pairs.rowid"],
    ["a NULL name", "insert into users values ('a', null, '', 40)", "ConstraintError", "NOTNULL", "users.name"],
    ["a broken CHECK", "insert into users values ('a', '', '', 4)", "ConstraintError", "CHECK", "grown_up"],
    ["a foreign key", "insert into pets values (2, 'nobody')", "ConstraintError", "FOREIGNKEY", undefined]
  ])("%s (%s) is a %s", (_, sql, reason, kind, constraint) => {
    const error = classified(thrown(() => database.exec(sql)))
    expect(error).toMatchObject({ reason, code: `SQLITE_CONSTRAINT_${kind}`, message: isSentence })
    expect(error.constraint).toBe(constraint)
  })

  it.each([
    ["no SQL", "selct 1", "SqlSyntaxError", "SQLITE_ERROR"],
    ["a missing table", "select * from nothing", "SqlSyntaxError", "SQLITE_ERROR"],
    ["a missing column", "select nothing from users", "SqlSyntaxError", "SQLITE_ERROR"],
    ["a text as an id", "insert into pets values ('one', 'yoen')", "ConstraintError", "SQLITE_MISMATCH"],
    ["a blob of 2 GB", "insert into pairs values (zeroblob(2147483647), 1)", "ConstraintError", "SQLITE_TOOBIG"]
  ])("%s (%s) is a %s", (_, sql, reason, code) => {
    expect(classified(thrown(() => database.exec(sql)))).toMatchObject({ reason, code, message: isSentence })
  })

  it("a write to a database that only answers queries is an AuthorizationError", () => {
    const readonly = new Sqlite(":memory:")
    readonly.exec("create table t (a); pragma query_only = on")
    const error = classified(thrown(() => readonly.exec("insert into t values (1)")))
    expect(error).toMatchObject({ reason: "AuthorizationError", code: "SQLITE_READONLY", isRetryable: false })
  })

  it("a full database is an UnknownError that says so", () => {
    const small = new Sqlite(":memory:")
    small.exec("create table t (a); pragma max_page_count = 2")
    const error = classified(thrown(() => small.exec("insert into t values (zeroblob(100000))")))
    expect(error).toMatchObject({ reason: "UnknownError", code: "SQLITE_FULL", isRetryable: false })
    expect(error.message).toContain("full")
  })

  it("a file that is no database is a ConnectionError, and so is a directory", () => {
    const junk = join(directory, "junk")
    writeFileSync(junk, "this is no database, however long you look at it".repeat(100))
    const database = new Sqlite(junk)
    const error = classified(thrown(() => database.prepare("select * from sqlite_schema").all()), "connect")
    database.close()
    expect(error).toMatchObject({ reason: "ConnectionError", code: "SQLITE_NOTADB", operation: "connect" })
    expect(classified(thrown(() => new Sqlite(directory)))).toMatchObject({ reason: "ConnectionError" })
  })

  it("a lock of another connection is a LockTimeoutError, a snapshot too old to write a SerializationError", () => {
    const one = new Sqlite(join(directory, "locked"), { timeout: 0 })
    const other = new Sqlite(join(directory, "locked"), { timeout: 0 })
    one.exec("pragma journal_mode = wal; create table t (a); begin immediate")
    const busy = classified(thrown(() => other.exec("begin immediate")), "beginTransaction")
    expect(busy).toMatchObject({ reason: "LockTimeoutError", code: "SQLITE_BUSY", isRetryable: true })
    one.exec("commit")
    other.exec("begin; select * from t")
    one.exec("insert into t values (1)")
    const stale = classified(thrown(() => other.exec("insert into t values (2)")))
    expect(stale).toMatchObject({ reason: "SerializationError", code: "SQLITE_BUSY_SNAPSHOT", isRetryable: true })
    other.close()
    one.close()
  })
})

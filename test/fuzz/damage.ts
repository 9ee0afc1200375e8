/** A database in which pages of every kind occur, and ways to damage it. */
import Sqlite from "better-sqlite3"
import { FastCheck } from "effect"
import * as fs from "node:fs"

const pageSize = 512

const kinds = [
  "header",
  "pointer map",
  "table interior",
  "table leaf",
  "index interior",
  "index leaf",
  "overflow",
  "freelist trunk",
  "freelist leaf"
] as const

export type Kind = (typeof kinds)[number]

const marks = 40

/** How many transactions stand in the `-wal` file: each gives all marks its number. */
export const commits = 6

/** 2 400 users, some with names that overflow, an index of logins, pages that are free. */
export const makeDatabase = (file: string): void => {
  const db = new Sqlite(file)
  db.exec(`
    pragma page_size = ${pageSize};
    pragma auto_vacuum = incremental;
    create table users (login text not null primary key, name text not null, forname text not null);
    create table spare (a);
    with recursive n(i) as (select 0 union all select i + 1 from n where i < 2399)
    insert into users
    select printf('user%05d', i), 'Name of ' || i || iif(i % 300 = 0, printf('%.3000c', 'x'), ''), 'Forname' from n;
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 300)
    insert into spare select zeroblob(400) from n;
    with recursive n(i) as (select 1 union all select i + 1 from n where i < ${marks})
    insert into users select 'mark' || i || printf('%.200c', 'x'), '0', '' from n;
    delete from spare;
  `)
  db.close()
}

/** The same in WAL mode with transactions that are in the `-wal` file alone. */
export const makeWithWal = (file: string): void => {
  makeDatabase(`${file}.made`)
  const db = new Sqlite(`${file}.made`)
  db.pragma("journal_mode = wal")
  db.pragma("wal_autocheckpoint = 0")
  for (let i = 1; i <= commits; i++) {
    db.prepare("update users set name = ? where login like 'mark%'").run(String(i))
  }
  fs.copyFileSync(`${file}.made`, file)
  fs.copyFileSync(`${file}.made-wal`, `${file}-wal`)
  db.close()
}

/** The numbers of its pages, from 1, by their kinds. */
export const pagesOf = (bytes: Buffer): ReadonlyMap<Kind, ReadonlyArray<number>> => {
  const pages = new Map<Kind, Array<number>>(kinds.map((kind) => [kind, []]))
  const free = new Map<number, Kind>()
  for (let trunk = bytes.readUInt32BE(32); trunk !== 0;) {
    const start = (trunk - 1) * pageSize
    free.set(trunk, "freelist trunk")
    for (let i = 0; i < bytes.readUInt32BE(start + 4); i++) {
      free.set(bytes.readUInt32BE(start + 8 + 4 * i), "freelist leaf")
    }
    trunk = bytes.readUInt32BE(start)
  }
  const byType: Readonly<Record<number, Kind>> = {
    2: "index interior",
    5: "table interior",
    10: "index leaf",
    13: "table leaf"
  }
  const perMap = Math.floor(pageSize / 5)
  for (let page = 1; page <= bytes.length / pageSize; page++) {
    const kind = page === 1
      ? "header"
      : (page - 2) % (perMap + 1) === 0
      ? "pointer map"
      : free.get(page) ?? byType[bytes[(page - 1) * pageSize]!] ?? "overflow"
    pages.get(kind)!.push(page)
  }
  return pages
}

interface Change {
  readonly how: "flip" | "byte" | "word" | "pair" | "zero" | "copy"
  readonly at: number
  readonly value: number
}

/** What is done to one page, or with the whole file. */
export interface Damage {
  readonly kind: Kind
  readonly page: number
  readonly changes: ReadonlyArray<Change>
  /** Of its length, so much is kept. */
  readonly length: number | undefined
}

const { array, constantFrom, double, integer, nat, oneof, option, record } = FastCheck

const change: FastCheck.Arbitrary<Change> = record({
  how: constantFrom("flip", "flip", "byte", "byte", "word", "word", "pair", "zero", "copy"),
  // The beginning of a page says how to read the rest.
  at: oneof(integer({ min: 0, max: 24 }), integer({ min: 0, max: 110 }), integer({ min: 0, max: pageSize - 4 })),
  value: oneof(nat(), integer({ min: 0, max: 700 }), constantFrom(0, 1, 255, 65_535, 0x7fffffff, 0xffffffff))
})

const length = oneof(
  double({ min: 0, max: 1, noNaN: true }),
  constantFrom(0, 1, 16, 99, 100, 511, 512, 513, 1_024).map((bytes) => -bytes)
)

export const damage: FastCheck.Arbitrary<Damage> = record({
  kind: constantFrom(...kinds),
  page: nat(1_000),
  changes: array(change, { maxLength: 4 }),
  length: option(length, { nil: undefined, freq: 8 })
})

const apply = (bytes: Buffer, start: number, alike: ReadonlyArray<number>, { at, how, value }: Change): void => {
  const page = bytes.subarray(start, start + pageSize)
  switch (how) {
    case "flip":
      page[at]! ^= 1 << (value & 7)
      return
    case "byte":
      page[at] = value & 255
      return
    case "word":
      page.writeUInt32BE(value >>> 0, at)
      return
    case "pair":
      page.writeUInt16BE(value & 0xffff, at)
      return
    case "zero":
      page.fill(0)
      return
    case "copy":
      bytes.copy(page, 0, alike[value % alike.length]!, alike[value % alike.length]! + pageSize)
  }
}

const cut = (bytes: Buffer, length: number | undefined): Buffer =>
  length === undefined
    ? bytes
    : bytes.subarray(0, length <= 0 ? Math.min(-length, bytes.length) : Math.floor(length * bytes.length))

export const damaged = (
  original: Buffer,
  pages: ReadonlyMap<Kind, ReadonlyArray<number>>,
  { changes, kind, length, page }: Damage
): Buffer => {
  const bytes = Buffer.from(original)
  const starts = pages.get(kind)!.map((page) => (page - 1) * pageSize)
  changes.forEach((change) => apply(bytes, starts[page % starts.length]!, starts, change))
  return cut(bytes, length)
}

/** Of a `-wal` file, which has a header of 32 bytes and one of 24 before each page. */
export const damagedWal = (original: Buffer, { changes, length, page }: Damage): Buffer => {
  const bytes = Buffer.from(original)
  const frame = pageSize + 24
  const frames = Math.floor((bytes.length - 32) / frame)
  const starts = Array.from({ length: frames }, (_, i) => 32 + frame * i)
  const start = page % 8 === 0 ? 0 : starts[page % frames]!
  changes.forEach((change) => apply(bytes, start, starts, change))
  return cut(bytes, length)
}

/** A database with all pages that stand in a `-wal` file, whole or not. */
export const withPagesOf = (database: Buffer, wal: Buffer): Buffer => {
  const bytes = Buffer.from(database)
  for (let at = 32; at + 24 + pageSize <= wal.length; at += 24 + pageSize) {
    const page = wal.readUInt32BE(at)
    if (page >= 1 && page * pageSize <= bytes.length) {
      wal.copy(bytes, (page - 1) * pageSize, at + 24, at + 24 + pageSize)
    }
  }
  // Not in WAL mode, so that there is nothing else to read.
  return bytes.fill(1, 18, 20)
}

/** The users that every system holds and answers, and what shows that it answered them. */
import Sqlite from "better-sqlite3"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

/** A new folder that goes with the process. */
export const temporaryFolder = () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "effect-avatars-bench-"))
  process.on("exit", () => fs.rmSync(folder, { recursive: true, force: true }))
  process.once("SIGINT", () => process.exit(130))
  process.once("SIGTERM", () => process.exit(143))
  return folder
}

/** The user at a place of the table, with a name that is not ASCII. */
export const userAt = (place) => ({
  login: `user${String(place).padStart(8, "0")}`,
  name: `Garcia Marquez ${place}`,
  forname: `Estebán ${place}`
})

/** Writes a database in WAL mode with `count` users. */
export const writeUsers = (file, count) => {
  const db = new Sqlite(file)
  db.pragma("journal_mode = WAL")
  db.exec(`
    create table users (login text not null primary key, name text not null, forname text not null);
    insert into users with recursive n(i) as (select 0 union all select i + 1 from n where i < ${count - 1})
    select printf('user%08d', i), 'Garcia Marquez ' || i, 'Estebán ' || i from n;
  `)
  db.pragma("wal_checkpoint(TRUNCATE)")
  db.close()
}

/** Places spread over the whole table, each once as long as there are enough. */
const placesOf = (count, users) => Array.from({ length: count }, (_, i) => (i * 7919) % users)

export const loginsOf = (count, users) => placesOf(count, users).map((place) => userAt(place).login)

/**
 * A fingerprint of answers in their order, which the child makes of what it was told, and the parent of what is right.
 */
export const digestOf = (avatars) => {
  const hash = createHash("sha256")
  for (const { forname, login, name } of avatars) {
    hash.update(`${login}\0${name}\0${forname}\n`)
  }
  return hash.digest("hex")
}

export const rightDigest = (count, users) => digestOf(placesOf(count, users).map(userAt))

/** better-sqlite3-pool: worker threads, one statement a message. */
import pool from "better-sqlite3-pool"
import { inTurn } from "./inTurn.mjs"

export const open = async (file) => {
  const db = await pool.Database.create(file, { minWorkers: 2, maxWorkers: 4 })
  await db.pragma("journal_mode = WAL")
  await db.pragma("synchronous = FULL")
  const select = db.prepare("select login, name, forname from users where login = ?")
  const insert = db.prepare("insert into users (login, name, forname) values (?, ?, ?)")
  return {
    lookUp: inTurn((login) => select.get(login)),
    create: inTurn(({ forname, login, name }) => insert.run(login, name, forname)),
    query: (text) => db.prepare(text).all(),
    close: () => db.close()
  }
}

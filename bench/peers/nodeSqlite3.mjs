/** node-sqlite3: one connection, whose statements run on libuv's threads. */
import sqlite3 from "sqlite3"
import { promisify } from "node:util"
import { inTurn } from "./inTurn.mjs"

export const open = async (file) => {
  const db = await new Promise((resolve, reject) => {
    const db = new sqlite3.Database(file, (error) => error ? reject(error) : resolve(db))
  })
  await promisify(db.exec.bind(db))("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
  const select = db.prepare("select login, name, forname from users where login = ?")
  const insert = db.prepare("insert into users (login, name, forname) values (?, ?, ?)")
  const get = promisify(select.get.bind(select))
  const run = promisify(insert.run.bind(insert))
  return {
    lookUp: inTurn((login) => get(login)),
    create: inTurn(({ forname, login, name }) => run(login, name, forname)),
    query: promisify(db.all.bind(db)),
    close: async () => {
      select.finalize()
      insert.finalize()
      await promisify(db.close.bind(db))()
    }
  }
}

/** better-sqlite3: synchronous, so that the number of lookups at once makes no difference to it. */
import Sqlite from "better-sqlite3"
import { Schema } from "effect"
import { Avatar } from "effect-avatars"

const oneByLogin = "select login, name, forname from users where login = ?"

const connect = (file) => {
  const db = new Sqlite(file)
  db.pragma("journal_mode = WAL")
  db.pragma("synchronous = FULL")
  return db
}

/** A prepared `get` in a loop, whose rows are left as they are. */
export const bare = (file) => {
  const db = connect(file)
  const get = db.prepare(oneByLogin)
  const insert = db.prepare("insert into users (login, name, forname) values (?, ?, ?)")
  return {
    lookUp: (logins) => logins.map((login) => get.get(login)),
    create: (avatars) => avatars.forEach(({ forname, login, name }) => insert.run(login, name, forname)),
    query: (text) => db.prepare(text).all(),
    close: () => db.close()
  }
}

/** The same, each row decoded to the `Avatar` that the repository answers. */
export const decoding = (file) => {
  const db = connect(file)
  const get = db.prepare(oneByLogin)
  const all = db.prepare("select login, name, forname from users order by login")
  const decode = Schema.decodeUnknownSync(Avatar.Avatar)
  return {
    lookUp: (logins) => logins.map((login) => decode(get.get(login))),
    readAll: () => {
      let count = 0
      for (const row of all.iterate()) {
        decode(row)
        count += 1
      }
      return count
    },
    close: () => db.close()
  }
}

/** One statement for as many logins as would be looked up at once. */
export const join = (file) => {
  const db = connect(file)
  const all = db.prepare("select u.* from json_each(?) j join users u on u.login = j.value")
  return {
    lookUp: (logins, concurrency) => {
      const rows = []
      for (let start = 0; start < logins.length; start += concurrency) {
        rows.push(...all.all(JSON.stringify(logins.slice(start, start + concurrency))))
      }
      return rows
    },
    close: () => db.close()
  }
}

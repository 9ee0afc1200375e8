/** drizzle-orm on better-sqlite3: a prepared query, synchronous. */
import Sqlite from "better-sqlite3"
import { eq, sql } from "drizzle-orm"
import { drizzle } from "drizzle-orm/better-sqlite3"
import { sqliteTable, text } from "drizzle-orm/sqlite-core"

const users = sqliteTable("users", {
  login: text().primaryKey(),
  name: text().notNull(),
  forname: text().notNull()
})

export const open = (file) => {
  const client = new Sqlite(file)
  client.pragma("journal_mode = WAL")
  const db = drizzle({ client })
  const prepared = db.select().from(users).where(eq(users.login, sql.placeholder("login"))).prepare()
  return {
    lookUp: (logins) => logins.map((login) => prepared.get({ login })),
    close: () => client.close()
  }
}

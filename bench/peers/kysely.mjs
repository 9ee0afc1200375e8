/** kysely on better-sqlite3: promises over the synchronous driver. */
import Sqlite from "better-sqlite3"
import { Kysely, SqliteDialect } from "kysely"
import { inTurn } from "./inTurn.mjs"

export const open = (file) => {
  const database = new Sqlite(file)
  database.pragma("journal_mode = WAL")
  const db = new Kysely({ dialect: new SqliteDialect({ database }) })
  return {
    lookUp: inTurn((login) =>
      db.selectFrom("users").select(["login", "name", "forname"]).where("login", "=", login).executeTakeFirstOrThrow()
    ),
    close: () => db.destroy()
  }
}

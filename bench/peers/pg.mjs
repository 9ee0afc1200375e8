/** The bare driver of PostgreSQL: a pool of ten, one statement a lookup. */
import { Pool } from "pg"
import { inTurn } from "./inTurn.mjs"

export const open = async (url) => {
  const pool = new Pool({ connectionString: url, max: 10 })
  return {
    lookUp: inTurn(async (login) => {
      const { rows } = await pool.query("select login, name, forname from users where login = $1", [login])
      return rows[0]
    }),
    close: () => pool.end()
  }
}

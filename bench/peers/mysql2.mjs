/** The bare driver of MariaDB and MySQL: a pool of ten, one statement a lookup. */
import mysql from "mysql2/promise"
import { inTurn } from "./inTurn.mjs"

export const open = async (url) => {
  const pool = mysql.createPool({ uri: url, connectionLimit: 10 })
  return {
    lookUp: inTurn(async (login) => {
      const [rows] = await pool.query("select login, name, forname from users where login = ?", [login])
      return rows[0]
    }),
    close: () => pool.end()
  }
}

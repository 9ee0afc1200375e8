/** `@libsql/client` on a local file. */
import { createClient } from "@libsql/client"
import { inTurn } from "./inTurn.mjs"

export const open = async (file) => {
  const client = createClient({ url: `file:${file}` })
  await client.execute("PRAGMA journal_mode = WAL")
  await client.execute("PRAGMA synchronous = FULL")
  const lookUp = async (login) => {
    const { rows } = await client.execute({
      sql: "select login, name, forname from users where login = ?",
      args: [login]
    })
    return rows[0]
  }
  const create = ({ forname, login, name }) =>
    client.execute({
      sql: "insert into users (login, name, forname) values (?, ?, ?)",
      args: [login, name, forname]
    })
  return {
    lookUp: inTurn(lookUp),
    create: inTurn(create),
    query: async (text) => (await client.execute(text)).rows,
    close: () => client.close()
  }
}

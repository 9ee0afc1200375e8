/** Which file a database is. One that was deleted or replaced while it is open would take writes and lose them, unseen by SQLite. */
import Sqlite from "better-sqlite3"
import * as fs from "node:fs"

/** What the file is on its disk, where there is one. */
export const identityOf = (filename: string): string | undefined => {
  const file = fs.statSync(filename, { throwIfNoEntry: false, bigint: true })
  return file === undefined ? undefined : `${file.dev}:${file.ino}`
}

export const checkIdentity = (filename: string, identity: string | undefined): void => {
  if (identityOf(filename) !== identity) {
    throw new Sqlite.SqliteError(
      "the database file was deleted or replaced while it was open",
      "SQLITE_READONLY_DBMOVED"
    )
  }
}

/** New files for databases, which nobody but this user may read: SQLite would make them as the umask says. */
import { randomUUID } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"

/**
 * Makes an empty file of mode 0600, where there is none. SQLite takes it for an empty database, and gives `-wal`, `-shm` and `-journal` its
 * mode. Answers whether it was made; where it cannot be, SQLite says why.
 *
 * It is closed before it gets its name: another connection of this process would lose its locks if a descriptor of its file was closed.
 */
export const makePrivate = (file: string): boolean => {
  try {
    const target = destinationOf(file)
    if (target === undefined) {
      return false
    }
    const nameless = path.join(path.dirname(target), `.${randomUUID()}`)
    fs.closeSync(fs.openSync(nameless, "wx", 0o600))
    try {
      return named(nameless, target)
    } finally {
      fs.rmSync(nameless, { force: true })
    }
  } catch {
    return false
  }
}

/** Where a file would be made; nowhere if there is one. A link that leads to none is followed, as SQLite does. */
const destinationOf = (file: string): string | undefined => {
  if (fs.statSync(file, { throwIfNoEntry: false }) !== undefined) {
    return undefined
  }
  const isLink = fs.lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() === true
  return isLink ? destinationOf(path.resolve(fs.realpathSync(path.dirname(file)), fs.readlinkSync(file))) : file
}

/** A file that has the name keeps it: whoever was first has made it. */
const named = (nameless: string, target: string): boolean => {
  try {
    fs.linkSync(nameless, target)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") {
      return false
    }
    // A file system that knows no second name of a file.
    fs.closeSync(fs.openSync(target, "wx", 0o600))
  }
  return true
}

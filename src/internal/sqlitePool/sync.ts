/** What makes a finished file survive the loss of power. */
import * as fs from "node:fs/promises"
import * as path from "node:path"

/** Only after this it is sure which files are in it. As for SQLite it is no failure that a directory cannot be synced, unless its disk fails. */
export const syncDirectoryOf = async (file: string): Promise<void> => {
  try {
    const directory = await fs.open(path.dirname(file))
    try {
      await directory.sync()
    } finally {
      await directory.close()
    }
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EIO") {
      throw error
    }
  }
}

/**
 * Every system: where its peer module is, which of its openers, whether it leaves the event loop free while a statement
 * runs (the plot of delays shows it), and which are the asynchronous drivers for Node. `@libsql/client` answers by
 * promises, but works on its caller's thread.
 */
export const systems = {
  "effect-avatars": { module: "effectAvatars", opener: "repository", kind: "ours" },
  "effect-avatars, plain sql": { module: "effectAvatars", opener: "template", kind: "ours" },
  "better-sqlite3 get": { module: "betterSqlite3", opener: "bare", kind: "blocking" },
  "better-sqlite3 get, decoded": { module: "betterSqlite3", opener: "decoding", kind: "blocking" },
  "better-sqlite3 json_each": { module: "betterSqlite3", opener: "join", kind: "blocking" },
  "@effect/sql-sqlite-node sql": { module: "effectSqliteNode", opener: "template", kind: "blocking" },
  "@effect/sql-sqlite-node findOne": { module: "effectSqliteNode", opener: "findOne", kind: "blocking" },
  "@effect/sql-sqlite-node findById": { module: "effectSqliteNode", opener: "findById", kind: "blocking" },
  "drizzle-orm": { module: "drizzle", opener: "open", kind: "blocking" },
  "kysely": { module: "kysely", opener: "open", kind: "blocking" },
  "@libsql/client": { module: "libsql", opener: "open", kind: "blocking", isAsynchronous: true },
  "better-sqlite3-pool": { module: "betterSqlite3Pool", opener: "open", kind: "free", isAsynchronous: true },
  "node-sqlite3": { module: "nodeSqlite3", opener: "open", kind: "free", isAsynchronous: true },
  "Twisted adbapi": { python: "adbapi.py", kind: "free" }
}

/** Those of servers, whose "file" is a URL. */
export const serverSystems = {
  "effect-avatars on PostgreSQL": { module: "effectAvatars", opener: "server" },
  "pg": { module: "pg", opener: "open" },
  "effect-avatars on MariaDB": { module: "effectAvatars", opener: "server" },
  "mysql2": { module: "mysql2", opener: "open" }
}

/** How many lookups or creates are under way at once. */
export const concurrencies = [1, 16, 64, 256]

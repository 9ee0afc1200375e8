/** Every system: where its peer module is, which of its openers, and whether its statements leave the event loop's thread. */
export const systems = {
  "effect-avatars": { module: "effectAvatars", opener: "repository", kind: "ours" },
  "effect-avatars, plain sql": { module: "effectAvatars", opener: "template", kind: "ours" },
  "better-sqlite3 get": { module: "betterSqlite3", opener: "bare", kind: "synchronous" },
  "better-sqlite3 get, decoded": { module: "betterSqlite3", opener: "decoding", kind: "synchronous" },
  "better-sqlite3 json_each": { module: "betterSqlite3", opener: "join", kind: "synchronous" },
  "sql-sqlite-node template": { module: "effectSqliteNode", opener: "template", kind: "synchronous" },
  "sql-sqlite-node findOne": { module: "effectSqliteNode", opener: "findOne", kind: "synchronous" },
  "sql-sqlite-node findById": { module: "effectSqliteNode", opener: "findById", kind: "synchronous" },
  "drizzle": { module: "drizzle", opener: "open", kind: "synchronous" },
  "kysely": { module: "kysely", opener: "open", kind: "synchronous" },
  "better-sqlite3-pool": { module: "betterSqlite3Pool", opener: "open", kind: "asynchronous" },
  "libsql": { module: "libsql", opener: "open", kind: "asynchronous" },
  "node-sqlite3": { module: "nodeSqlite3", opener: "open", kind: "asynchronous" },
  "adbapi": { python: "adbapi.py", kind: "original" }
}

/** A write is made once: whatever others do between its statements, it writes over nothing that came after it. */
import { MysqlClient } from "@effect/sql-mysql2"
import { Reactivity } from "@effect/experimental"
import { assert, describe } from "@effect/vitest"
import { type DatabaseError } from "effect-avatars"
import { Effect, Redacted } from "effect"
import { ask, avatar, claimOn, clients, type Db, did, legacyTable, login } from "./lookups.js"
import { claimOnServer, mariadb, repositoryOver, withOptions } from "./servers.js"

/** Somebody else's write, when the first statement of what follows has run. */
const afterFirst = ({ observed }: Db, others: Effect.Effect<void, { readonly _tag: string }>) => {
  let isFirst = true
  observed.after = () =>
    Effect.suspend(() => {
      const now = isFirst ? Effect.orDie(others) : Effect.void
      isFirst = false
      return now
    })
}

for (const client of clients) {
  const claim = claimOn(client)

  describe(`on ${client.name}`, () => {
    claim("an upsert that adds a user writes over no update that came after it", function*(db) {
      afterFirst(db, db.users.update(avatar("yoen", "theirs")))
      yield* db.observed.users.upsert(avatar("yoen", "mine"))
      assert.strictEqual(yield* ask(db.users, "yoen"), "theirs")
    })

    claim("an upsert that adds a user adds none who was removed after it", function*(db) {
      afterFirst(db, db.users.remove(login("yoen")))
      yield* db.observed.users.upsert(avatar("yoen", "mine"))
      assert.strictEqual(yield* ask(db.users, "yoen"), "UserNotFound")
    })

    claim("an update that says that it was made was made, also where the user is added beside it", function*(db) {
      afterFirst(db, db.users.create(avatar("yoen", "theirs")))
      const outcome = yield* did(db.observed.users.update(avatar("yoen", "mine")))
      assert.deepInclude([["done", "mine"], ["UserNotFound", "theirs"]], [outcome, yield* ask(db.users, "yoen")])
    })
  })
}

for (const flags of ["", "flags=-FOUND_ROWS"]) {
  claimOnServer(mariadb)(
    `a client of MariaDB with '${flags}' writes what is there already, and no other's row`,
    (url) =>
      Effect.gen(function*() {
        const sql = yield* MysqlClient.make({ url: Redacted.make(withOptions(url, flags)) })
        const users = yield* repositoryOver(sql)
        yield* sql`create table users (login int)`
        yield* legacyTable(
          sql,
          "id bigint auto_increment primary key, login varchar(40) collate utf8mb4_general_ci unique"
        )
        for (let i = 0; i < 2; i++) {
          yield* users.upsert(avatar("yoen"))
          yield* users.update(avatar("yoen"))
        }
        const { affectedRows } = (yield* sql`update users set name = name`.raw) as { readonly affectedRows: number }
        assert.strictEqual(affectedRows, flags === "" ? 1 : 0)
        const error: DatabaseError.DatabaseError = yield* Effect.flip(users.upsert(avatar("YOEN")))
        assert.strictEqual(error.reason, "UniqueViolation")
        assert.strictEqual(yield* did(users.update(avatar("YOEN"))), "UserNotFound")
        yield* users.upsert(avatar("other"))
        assert.strictEqual(yield* ask(users, "yoen"), "Name of yoen")
        assert.strictEqual(yield* ask(users, "other"), "Name of other")
      }).pipe(Effect.provide(Reactivity.layer))
  )
}

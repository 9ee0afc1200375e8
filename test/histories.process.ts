/**
 * The part that another process has in histories: `<file of the database>`. It says `ready`, reads the names of histories, makes its calls while
 * its threads die, and says each history in a line of JSON.
 */
import { Effect, Logger } from "effect"
import { createInterface } from "node:readline"
import { record } from "./histories.js"
import { openPools } from "./histories.pools.js"

const [filename] = process.argv.slice(2)

const program = Effect.gen(function*() {
  const { clients } = yield* openPools(filename!, 1)
  const names = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  console.log("ready")
  for (;;) {
    const name = yield* Effect.promise(() => names.next())
    if (name.done === true) {
      return
    }
    const history = yield* record({ clients, name: name.value, by: "there", fibers: 8, calls: 20 })
    console.log(JSON.stringify(history))
  }
})

await Effect.runPromise(Effect.provide(Effect.scoped(program), Logger.remove(Logger.defaultLogger)))

/** The drivers of `@effect/sql`'s clients: loaded when a URL asks for one, from where the client's package has it. */
import * as Effect from "effect/Effect"
import { createRequire } from "node:module"
import { DatabaseError, fromUnknown } from "../../DatabaseError.js"

/** What a module of the client's package and its driver export. Strict package managers show the driver to nobody but that package. */
export const load = <Client, Driver>(
  name: string,
  client: () => Promise<Client>,
  driver: string
): Effect.Effect<{ readonly client: Client; readonly driver: Driver }, DatabaseError> =>
  Effect.tryPromise({
    try: async () => ({
      client: await client(),
      driver: createRequire(createRequire(import.meta.url).resolve(name))(driver) as Driver
    }),
    catch: (error) =>
      isMissing(error)
        ? new DatabaseError({
          reason: "ConnectionError",
          operation: "connect",
          message: `The database's driver is not installed: npm install ${name}@^0.53.`
        })
        : fromUnknown(error, { operation: "connect", subject: `The package ${name} could not be loaded` })
  })

const isMissing = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "code" in error &&
  (error.code === "ERR_MODULE_NOT_FOUND" || error.code === "MODULE_NOT_FOUND")

/** A driver's error with the code that it forgot, so that the table of codes tells what it means. */
export const withCode = (error: unknown, codes: ReadonlyArray<readonly [pattern: RegExp, code: string]>): unknown => {
  if (!(error instanceof Error) || ("code" in error && error.code !== undefined)) {
    return error
  }
  const code = codes.find(([pattern]) => pattern.test(error.message))?.[1]
  return code === undefined ? error : Object.assign(error, { code })
}

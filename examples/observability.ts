/**
 * Metrics and traces: the pool's metrics and the spans of the repository and of each statement go to a collector by OTLP, with
 * `@effect/opentelemetry`. The collector here is a server of this process that counts what it gets.
 *
 * Prints
 *
 *     spans: AvatarRepository.create, AvatarRepository.getUserAvatar, AvatarRepository.lookups, program, sql.execute
 *     metrics: count, create_time, max, pending_requests, use_time, wait_time
 */
import { FetchHttpClient } from "@effect/platform"
import { Otlp } from "@effect/opentelemetry"
import { Effect, Layer } from "effect"
import { Avatar, AvatarRepository, Database } from "effect-avatars"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

const yoen = Avatar.Avatar.make({ login: Avatar.Login.make("yoen"), name: "Van der Veld", forname: "Yoen" })

const program = Effect.gen(function*() {
  const users = yield* AvatarRepository.AvatarRepository
  yield* users.create(yoen)
  yield* users.getUserAvatar(yoen.login)
}).pipe(Effect.withSpan("program"))

const names = { spans: new Set<string>(), metrics: new Set<string>() }

const collector = createServer((request, response) => {
  let body = ""
  request.on("data", (part) => body += part)
  request.on("end", () => {
    const found = Array.from(
      body.matchAll(/"name":"((?:AvatarRepository|sql|program|db)[\w.]*)"/g),
      ([, name]) => name!
    )
    found.forEach((name) => names[request.url === "/v1/traces" ? "spans" : "metrics"].add(name))
    response.end("{}")
  })
})
await new Promise<void>((listening) => collector.listen(0, listening))

const Telemetry = Otlp.layerJson({
  baseUrl: `http://localhost:${(collector.address() as AddressInfo).port}`,
  resource: { serviceName: "effect-avatars-example" }
}).pipe(Layer.provide(FetchHttpClient.layer))

const Users = Layer.provide(AvatarRepository.layer, Database.layer("sqlite::memory:"))

// What is not sent yet is sent when the layer ends.
await program.pipe(Effect.provide(Users), Effect.provide(Telemetry), Effect.runPromise)
collector.close()

const connections = Array.from(names.metrics, (name) => /^db\.client\.connection\.(\w+)$/.exec(name)?.[1] ?? "")
console.log(`spans: ${Array.from(names.spans).toSorted().join(", ")}`)
console.log(`metrics: ${connections.filter((name) => name !== "").toSorted().join(", ")}`)

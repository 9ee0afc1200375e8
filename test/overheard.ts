/** Everything that a program could tell about itself while an effect runs: what it logs, prints, traces and counts. */
import { Cause, Effect, Exit, Layer, Logger, LogLevel, Metric, Tracer } from "effect"
import { inspect } from "node:util"

/** As people and programs print a value, as far down as it goes. */
export const printed = (value: unknown): string => {
  const texts = [
    inspect(value, { depth: 30, showHidden: true, maxStringLength: null, maxArrayLength: null, getters: true })
  ]
  try {
    texts.push(String(value), JSON.stringify(value))
  } catch {
    // Some values know neither.
  }
  if (Exit.isExit(value) && Exit.isFailure(value)) {
    const { cause } = value
    texts.push(Cause.pretty(cause, { renderErrorCause: true }), printed(Cause.squash(cause)))
  }
  if (value instanceof Error) {
    texts.push(value.stack ?? "", value.message)
  }
  return texts.join("\n")
}

export interface Overheard {
  readonly logged: Array<string>
  /** What console and the standard streams were given. */
  readonly printed: Array<string>
  /** Names, attributes, events and links of spans. */
  readonly traced: Array<string>
  /** How spans ended. */
  readonly ended: Array<string>
  readonly metrics: string
}

const consoleMethods = ["debug", "error", "info", "log", "trace", "warn"] as const

/** Runs an effect with all log levels on, a tracer, and every way to print watched: how it ended, and what was overheard. */
export const overhear = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<readonly [Exit.Exit<A, E>, Overheard], never, R> =>
  Effect.gen(function*() {
    const heard = {
      logged: [] as Array<string>,
      printed: [] as Array<string>,
      traced: [] as Array<string>,
      ended: [] as Array<string>
    }
    const methods = { ...console }
    const onWarning = (warning: Error) => void heard.printed.push(printed(warning))
    const streams = [process.stdout, process.stderr].map((stream) => [stream, stream.write] as const)
    const logger = Logger.make((entry) =>
      void heard.logged.push(
        printed(entry.message),
        Cause.pretty(entry.cause),
        printed([...entry.annotations]),
        printed(entry.spans)
      )
    )
    const loggers = Layer.mergeAll(Logger.add(logger), Logger.json, Logger.minimumLogLevel(LogLevel.All))
    const exit = yield* Effect.acquireUseRelease(
      Effect.sync(() => {
        consoleMethods.forEach((name) =>
          console[name] = (...said: Array<unknown>) => void heard.printed.push(printed(said))
        )
        streams.forEach(([stream]) => stream.write = (said: unknown) => heard.printed.push(String(said)) > 0)
        process.on("warning", onWarning)
      }),
      () => Effect.exit(effect).pipe(Effect.withTracer(tracerInto(heard)), Effect.provide(loggers)),
      () =>
        Effect.sync(() => {
          Object.assign(console, methods)
          streams.forEach(([stream, write]) => stream.write = write)
          process.off("warning", onWarning)
        })
    )
    return [exit, { ...heard, metrics: printed(Metric.unsafeSnapshot()) }] as const
  })

const tracerInto = (heard: Pick<Overheard, "traced" | "ended">) => {
  let spans = 0
  return Tracer.make({
    span: (name, parent, context, links, startTime, kind) => {
      const attributes = new Map<string, unknown>()
      heard.traced.push(name, printed(links))
      return {
        _tag: "Span",
        spanId: String(spans++),
        traceId: "trace",
        sampled: true,
        name,
        parent,
        context,
        links,
        kind,
        attributes,
        status: { _tag: "Started", startTime },
        attribute: (key, value) => {
          attributes.set(key, value)
          heard.traced.push(`${key} = ${printed(value)}`)
        },
        event: (name, _, attributes) => void heard.traced.push(name, printed(attributes)),
        addLinks: (links) => void heard.traced.push(printed(links)),
        end: (_, exit) => void heard.ended.push(printed(exit))
      }
    },
    context: (run) => run()
  })
}

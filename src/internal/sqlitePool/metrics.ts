/**
 * What a pool tells about itself, by the names and units of OpenTelemetry's semantic conventions for database clients
 * (opentelemetry.io/docs/specs/semconv/database/database-metrics). Times are seconds.
 */
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"

/** A pool's numbers at one moment. */
export interface Stats {
  /** Reader threads that are open, and how many of them have work or are leased. */
  readonly readers: { readonly open: number; readonly used: number; readonly leased: number; readonly max: number }
  readonly writer: { readonly open: number; readonly used: number; readonly leased: number }
  /** Statements and leases that wait for a connection. */
  readonly pending: number
  /** Threads that died and were replaced. */
  readonly deaths: number
  /** Threads whose statement did not end in time, and that are still running it. */
  readonly abandoned: number
}

const boundaries = MetricBoundaries.fromIterable([0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10])

export type Metrics = ReturnType<typeof makeMetrics>

export const makeMetrics = (poolName: string) => {
  const tags = (more: Record<string, string>) =>
    Object.entries({ "pool.name": poolName, ...more }).map(([key, value]) => MetricLabel.make(key, value))
  // By their keys: a metric that is tagged later looks its hook up again at each update.
  const gauge = (name: string, description: string, more: Record<string, string> = {}) =>
    Metric.fromMetricKey(MetricKey.taggedWithLabels(MetricKey.gauge(name, { description }), tags(more)))
  const histogram = (name: string, description: string, more: Record<string, string> = {}) => {
    const key = MetricKey.taggedWithLabels(MetricKey.histogram(name, boundaries, description), tags(more))
    const metric = Metric.fromMetricKey(key)
    return (milliseconds: number) => metric.unsafeUpdate(milliseconds / 1_000, [])
  }
  const count = (role: string, state: string) =>
    gauge("db.client.connection.count", "Connections that are open", { role, state })
  const connections = {
    idleReaders: count("reader", "idle"),
    usedReaders: count("reader", "used"),
    idleWriters: count("writer", "idle"),
    usedWriters: count("writer", "used"),
    max: gauge("db.client.connection.max", "Connections that may be open"),
    pending: gauge("db.client.connection.pending_requests", "Statements and leases that wait for a connection")
  }
  const timeouts = Metric.fromMetricKey(MetricKey.taggedWithLabels(
    MetricKey.counter("db.client.connection.timeouts", { description: "Waits that took longer than acquireTimeout" }),
    tags({})
  ))
  return {
    observe: ({ pending, readers, writer }: Stats) => {
      connections.idleReaders.unsafeUpdate(readers.open - readers.used, [])
      connections.usedReaders.unsafeUpdate(readers.used, [])
      connections.idleWriters.unsafeUpdate(writer.open - writer.used, [])
      connections.usedWriters.unsafeUpdate(writer.used, [])
      connections.pending.unsafeUpdate(pending, [])
    },
    setMax: (max: number) => connections.max.unsafeUpdate(max, []),
    timedOut: () => timeouts.unsafeUpdate(1, []),
    created: histogram("db.client.connection.create_time", "How long opening a connection took, in seconds"),
    waited: histogram("db.client.connection.wait_time", "How long a connection was waited for, in seconds"),
    used: histogram(
      "db.client.connection.use_time",
      "How long a connection was in use, in seconds: a lease, or the statements of one message"
    ),
    operated: histogram(
      "db.client.operation.duration",
      "How long a statement took from its asking to its answer, in seconds",
      { "db.system.name": "sqlite" }
    )
  }
}

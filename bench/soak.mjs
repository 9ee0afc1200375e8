/**
 * Plots what a soak has left (test/SqlitePool.soak.load.test.ts), and keeps it: `npm run --prefix bench soak`, or with the path of another series
 * and of a folder, writes docs/soak.svg and docs/soak.json.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as vega from "vega"
import * as vegaLite from "vega-lite"
import { config, palette } from "./plots.mjs"

const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const [from = here("../build/endurance/soak/series.json"), to = here("../docs")] = process.argv.slice(2)

const soak = JSON.parse(fs.readFileSync(from, "utf8"))
const megabyte = 2 ** 20

/** Each with its lines, and where its scale ends if not at the highest value. */
const panels = [
  {
    title: "heap after a full collection (MB)",
    lines: { "all of it": (s) => s.heap / megabyte, "compiled code": (s) => s.code / megabyte }
  },
  { title: "resident memory (MB)", lines: { resident: (s) => s.rss / megabyte } },
  { title: "open descriptors and threads", lines: { descriptors: (s) => s.descriptors, threads: (s) => s.threads } },
  { title: "write-ahead log (MB), of at most 64", lines: { WAL: (s) => s.wal / megabyte }, most: 64 },
  {
    title: "the event loop's delay (ms)",
    lines: {
      p50: (s) => s.delay.p50,
      p99: (s) => s.delay.p99,
      "p99.9": (s) => s.delay.p999,
      longest: (s) => s.delay.most
    },
    isLogarithmic: true
  },
  { title: "operations a second", lines: { all: (s) => s.operations, lookups: (s) => s.lookups } }
]

const colors = [palette[3], palette[1], palette[2], palette[0]]

const width = 400

const minutes = soak.seconds / 60

const panel = ({ isLogarithmic, lines, most, title }, place) => {
  const names = Object.keys(lines)
  const values = soak.series.flatMap((sample) =>
    names.map((name) => ({ name, minute: sample.second / 60, value: lines[name](sample) }))
  )
  const isLast = place >= panels.length - 2
  const x = {
    field: "minute",
    type: "quantitative",
    scale: { domain: [0, minutes], nice: false },
    axis: { gridColor: "#f2f2f2", tickCount: 6, labels: isLast, title: isLast ? "minutes" : null }
  }
  const domain = isLogarithmic
    ? { type: "log", domain: [0.1, Math.max(100, ...values.map(({ value }) => value))], nice: true }
    : { domain: [0, most ?? 1.1 * Math.max(...values.map(({ value }) => value))], nice: most === undefined }
  const y = {
    field: "value",
    type: "quantitative",
    scale: domain,
    axis: {
      gridColor: "#e8e8e8",
      title: null,
      minExtent: 30,
      ...(isLogarithmic
        ? { values: [0.1, 1, 10, 100, 1000], labelExpr: "format(datum.value, '~g')" }
        : { tickCount: 4, labelExpr: "format(datum.value, '~s')" })
    }
  }
  const color = { field: "name", type: "nominal", scale: { domain: names, range: colors }, legend: null }
  // The names of the lines, from right to left above them.
  const keys = names.toReversed().map((name, i, all) => ({
    data: { values: [{ name }] },
    mark: { type: "text", align: "right", baseline: "bottom", fontSize: 11 },
    encoding: {
      x: { value: width - all.slice(0, i).reduce((sum, { length }) => sum + 16 + 6 * length, 0) },
      y: { value: -5 },
      color,
      text: names.length === 1 ? { value: "\u00a0" } : { field: "name" }
    }
  }))
  return {
    title: { text: title, fontSize: 12, fontWeight: "bold", color: "#333333", frame: "group", offset: 6 },
    width,
    height: 130,
    layer: [
      { data: { values }, mark: { type: "line", strokeWidth: 1.2, clip: true }, encoding: { x, y, color } },
      ...keys
    ]
  }
}

const format = new Intl.NumberFormat("en").format

const spec = {
  config,
  title: {
    text: `${minutes} minutes at half of the capacity`,
    subtitle: [
      `${format(Math.round(soak.rate))} operations a second, ${format(soak.told.operations)} in all, ${
        format(soak.told.failed)
      } failed`,
      `${soak.date.slice(0, 10)}, ${soak.machine}`
    ]
  },
  concat: panels.map(panel),
  columns: 2,
  align: "all",
  spacing: { row: 16, column: 40 },
  resolve: { scale: { color: "independent" } }
}

const view = new vega.View(vega.parse(vegaLite.compile(spec).spec), { renderer: "none" })
fs.mkdirSync(to, { recursive: true })
fs.writeFileSync(path.join(to, "soak.svg"), `${await view.toSVG()}\n`)
view.finalize()

// One sample a line.
const { series, ...rest } = soak
const head = JSON.stringify(rest, undefined, 2).slice(0, -2)
fs.writeFileSync(
  path.join(to, "soak.json"),
  `${head},\n  "series": [\n    ${series.map((sample) => JSON.stringify(sample)).join(",\n    ")}\n  ]\n}\n`
)

/** The plots of the results as SVG, drawn without a browser: dots on a logarithmic scale, a line for each system. */
import * as fs from "node:fs"
import * as path from "node:path"
import * as vega from "vega"
import * as vegaLite from "vega-lite"
import { systems } from "./systems.mjs"

const groups = {
  ours: "this package",
  free: "others that leave the event loop free",
  blocking: "those that block it while a statement runs"
}

const ink = {
  labelColor: "#333333",
  labelFontSize: 12,
  titleColor: "#333333",
  titleFontSize: 12,
  titleFontWeight: "normal"
}

export const config = {
  // A card of its own, so that it is also read on a dark page.
  background: "#ffffff",
  font: "Helvetica, Arial, sans-serif",
  padding: 16,
  view: { stroke: null },
  axis: { ...ink, labelLimit: 0, domain: false, ticks: false, labelPadding: 8 },
  legend: { ...ink, labelLimit: 0, symbolSize: 90 },
  title: {
    anchor: "start",
    color: "#111111",
    fontSize: 16,
    subtitleColor: "#555555",
    subtitleFontSize: 12,
    offset: 10
  },
  concat: { spacing: 10 }
}

/** Light to dark, so that they are told apart without colours too, as by their shapes. */
export const palette = ["#f2a900", "#e0584f", "#8b2fa8", "#1b1464"]
const shapes = ["circle", "square", "triangle-up", "diamond"]

/** 1, 2, 5, 10, 20 .. from at or below the lowest value to at or above the highest. */
const marksOf = (values) => {
  const marks = [-1, 0, 1, 2, 3, 4, 5, 6].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power))
  const first = marks.findLastIndex((mark) => mark <= Math.min(...values))
  const last = marks.findIndex((mark) => mark >= Math.max(...values))
  return marks.slice(first, last + 1)
}

/** `values`: `{ system, group, series, value }`. Groups, systems and series stand in the order in which they come. */
const dots = ({ seriesTitle, subtitle, title, values, xTitle }) => {
  const distinct = (field) => [...new Set(values.map((value) => value[field]))]
  const series = distinct("series")
  const groups = distinct("group")
  const marks = marksOf(values.map(({ value }) => value))
  const skipped = palette.length - series.length
  const chartOf = (group, place) => {
    const isLast = place === groups.length - 1
    const x = {
      type: "quantitative",
      scale: { type: "log", domain: [marks[0], marks.at(-1)], nice: false },
      axis: {
        values: marks,
        gridColor: "#e8e8e8",
        labels: isLast,
        labelExpr: "format(datum.value, datum.value < 1000 ? '~g' : '~s')",
        title: isLast ? xTitle : null
      }
    }
    return {
      title: { text: group, fontSize: 12, fontWeight: "bold", color: "#333333", frame: "group", offset: 6 },
      width: 580,
      height: { step: 22 },
      transform: [{ filter: { field: "group", equal: group } }],
      encoding: {
        y: { field: "system", type: "nominal", sort: null, title: null, axis: { minExtent: 205 } }
      },
      layer: [
        {
          mark: { type: "rule", color: "#c4c4c4", strokeWidth: 2 },
          encoding: { x: { ...x, aggregate: "min", field: "value" }, x2: { aggregate: "max", field: "value" } }
        },
        {
          mark: { type: "point", filled: true, opacity: 1, size: 80 },
          encoding: {
            x: { ...x, field: "value" },
            color: {
              field: "series",
              type: "nominal",
              scale: { domain: series, range: palette.slice(skipped) },
              legend: { title: seriesTitle, orient: "top" }
            },
            shape: { field: "series", type: "nominal", scale: { domain: series, range: shapes.slice(skipped) } }
          }
        }
      ]
    }
  }
  return { config, title: { text: title, subtitle }, data: { values }, vconcat: groups.map(chartOf) }
}

/**
 * The dots of `{ [system]: { [series]: { median } } }`, groups in the order of `groups`, the highest of a group first.
 */
const valuesOf = (measured) => {
  const kinds = Object.keys(groups)
  const place = (name) => kinds.indexOf(systems[name].kind)
  const highest = (name) => Math.max(...Object.values(measured[name]).map(({ median }) => median))
  return Object.keys(measured)
    .toSorted((one, other) => place(one) - place(other) || highest(other) - highest(one))
    .flatMap((system) =>
      Object.entries(measured[system]).map(([series, { median }]) => ({
        system,
        group: groups[systems[system].kind],
        series,
        value: Math.max(median, 0.1)
      }))
    )
}

const besideStatement = ([name, { beside, without }]) => [name, {
  "lookups alone": without,
  "beside a 1 s statement": beside
}]

const plots = ({ creates, date, delays, isShort, lookups, machine }) => {
  const run = `${isShort ? "a short run, " : ""}${date.slice(0, 10)}, ${machine.processors} cores`
  return {
    lookups: dots({
      title: "Lookups a second, one login each",
      subtitle: `by how many are under way at once; further right is better (${run})`,
      xTitle: "lookups a second (logarithmic)",
      seriesTitle: "at once",
      values: valuesOf(lookups)
    }),
    creates: dots({
      title: "Durable creates a second, one user each",
      subtitle: `synchronous = FULL, by how many are under way at once; further right is better (${run})`,
      xTitle: "creates a second (logarithmic)",
      seriesTitle: "at once",
      values: valuesOf(creates)
    }),
    delays: dots({
      title: "How long the event loop stands still",
      subtitle: `p99.9 of a timer's delay while 64 lookups run again and again; further left is better (${run})`,
      xTitle: "milliseconds (logarithmic)",
      seriesTitle: "",
      values: valuesOf(Object.fromEntries(Object.entries(delays).map(besideStatement)))
    })
  }
}

export const writePlots = async (results, directory) => {
  for (const [name, spec] of Object.entries(plots(results))) {
    const view = new vega.View(vega.parse(vegaLite.compile(spec).spec), { renderer: "none" })
    fs.writeFileSync(path.join(directory, `${name}.svg`), `${await view.toSVG()}\n`)
    view.finalize()
  }
}

/** The package without its branches for spans: whether a lookup or a create is traced is answered by no, before anybody looks. */
import * as fs from "node:fs"

const file = new URL("../dist/internal/batches.js", import.meta.url)

const question = /export const isTraced = [^;]+;/

/** Whether the question still stands where this module looks for it. */
export const isFound = () => question.test(fs.readFileSync(file, "utf8"))

const registration = `import { register } from "node:module"; register("${import.meta.url}")`

/** With these a process loads the package so. */
export const nodeOptions = ["--import", `data:text/javascript,${encodeURIComponent(registration)}`]

/** The hook by which Node loads a module (`module.register`). */
export const load = async (url, context, next) => {
  const loaded = await next(url, context)
  return url === file.href
    ? { ...loaded, source: String(loaded.source).replace(question, "export const isTraced = () => false;") }
    : loaded
}

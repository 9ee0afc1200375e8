/**
 * The package without its branches for spans, to compare: whether a lookup or a create is traced is answered by no,
 * before anybody looks. Both that and the package as it is are loaded through this module, so that nothing else tells
 * them apart.
 */
import * as fs from "node:fs"

const file = new URL("../dist/internal/fiber.js", import.meta.url)

const question = /export const isTraced = [^;]+;/

/** Whether the question still stands where this module looks for it. */
export const isFound = () => question.test(fs.readFileSync(file, "utf8"))

/** With these a process loads the package as it is, or without its branches for spans. */
export const nodeOptions = (spans) => {
  const hook = JSON.stringify(`${import.meta.url}?${spans}`)
  return [
    "--import",
    `data:text/javascript,${encodeURIComponent(`import { register } from "node:module"; register(${hook})`)}`
  ]
}

/** The hook by which Node loads a module (`module.register`). */
export const load = async (url, context, next) => {
  const loaded = await next(url, context)
  if (url !== file.href) {
    return loaded
  }
  const answer = import.meta.url.endsWith("?without") ? "export const isTraced = () => false;" : "$&"
  return { ...loaded, source: String(loaded.source).replace(question, answer) }
}

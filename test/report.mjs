/**
 * Vitest's reporter that names at the end what failed, a line each, and remembers what was skipped and why; run by itself, the last word of
 * `npm test`: how many tests passed, and what was skipped and why. Where CI is set, a test that was skipped is a failure.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { relative } from "node:path"
import { fileURLToPath } from "node:url"

const file = new URL("../build/test-report.json", import.meta.url)

export default class Report {
  onTestRunEnd(modules) {
    const tests = modules.flatMap((module) => Array.from(module.children.allTests()))
    const inState = (state) => tests.filter((test) => test.result().state === state)
    const failed = inState("failed")
    const report = {
      passed: inState("passed").length,
      failed: failed.length,
      skipped: inState("skipped").map((test) => ({
        name: test.fullName,
        why: test.result().note ?? "no reason was given"
      }))
    }
    mkdirSync(new URL(".", file), { recursive: true })
    writeFileSync(file, JSON.stringify(report, undefined, 2))
    // After what Vitest itself says, which may be long.
    process.once("exit", () => failed.forEach((test) => console.log(`Failed: ${named(test)}`)))
  }
}

const named = (test) => {
  const [message] = String(test.result().errors?.[0]?.message ?? "").split("\n")
  return `${relative(process.cwd(), test.module.moduleId)}: ${test.fullName}: ${message.slice(0, 200)}`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { failed, passed, skipped } = JSON.parse(readFileSync(file, "utf8"))
  console.log(skipped.length === 0 ? "\nSkipped: nothing." : "\nSkipped:")
  for (const { name, why } of skipped) {
    console.log(`  ${name}: ${why}`)
  }
  console.log(`${passed} passed, ${failed} failed, ${skipped.length} skipped`)
  process.exitCode = failed > 0 || (process.env.CI && skipped.length > 0) ? 1 : 0
}

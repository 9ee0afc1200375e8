/**
 * Vitest's reporter that remembers what was skipped and why, and, run by itself, the last word of `npm test`: how many tests
 * passed, and what was skipped and why. Where CI is set, a test that was skipped is a failure.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const file = new URL("../build/test-report.json", import.meta.url)

export default class Report {
  onTestRunEnd(modules) {
    const tests = modules.flatMap((module) => Array.from(module.children.allTests()))
    const inState = (state) => tests.filter((test) => test.result().state === state)
    const report = {
      passed: inState("passed").length,
      failed: inState("failed").length,
      skipped: inState("skipped").map((test) => ({
        name: test.fullName,
        why: test.result().note ?? "no reason was given"
      }))
    }
    mkdirSync(new URL(".", file), { recursive: true })
    writeFileSync(file, JSON.stringify(report, undefined, 2))
  }
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

import { describe, expect, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const root = fileURLToPath(new URL("..", import.meta.url))

/** What a program answers, whatever its exit code. */
const run = (file: string, ...args: ReadonlyArray<string>) =>
  promisify(execFile)(file, args, { cwd: root }).then(
    ({ stdout }) => ({ code: 0, stdout }),
    (error: { readonly code: number; readonly stdout: string }) => ({ code: error.code, stdout: error.stdout })
  )

describe("the diagnostics of @effect/language-service, with the settings of this project", () => {
  const diagnose = (project: string) =>
    run(
      join(root, "node_modules/.bin/effect-language-service"),
      "diagnostics",
      "--project",
      join("test/fixtures", project, "tsconfig.json"),
      "--strict",
      "--format",
      "text"
    )

  it.concurrent("fail on an Effect that nobody runs", async () => {
    const { code, stdout } = await diagnose("floating")
    expect(stdout).toMatch(/floating\.ts\(4,3\): error effect\(floatingEffect\)/)
    expect(stdout).toContain("Checked 1 files out of 1 files.")
    expect(code).toBe(1)
  })

  it.concurrent("pass where it is run", async () => {
    const { code, stdout } = await diagnose("floating/clean")
    expect(stdout).toContain("Checked 1 files out of 1 files.")
    expect(stdout).toContain("0 errors, 0 warnings and 0 messages.")
    expect(code).toBe(0)
  })
})

/**
 * `npm run audit`: whether what is installed is what the lock file pins, runs no script at its installation but those that `package.json` allows, and
 * has no known hole; and whether the registry signed it, where it signs. Ends with 1 where something was found, with 2 where the registry could
 * not be asked, so that nothing is known.
 */
import { execFileSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

process.chdir(fileURLToPath(new URL("..", import.meta.url)))

const json = (file) => JSON.parse(readFileSync(file, "utf8"))

/** What `npm audit` answers, whatever its exit code. */
const audit = (...args) => {
  try {
    return JSON.parse(
      execFileSync("npm", ["audit", ...args, "--json"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
    )
  } catch (error) {
    try {
      return JSON.parse(error.stdout)
    } catch {
      return { message: error.message }
    }
  }
}

const reasonOf = ({ error, message }) => error?.summary || message || "its answer is none that npm knows"

const found = []
const { allowScripts } = json("package.json")
const { "": _, ...packages } = json("package-lock.json").packages
const installed = Object.entries(packages).filter(([path]) => existsSync(path))
for (const [path, { hasInstallScript, integrity }] of installed) {
  const name = path.split("node_modules/").at(-1)
  if (integrity?.startsWith("sha512-") !== true) {
    found.push(`${name}: the lock file does not pin its content`)
  }
  if (hasInstallScript === true && allowScripts[name] !== true) {
    found.push(`${name}: it runs a script at its installation, which package.json does not allow`)
  }
}
console.log(`${installed.length} packages are installed.`)

const advisories = audit("--omit=dev", "--audit-level=high")
const isAsked = advisories.metadata?.vulnerabilities !== undefined
if (isAsked) {
  for (const { name, severity } of Object.values(advisories.vulnerabilities)) {
    const isSerious = severity === "high" || severity === "critical"
    const line = `${name}: a known hole (${severity})`
    if (isSerious) {
      found.push(line)
    } else {
      console.log(line)
    }
  }
  console.log(`${advisories.metadata.dependencies.prod} packages of the product were looked up among the known holes.`)
} else {
  console.log(`Nothing was looked up among the known holes: ${reasonOf(advisories)}.`)
}

const signatures = audit("signatures")
if (Array.isArray(signatures.invalid)) {
  const unsigned = [...signatures.invalid, ...signatures.missing]
  found.push(...unsigned.map(({ name, version }) => `${name} ${version}: the registry's signature is missing or wrong`))
  console.log("The registry's signatures were verified.")
} else {
  console.log(`No signature was verified: ${reasonOf(signatures)}.`)
}

found.forEach((line) => console.error(line))
process.exitCode = found.length > 0 ? 1 : isAsked ? 0 : 2

/** What the product is made of, but for its command line and comments, as a digest: figures are of one state of it. */
import { transformSync } from "esbuild"
import { createHash } from "node:crypto"
import { readdirSync, readFileSync, statSync } from "node:fs"

/** No trial runs it. */
const commandLine = /^(cli\.ts|main\.ts|internal[\\/]cli)/

export const sources = () => {
  const of = (name) => new URL(`../${name}`, import.meta.url)
  const digest = createHash("sha256")
  for (const file of readdirSync(of("src"), { recursive: true, encoding: "utf8" }).toSorted()) {
    const full = of(`src/${file}`)
    if (!commandLine.test(file) && statSync(full).isFile()) {
      const { code } = transformSync(readFileSync(full, "utf8"), { loader: "ts", legalComments: "none" })
      digest.update(file).update(code)
    }
  }
  return digest.update(readFileSync(of("package-lock.json"))).digest("hex").slice(0, 16)
}

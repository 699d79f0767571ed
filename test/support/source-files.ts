import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'

const root = path.join(import.meta.dirname, '../..')

export type Import = { readonly target: string; readonly typeOnly: boolean }
export type SourceFile = { readonly file: string; readonly text: string; readonly imports: readonly Import[] }

/** Every TypeScript file below src/, with what it imports: a path from the root, or the name of a package. */
export function sourceFiles(): readonly SourceFile[] {
  return globSync('src/**/*.ts', { cwd: root })
    .map((file) => file.split(path.sep).join('/'))
    .sort()
    .map((file) => {
      const text = readFileSync(path.join(root, file), 'utf8')
      return { file, text, imports: importsOf(file, withoutComments(text)) }
    })
}

/** The text without comments; good enough for code that the formatter has been through. */
export const withoutComments = (text: string): string =>
  text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1')

function importsOf(file: string, text: string): Import[] {
  const found: Import[] = []
  const statement =
    /^(?:import|export)\s+(type\s)?[^'"`;=]*?from\s+'([^']+)'|^import\s+'([^']+)'|\bimport\('([^']+)'\)/gm
  for (const [, type, from, bare, dynamic] of text.matchAll(statement)) {
    const name = from ?? bare ?? dynamic ?? ''
    const target = name.startsWith('.') ? path.posix.join(path.posix.dirname(file), name) : name
    found.push({ target, typeOnly: type !== undefined })
  }
  return found
}

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Import, type SourceFile, sourceFiles, withoutComments } from '../support/source-files.ts'

const files = sourceFiles()

/** Which layers each layer may import from. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  hw: ['hw'],
  domain: ['domain', 'hw'],
  store: ['store', 'domain', 'hw'],
  routes: ['routes', 'domain', 'hw'],
  server: ['server', 'routes', 'store', 'domain', 'hw'],
}

/** Parts of src/hw that every backend may use. */
const SHARED_HARDWARE = ['shared', 'amd', 'contract.ts']

/** The port that the store implements, with its error class. */
const PORT = 'src/domain/journal.ts'

/** The structure that indexes page runs. */
const PAGE_MAP = 'src/hw/shared/page-map.ts'

const layerOf = (target: string): string | undefined => /^src\/([a-z]+)\//.exec(target)?.[1]
const backendOf = (target: string): string | undefined => /^src\/hw\/([^/]+)/.exec(target)?.[1]

function violations(check: (file: SourceFile, imported: Import) => boolean): string[] {
  return files.flatMap((file) =>
    file.imports
      .filter((imported) => check(file, imported))
      .map((imported) => `${file.file} imports ${imported.target}`),
  )
}

test('every file is in a layer', () => {
  assert.deepEqual(
    files.map(({ file }) => file).filter((file) => !Object.keys(ALLOWED).includes(layerOf(file) ?? '')),
    [],
  )
})

test('imports go server → routes → domain → hw, and the store beside routes', () => {
  const wrong = violations(({ file }, { target }) => {
    const layer = layerOf(target)
    return layer !== undefined && !(ALLOWED[layerOf(file) ?? '']?.includes(layer) ?? false)
  })
  assert.deepEqual(wrong, [])
})

test('the store takes types from the domain, and nothing that runs but its port', () => {
  const wrong = violations(
    ({ file }, { target, typeOnly }) =>
      layerOf(file) === 'store' && layerOf(target) === 'domain' && !typeOnly && target !== PORT,
  )
  assert.deepEqual(wrong, [])
})

test('the store knows of the hardware nothing but the page map', () => {
  const wrong = violations(
    ({ file }, { target }) => layerOf(file) === 'store' && layerOf(target) === 'hw' && target !== PAGE_MAP,
  )
  assert.deepEqual(wrong, [])
})

test('the store uses no package but its database', () => {
  const wrong = violations(
    ({ file }, { target }) =>
      layerOf(file) === 'store' && !target.startsWith('src/') && !/^node:|^better-sqlite3$/.test(target),
  )
  assert.deepEqual(wrong, [])
})

test('backends do not know each other', () => {
  const wrong = violations(({ file }, { target }) => {
    const [from, to] = [backendOf(file), backendOf(target)]
    if (from === undefined || to === undefined || from === to || SHARED_HARDWARE.includes(to)) return false
    // A file directly in src/hw, such as the registry, knows all backends.
    return !from.endsWith('.ts')
  })
  assert.deepEqual(wrong, [])
})

test('what backends share knows no backend', () => {
  const wrong = violations(({ file }, { target }) => {
    const [from, to] = [backendOf(file) ?? '', backendOf(target) ?? '']
    return SHARED_HARDWARE.includes(from) && to !== '' && !SHARED_HARDWARE.includes(to)
  })
  assert.deepEqual(wrong, [])
})

test('domain and hardware do no input or output', () => {
  const outside =
    /^node:(?:fs|http|https|http2|net|dgram|dns|tls|child_process|cluster|worker_threads|sqlite|os|perf_hooks|process)\b|sqlite|^fastify|^@fastify|^pino/
  const wrong = violations(({ file }, { target }) => /^src\/(?:domain|hw)\//.test(file) && outside.test(target))
  assert.deepEqual(wrong, [])
})

test('domain and hardware know no clock and no chance', () => {
  const wayward =
    /\bDate\.now\b|\bnew Date\b|\bMath\.random\b|\bperformance\.now\b|\brandomBytes\b|\brandomUUID\b|\bgetRandomValues\b|\bprocess\.|\bset(?:Timeout|Interval)\(/
  const wrong = files
    .filter(({ file }) => /^src\/(?:domain|hw)\//.test(file))
    .flatMap(({ file, text }) => {
      const found = wayward.exec(withoutComments(text))
      return found === null ? [] : [`${file} uses ${found[0]}`]
    })
  assert.deepEqual(wrong, [])
})

test('there are no import cycles', () => {
  const importsOf = new Map(files.map(({ file, imports }) => [file, imports.filter((one) => !one.typeOnly)]))
  const done = new Set<string>()
  const cycles: string[] = []
  const visit = (file: string, above: readonly string[]): void => {
    if (above.includes(file)) {
      cycles.push([...above.slice(above.indexOf(file)), file].join(' → '))
      return
    }
    if (done.has(file)) return
    for (const { target } of importsOf.get(file) ?? []) if (importsOf.has(target)) visit(target, [...above, file])
    done.add(file)
  }
  for (const { file } of files) visit(file, [])
  assert.deepEqual(cycles, [])
})

test('every relative import names a file that exists', () => {
  const known = new Set(files.map(({ file }) => file))
  assert.deepEqual(
    violations((_file, { target }) => target.startsWith('src/') && !known.has(target)),
    [],
  )
})

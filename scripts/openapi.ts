// Writes openapi/openapi.json from the routes' schemas; with --check, fails when the file is not what they say.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { compose } from '../src/server/compose.ts'
import { readConfig } from '../src/server/config.ts'
import { Lifecycle } from '../src/server/lifecycle.ts'

const file = new URL('../openapi/openapi.json', import.meta.url)
const read = readConfig({ GMEMD_DATA: ':memory:' })
if (!read.ok) throw new Error(read.problems.join(' '))
const { app, steps } = await compose({ config: read.config, lifecycle: new Lifecycle(), processMetrics: false })
const document = `${JSON.stringify(app.swagger(), null, 2)}\n`
await app.close()
for (const step of steps) await step.close()

if (process.argv.includes('--check')) {
  if (stored() !== document) {
    console.error('openapi/openapi.json is not what the routes say. Run "npm run openapi" and commit the result.')
    process.exitCode = 1
  } else console.log('openapi/openapi.json is up to date.')
} else {
  mkdirSync(new URL('.', file), { recursive: true })
  writeFileSync(file, document)
  console.log('Wrote openapi/openapi.json.')
}

function stored(): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'

const launcher = path.join(import.meta.dirname, '../../scripts/node24.mjs')

function scratch(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'gmemd-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** The launcher where no bundled Node can be found, under a process that says it is an older Node. */
function underOldNode(t: TestContext): readonly string[] {
  const directory = scratch(t)
  copyFileSync(launcher, path.join(directory, 'node24.mjs'))
  const old = "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.20.2' } })"
  writeFileSync(path.join(directory, 'old.mjs'), old)
  return ['--import', path.join(directory, 'old.mjs'), path.join(directory, 'node24.mjs'), 'x.ts']
}

async function run(args: readonly string[]): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')])
  return { code, stderr }
}

test('the tests run under Node 24 or newer', () => {
  assert.ok(Number(process.versions.node.split('.')[0]) >= 24, process.version)
})

test('a wrong Node without a bundled one is told so in one sentence, exit 78', async (t) => {
  const { code, stderr } = await run(underOldNode(t))
  assert.equal(code, 78)
  assert.match(stderr, /^gmemd needs Node 24 or newer; .*\.\n$/)
})

test('a wrong Node starts the bundled one', (t) => {
  const file = path.join(scratch(t), 'version.mjs')
  writeFileSync(file, 'console.log(process.versions.node)')
  const [flag = '', old = ''] = underOldNode(t)
  const name = `node-${process.platform}-${process.arch}`
  try {
    import.meta.resolve(`${name}/package.json`)
  } catch {
    t.skip(`no bundled Node for ${name}`)
    return
  }
  const printed = execFileSync(process.execPath, [flag, old, launcher, file], { encoding: 'utf8' })
  assert.ok(Number(printed.split('.')[0]) >= 24, printed)
})

test("the program's exit code comes through", async (t) => {
  const file = path.join(scratch(t), 'seven.mjs')
  writeFileSync(file, 'process.exit(7)')
  assert.equal((await run([launcher, file])).code, 7)
})

test('SIGTERM comes through, and what the program makes of it', async (t) => {
  const file = path.join(scratch(t), 'waits.mjs')
  writeFileSync(file, "process.on('SIGTERM', () => process.exit(9)); setInterval(() => {}, 1000); console.log('up')")
  const child = spawn(process.execPath, [launcher, file], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  child.kill('SIGTERM')
  assert.deepEqual(await once(child, 'exit'), [9, null])
})

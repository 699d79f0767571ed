import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import Database from 'better-sqlite3'
import { backends } from '../../src/hw/registry.ts'
import { startChild } from '../support/child.ts'

const root = path.join(import.meta.dirname, '../..')
const readme = readFileSync(path.join(root, 'README.md'), 'utf8')
const run = promisify(execFile)

const block = (language: string): string => {
  const [, text = ''] = new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``).exec(readme) ?? []
  assert.notEqual(text, '', `the README has a ${language} block`)
  return text
}

async function server(t: TestContext): Promise<{ url: string; data: string; stop: () => Promise<unknown> }> {
  const directory = mkdtempSync(path.join(tmpdir(), 'gmemd-readme-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  const data = path.join(directory, 'data')
  const child = startChild(t, 'src/server/main.ts', { GMEMD_DATA: data, GMEMD_LOG_LEVEL: 'error' })
  const stop = () => {
    child.process.kill('SIGTERM')
    return child.exited
  }
  return { url: await child.ready, data, stop }
}

test('the first session works when pasted, and again after itself; the SQL works on what it left', async (t) => {
  const { url, data, stop } = await server(t)
  const options = { cwd: root, env: { ...process.env, GMEMD: url } }
  const { stdout } = await run('bash', ['-e', '-u', '-o', 'pipefail', '-c', block('bash')], options)
  for (const line of [
    /"vm":"vm-\d+","state":"bound"|"state":"bound","vm":"vm-\d+"/,
    /"digest":"([0-9a-f]{96})"[\s\S]*"launchDigest":"\1"/,
    /"ciphertext":true/,
    new RegExp(`"data":"${Buffer.from('hello').toString('base64')}"`),
    /"outcome":"guest-fault"/,
    /"code":1028/,
    /"both":4096/,
    /"simulated":true/,
    /BEGIN CERTIFICATE/,
  ])
    assert.match(stdout, line)
  assert.doesNotMatch(stdout, /urn:gmemd:problem/)
  const again = await run('bash', ['-e', '-u', '-o', 'pipefail', '-c', block('bash')], options)
  assert.match(again.stdout, /"outcome":"guest-fault"/)

  assert.equal(await stop(), 0)
  const db = new Database(path.join(data, 'gmemd.db'), { readonly: true })
  t.after(() => db.close())
  const vm = /"vm":"(vm-\d+)"/.exec(stdout)?.[1]
  for (const statement of block('sql').replaceAll('vm-3', String(vm)).split(/;.*\n/).filter(Boolean))
    assert.ok(db.prepare(statement).all().length > 0, statement)
})

test('the README says first what it is for, in three sentences, and then the two commands', () => {
  const [purpose = '', commands = ''] = readme.split('\n\n').slice(1)
  assert.equal(purpose.replace(/\n/g, ' ').split(/(?<=\.) (?=[A-Z])/).length, 3)
  assert.equal(commands, '```sh\nnpm ci && npm start\nnpm ci && npm test\n```')
})

test('every variable of the configuration is in the README, and every link leads somewhere', () => {
  const source = readFileSync(path.join(root, 'src/server/config.ts'), 'utf8')
  const variables = new Set(source.match(/GMEMD_[A-Z_]+/g))
  const rows = new Set([...readme.matchAll(/^\| `(GMEMD_[A-Z_]+)`/gm)].map(([, name]) => name))
  assert.deepEqual([...rows].sort(), [...variables].sort())
  const pages = readdirSync(path.join(root, 'docs/technologies')).map((name) => `docs/technologies/${name}`)
  const files = ['README.md', 'CONTRIBUTING.md', 'docs/api.md', 'docs/architecture.md', ...pages]
  for (const file of files) {
    const text = readFileSync(path.join(root, file), 'utf8')
    for (const [, link = ''] of text.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)) {
      if (/^https?:/.test(link)) continue
      assert.ok(existsSync(path.join(root, path.dirname(file), link)), `${file} links to ${link}`)
    }
  }
})

test('the page of every technology names its calls, states and what a VM is configured with', () => {
  for (const { technology, calls, configSchema, properties } of backends.values()) {
    const page = readFileSync(path.join(root, `docs/technologies/${technology}.md`), 'utf8')
    const config = 'properties' in configSchema ? Object.keys(configSchema.properties as object) : []
    for (const name of [...calls.map((call) => call.name), ...config])
      assert.ok(page.includes(`\`${name}\``), `${technology}.md has ${name}`)
    assert.ok(page.includes(properties.initialState), `${technology}.md has ${properties.initialState}`)
    assert.ok(readme.includes(`docs/technologies/${technology}.md`), `the README links to ${technology}.md`)
  }
})

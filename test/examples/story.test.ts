import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { arm64Image } from '../../examples/arm64-image.ts'
import { firmwareImage } from '../../examples/firmware-image.ts'
import { STORIES } from '../../examples/stories.ts'
import { tdvfImage } from '../../examples/tdvf-image.ts'
import { startChild } from '../support/child.ts'

const story = path.join(import.meta.dirname, '../../examples/story.ts')
const run = promisify(execFile)

function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'gmemd-story-test-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

async function tell(url: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(process.execPath, [story, ...args], { env: { ...process.env, GMEMD: url } })
  return stdout
}

const IMAGES: ReadonlyMap<string, () => Buffer> = new Map([
  ['sev-snp', firmwareImage],
  ['tdx', tdvfImage],
  ['cca', arm64Image],
])

test('the story of every technology is as told, with an image of its own too, and all in one data directory', async (t) => {
  const directory = temporaryDirectory(t)
  const url = await startChild(t, 'src/server/main.ts', { GMEMD_DATA: path.join(directory, 'data') }).ready
  assert.match(await tell(url), /ASID[\s\S]*The end: \d+ claims, all as told\.\n$/)
  for (const [technology, { launches }] of STORIES) {
    assert.match(await tell(url, '--technology', technology), /The end: \d+ claims, all as told\.\n$/)
    if (!launches) continue
    const firmware = path.join(directory, 'firmware.fd')
    writeFileSync(firmware, IMAGES.get(technology)?.() ?? '')
    const told = await tell(url, '--technology', technology, '--firmware', firmware)
    assert.match(told, /from your firmware image\n[\s\S]*all as told\.\n$/)
  }
})

for (const technology of STORIES.keys()) {
  test(`what a killed gmemd has answered is there again: ${technology}`, async () => {
    assert.match(await tell('http://127.0.0.1:1', '--kill', '--technology', technology), /all as told\.\n$/)
  })
}

test('a story that cannot be told ends with an error and a hint', async () => {
  await assert.rejects(tell('http://127.0.0.1:1'), { code: 1, stderr: /Is gmemd running\?/ })
  await assert.rejects(tell('http://127.0.0.1:1', '--technology', 'sgx'), { code: 1, stderr: /^\nusage: / })
  const withFirmware = ['--technology', 'sw-protected', '--firmware', 'any.fd']
  await assert.rejects(tell('http://127.0.0.1:1', ...withFirmware), { code: 1, stderr: /^\nusage: / })
})

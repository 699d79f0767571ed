import assert from 'node:assert/strict'
import { test } from 'node:test'
import { service } from '../../../support/service.ts'
import { rehash } from './rehash.ts'
import { rimVectors } from './vectors.ts'

test('POST /v1/measurements over a socket: vectors as they are, files in a form, and refusals', async (t) => {
  const { app } = await service(t)
  const url = `${await app.listen({ port: 0, host: '127.0.0.1' })}/v1/measurements`
  const post = async (inputs: unknown) => {
    const reply = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ technology: 'cca', inputs }),
    })
    return { status: reply.status, body: (await reply.json()) as ReturnType<typeof JSON.parse> }
  }
  for (const { name, ops, expect } of rimVectors) {
    const { status, body } = await post({ ops })
    assert.equal(status, 200, JSON.stringify(body))
    assert.equal(body.technology, 'cca')
    for (const [field, value] of Object.entries(expect)) assert.deepEqual(body[field], value, `${name} ${field}`)
  }

  const kernel = Buffer.alloc(10_000, 'kernel')
  const dtb = Buffer.from('a device tree')
  const launch = (image: object, tree: object) => ({
    vmm: 'qemu',
    ramSize: 2 ** 30,
    images: [{ ipa: '0x40200000', content: image }],
    dtb: { ipa: '0x48000000', content: tree },
    entry: '0x40200000',
  })
  const form = new FormData()
  const inputs = launch({ part: 'kernel' }, { part: 'dtb' })
  form.set('request', JSON.stringify({ technology: 'cca', inputs }))
  form.set('kernel', new Blob([kernel]), 'Image')
  form.set('dtb', new Blob([dtb]), 'virt.dtb')
  const reply = await fetch(url, { method: 'POST', body: form })
  assert.equal(reply.status, 200)
  const fromForm = (await reply.json()) as ReturnType<typeof JSON.parse>
  assert.deepEqual(rehash(fromForm.steps), { rim: fromForm.rim, rem: fromForm.rem })
  const base64 = (bytes: Buffer) => ({ base64: bytes.toString('base64') })
  assert.deepEqual((await post(launch(base64(kernel), base64(dtb)))).body, fromForm)

  const refused = await post(launch(base64(kernel), { hex: '', extra: 1 }))
  assert.deepEqual([refused.status, refused.body.code], [400, 'validation-failed'])
  const overlap = await post({
    ...launch(base64(kernel), base64(dtb)),
    dtb: { ipa: '0x40202000', content: { hex: '' } },
  })
  assert.deepEqual(
    [overlap.status, overlap.body.code, overlap.body.errno, overlap.body.errors[0].pointer],
    [422, 'image-overlap', 'EINVAL', '/inputs/dtb'],
  )
  const [{ ops: [create] = [] } = {}] = rimVectors
  const wide = await post({ ops: [{ ...create, s2sz: 64 }] })
  assert.deepEqual([wide.status, wide.body.code], [400, 'validation-failed'])
})

test('the largest measurements that are taken end soon', async (t) => {
  const { app } = await service(t)
  const create = {
    op: 'realm_create',
    flags: 0,
    s2sz: 48,
    sve_vl: 0,
    num_bps: 1,
    num_wps: 1,
    pmu_num_ctrs: 0,
    hash_algo: 0,
  }
  const inject = async (ops: readonly unknown[]) => {
    const payload = { technology: 'cca', inputs: { ops: [create, ...ops] } }
    const reply = await app.inject({ method: 'POST', url: '/v1/measurements', payload })
    return { status: reply.statusCode, bytes: reply.rawPayload.length }
  }
  const entries = await inject([{ op: 'ripas', base: 0, top: '0x40000000', entry_size: 4096 }])
  assert.equal(entries.status, 200)
  const content = { counter: 1, length: 2 ** 26 }
  const pages = await inject([{ op: 'data_blob', ipa: 0, flags: 1, content }])
  assert.equal(pages.status, 200)
  assert.ok(pages.bytes < 4096, 'equal pages are one line of the transcript')
  const ops = await inject(Array.from({ length: 4095 }, (_, n) => ({ op: 'noop', call: 'RMI_VERSION', level: n % 4 })))
  assert.equal(ops.status, 200)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BULK_BODY_BYTES } from '../../src/routes/limits.ts'
import { ovmfImage } from '../support/ovmf-image.ts'
import { gist, service } from '../support/service.ts'

const image = ovmfImage()
const inputs = { mode: 'snp', vcpus: 2, vmm: 'qemu', vcpuType: 'EPYC-v4', guestFeatures: '0x1', kernel: null }

/** A body of form data: name, contents, and the file name that makes a part a file. */
function form(parts: readonly (readonly [name: string, contents: string | Buffer, file?: string])[]) {
  const boundary = 'a-boundary'
  const chunks = parts.flatMap(([name, contents, file]) => [
    Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"`),
    Buffer.from(
      `${file === undefined ? '' : `; filename="${file}"\r\nContent-Type: application/octet-stream`}\r\n\r\n`,
    ),
    Buffer.from(contents),
    Buffer.from('\r\n'),
  ])
  const headers = { 'content-type': `multipart/form-data; boundary=${boundary}` }
  return { headers, payload: Buffer.concat([...chunks, Buffer.from(`--${boundary}--\r\n`)]) }
}

test('a measurement is the same from JSON and from a form, with its transcript', async (t) => {
  const { app, post } = await service(t)
  const base64 = image.toString('base64')
  const json = await post('/v1/measurements', { technology: 'sev-snp', inputs: { ...inputs, image: { base64 } } })
  assert.match(json.launchDigest, /^[0-9a-f]{96}$/)
  assert.equal(json.steps.at(-1).digestAfter, json.launchDigest)
  const request = JSON.stringify({ technology: 'sev-snp', inputs: { ...inputs, image: { part: 'ovmf' } } })
  const parts = form([
    ['request', request],
    ['ovmf', image, 'OVMF.fd'],
  ])
  const answer = await app.inject({ method: 'POST', url: '/v1/measurements', ...parts })
  assert.equal(answer.statusCode, 200, answer.body)
  assert.deepEqual(answer.json(), json)
})

test('what a measurement may not be', async (t) => {
  const { app, send } = await service(t)
  const refused = async (body: unknown) => gist(await send('POST', '/v1/measurements', body))
  const of = (more: object) => ({ technology: 'sev-snp', inputs: { ...inputs, image: { base64: 'AAAA' }, ...more } })
  assert.deepEqual(await refused({}), [400, 'validation-failed', '/technology'])
  assert.deepEqual(await refused({ technology: 'sgx', inputs: {} }), [400, 'no-such-technology', '/technology'])
  assert.deepEqual(await refused(of({ colour: 1 })), [400, 'validation-failed', '/inputs/colour'])
  assert.deepEqual(await refused(of({ image: { base64: 'AB==' } })), [400, 'not-base64', '/inputs/image/base64'])
  assert.deepEqual(await refused(of({ image: { part: 'x' } })), [400, 'no-such-part', '/inputs/image/part'])
  const bad = await send('POST', '/v1/measurements', of({}))
  assert.deepEqual([bad.status, bad.body.errno], [422, 'EINVAL'])
  assert.match(bad.body.errors[0].pointer, /^\/inputs\/image/)
  const asForm = async (...parts: Parameters<typeof form>[0]) => {
    const answer = await app.inject({ method: 'POST', url: '/v1/measurements', ...form(parts) })
    return gist({ status: answer.statusCode, body: answer.json() })
  }
  const request = JSON.stringify(of({}))
  assert.deepEqual(await asForm(['other', '{}']), [400, 'body-required', null])
  assert.deepEqual(await asForm(['request', '{"technology":"a","technology":"b"}']), [
    400,
    'duplicate-key',
    '/technology',
  ])
  assert.deepEqual(await asForm(['request', request], ['request', request]), [400, 'malformed-request', null])
  assert.deepEqual(await asForm(['request', request], ['spare', 'x', 'f']), [400, 'unused-part', ''])
  const broken = { headers: { 'content-type': 'multipart/form-data; boundary=x' }, payload: 'no form' }
  const answer = await app.inject({ method: 'POST', url: '/v1/measurements', ...broken })
  assert.deepEqual([answer.statusCode, answer.json().code], [400, 'malformed-request'])
})

test('only a form may be large', async (t) => {
  const { app, send } = await service(t)
  const base64 = Buffer.alloc(BULK_BODY_BYTES).toString('base64')
  const large = { technology: 'sev-snp', inputs: { ...inputs, image: { base64 } } }
  assert.deepEqual(gist(await send('POST', '/v1/measurements', large)), [413, 'body-too-large', null])
  const request = JSON.stringify({ technology: 'sev-snp', inputs: { ...inputs, image: { part: 'ovmf' } } })
  const parts = form([
    ['request', request],
    ['ovmf', ovmfImage({ pages: 512 }), 'OVMF.fd'],
  ])
  assert.equal((await app.inject({ method: 'POST', url: '/v1/measurements', ...parts })).statusCode, 200)
})

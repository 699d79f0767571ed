import assert from 'node:assert/strict'
import { test } from 'node:test'
import { service } from '../../../support/service.ts'
import { rehash } from './naive-mrtd.ts'
import { tdvfImage } from './tdvf-image.ts'
import { mrtdVectors } from './vectors.ts'

test('POST /v1/measurements over a socket: vectors as they are, a file in a form, and refusals', async (t) => {
  const { app } = await service(t)
  const url = `${await app.listen({ port: 0, host: '127.0.0.1' })}/v1/measurements`
  const post = async (body: unknown) => {
    const reply = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    return { status: reply.status, body: (await reply.json()) as ReturnType<typeof JSON.parse> }
  }
  for (const id of ['image-a-two-pass-section', 'ops-refusals', 'rtmr-one-separator', 'block-extend-chunk']) {
    const vector = mrtdVectors.find((one) => one.id === id)
    assert.ok(vector !== undefined)
    const { status, body } = await post({ technology: 'tdx', inputs: vector.input })
    assert.equal(status, 200, JSON.stringify(body))
    assert.equal(body.technology, 'tdx')
    for (const [name, value] of Object.entries(vector.expect)) assert.deepEqual(body[name], value, `${id} ${name}`)
  }

  const image = tdvfImage()
  const form = new FormData()
  form.set('request', JSON.stringify({ technology: 'tdx', inputs: { image: { part: 'tdvf' }, vmm: 'qemu' } }))
  form.set('tdvf', new Blob([image]), 'TDVF.fd')
  const reply = await fetch(url, { method: 'POST', body: form })
  assert.equal(reply.status, 200)
  const fromForm = (await reply.json()) as ReturnType<typeof JSON.parse>
  assert.equal(rehash(fromForm.steps, { image }), fromForm.mrtd)
  const asJson = await post({ technology: 'tdx', inputs: { image: { base64: image.toString('base64') } } })
  assert.deepEqual(asJson.body, fromForm)

  const old = tdvfImage({ form: 'file-offset' }).toString('base64')
  const refused = await post({ technology: 'tdx', inputs: { image: { base64: old } } })
  assert.deepEqual(
    [refused.status, refused.body.code, refused.body.errno, refused.body.errors[0].pointer],
    [422, 'qemu-no-metadata', 'EINVAL', '/inputs/image'],
  )
  const unknown = await post({ technology: 'tdx', inputs: { gpaw: 49, ops: [] } })
  assert.deepEqual([unknown.status, unknown.body.code], [400, 'validation-failed'])
  assert.equal(unknown.body.errors[0].pointer, '/inputs/gpaw')
  const noVmm = await post({ technology: 'tdx', inputs: { image: { base64: '' }, vmm: 'x' } })
  assert.equal(noVmm.body.errors[0].pointer, '/inputs/vmm')
})

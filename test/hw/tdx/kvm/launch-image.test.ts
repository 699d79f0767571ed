import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { Engine } from '../../../../src/domain/engine.ts'
import { presentHost } from '../../../../src/domain/present.ts'
import { backends, measurers } from '../../../../src/hw/registry.ts'
import { type SparseInputs, sparseImage } from '../../../../src/hw/tdx/measurement/sparse-image.ts'
import { VMMS } from '../../../../src/hw/tdx/measurement/vmms.ts'
import { registerRoutes } from '../../../../src/routes/index.ts'
import { type App, buildApp } from '../../../../src/server/app.ts'
import { parseJsonBody } from '../../../../src/server/json-body.ts'
import { Metrics } from '../../../../src/server/metrics.ts'
import { MemoryJournal } from '../../../support/memory-journal.ts'
import { tdvfImage } from '../measurement/tdvf-image.ts'
import { mrtdVectors } from '../measurement/vectors.ts'

type Json = ReturnType<typeof JSON.parse>

let app: App
let url: string

before(async () => {
  const engine = await Engine.open(new MemoryJournal(), backends, { command: () => {}, failure: () => {} })
  const command = { type: 'host.create', technology: 'tdx', memory: 2 ** 40, seed: 'test/tdx' } as const
  await engine.replaceHost('tdx', command, {}, presentHost)
  const api = { engine, backends, measurers, seed: 'test', parseJson: parseJsonBody }
  app = await buildApp({
    metrics: new Metrics({ processMetrics: false }),
    health: { ready: () => ({ ok: true }) },
    registerRoutes: (routes) => registerRoutes(routes, api),
  })
  url = await app.listen({ port: 0, host: '127.0.0.1' })
})
after(() => app.close())

async function ask(method: string, path: string, body?: unknown): Promise<{ status: number; body: Json }> {
  const raw = body instanceof Uint8Array
  const reply = await fetch(url + path, {
    method,
    ...(body === undefined ? {} : { body: raw ? Buffer.from(body) : JSON.stringify(body) }),
    headers: body === undefined ? {} : { 'content-type': raw ? 'application/octet-stream' : 'application/json' },
  })
  return { status: reply.status, body: await reply.json() }
}
async function must(method: string, path: string, body?: unknown): Promise<Json> {
  const answer = await ask(method, path, body)
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
  return answer.body
}

const newVm = async (more: object = {}): Promise<string> =>
  (await must('POST', '/v1/vms', { technology: 'tdx', ...more })).id
const inUse = async () => (await must('GET', '/v1/hosts/tdx')).use

for (const vector of mrtdVectors.filter(({ kind }) => kind === 'mrtd-image')) {
  const sparse = sparseImage(vector.input as unknown as SparseInputs)
  const { order, extend } = vector.input
  for (const privacy of ['populated', 'attributes']) {
    test(`intel-tdx.md f: vector ${vector.id} through a launch over a socket, ${privacy}`, async () => {
      assert.ok(sparse.ok)
      const use = await inUse()
      const vm = await newVm({ privacy })
      const path = `/v1/vms/${vm}/launch/image?vmm=kvm&order=${order}&extend=${extend}`
      const answer = await ask('POST', path, sparse.image)
      if (vector.expect.refused !== undefined) {
        assert.deepEqual([answer.status, answer.body.errno], [422, 'EINVAL'])
        assert.ok(answer.body.detail.includes(vector.expect.refused), answer.body.detail)
        assert.deepEqual(await inUse(), use, 'no page, no memory')
        assert.deepEqual((await must('GET', `/v1/vms/${vm}/memslots`)).items, [])
        assert.equal((await must('GET', `/v1/vms/${vm}`)).state, 'launching')
        await must('POST', `/v1/vms/${vm}/launch/image?vmm=kvm`, tdvfImage())
        return
      }
      assert.equal(answer.status, 200, JSON.stringify(answer.body))
      assert.equal(answer.body.digest, vector.expect.mrtd)
      assert.equal(answer.body.completed, Number(vector.expect.pageAdds) * 4096)
      const log = await must('GET', `/v1/vms/${vm}/launch`)
      assert.deepEqual([log.state, log.digest], ['RUNNABLE', vector.expect.mrtd])
      assert.equal(log.steps.at(-1).digestAfter, log.digest)
      assert.equal(
        log.steps
          .filter((step: Json) => step.operation !== 'extend')
          .reduce((sum: number, { pages }: Json) => sum + pages, 0),
        vector.expect.pageAdds,
      )
      assert.equal(
        log.steps
          .filter((step: Json) => step.operation !== 'add')
          .reduce((sum: number, { pages }: Json) => sum + 16 * pages, 0),
        vector.expect.extends,
      )
      const evidence = await must('GET', `/v1/vms/${vm}/attestation?nonce=0102`)
      assert.deepEqual([evidence.measurement, evidence.fields.mrtd], [vector.expect.mrtd, vector.expect.mrtd])
      const quote = Buffer.from(evidence.quote, 'base64')
      assert.equal(quote.subarray(48 + 136, 48 + 184).toString('hex'), vector.expect.mrtd)
      assert.equal(quote.subarray(48 + 520, 48 + 522).toString('hex'), '0102')
    })
  }
}

const measuresTdHob = (vmm: string): boolean => vmm === 'google-cloud-2024-tdhob-bug'

test('intel-tdx.md f.2: every VMM, order and extent launches to what POST /v1/measurements says', async () => {
  const image = tdvfImage()
  const queries = [
    ...Object.keys(VMMS).map((vmm) => (measuresTdHob(vmm) ? { vmm, tdHob: '09'.repeat(56) } : { vmm })),
    ...['interleaved', 'two-pass-section', 'two-pass-image'].flatMap((order) =>
      ['flagged', 'all', 'none'].map((extend) => ({ order, extend })),
    ),
  ]
  const digests = new Set<string>()
  for (const query of queries) {
    const vm = await newVm()
    const launched = await must('POST', `/v1/vms/${vm}/launch/image?${new URLSearchParams(query)}`, image)
    const tdHob = 'tdHob' in query ? { tdHob: { base64: Buffer.from(query.tdHob, 'hex').toString('base64') } } : {}
    const inputs = { image: { base64: image.toString('base64') }, ...query, ...tdHob }
    const measured = await must('POST', '/v1/measurements', { technology: 'tdx', inputs })
    assert.equal(launched.digest, measured.mrtd, JSON.stringify(query))
    digests.add(launched.digest)
    const sections = [0xffffe000, 0xffffc000, 0x810000, 0x809000]
    for (const gpa of sections) {
      const page = await must('GET', `/v1/vms/${vm}/page-states?gpa=0x${gpa.toString(16)}&length=4096`)
      assert.deepEqual([page.items[0].visibility, page.items[0].hardware.sept], ['private', 'MAPPED'])
    }
    await must('DELETE', `/v1/vms/${vm}`)
  }
  assert.ok(digests.size >= 6, `${digests.size} digests`)
})

test('intel-tdx.md f.2: the guest finds its firmware, and its TD_HOB in RCX; without finish more can be added', async () => {
  const image = tdvfImage()
  const vm = await newVm({ vcpus: 2 })
  const first = await must('POST', `/v1/vms/${vm}/launch/image?finish=false`, image)
  assert.equal(first.state, 'INITIALIZED')
  const twice = await ask('POST', `/v1/vms/${vm}/launch/image?finish=false`, image)
  assert.deepEqual([twice.status, twice.body.errno], [422, 'EEXIST'])
  const finished = await must('POST', `/v1/vms/${vm}/launch/finish`, { tdHob: '0x809000' })
  assert.deepEqual([finished.state, finished.digest], ['RUNNABLE', first.digest])
  const read = await must('POST', `/v1/vms/${vm}/vcpus/1/accesses`, {
    gpa: '0xffffe000',
    kind: 'read',
    length: 64,
    private: true,
  })
  assert.deepEqual(Buffer.from(read.data, 'base64'), image.subarray(0x2000, 0x2040))
})

const OVMF = '/usr/share/ovmf/OVMF.fd'
test('Debian’s OVMF launches, and gives what POST /v1/measurements gives', {
  skip: !existsSync(OVMF) && `needs ${OVMF} of Debian's package ovmf`,
}, async () => {
  const image = readFileSync(OVMF)
  for (const vmm of ['qemu', 'qemu-8.2-two-pass']) {
    const vm = await newVm()
    const launched = await must('POST', `/v1/vms/${vm}/launch/image?vmm=${vmm}`, image)
    const form = new FormData()
    form.set('request', JSON.stringify({ technology: 'tdx', inputs: { image: { part: 'tdvf' }, vmm } }))
    form.set('tdvf', new Blob([image]))
    const reply = await fetch(`${url}/v1/measurements`, { method: 'POST', body: form })
    const measured = (await reply.json()) as Json
    assert.equal(launched.digest, measured.mrtd)
    assert.equal((await must('GET', `/v1/vms/${vm}/launch`)).steps.at(-1).digestAfter, launched.digest)
    assert.equal((await must('GET', `/v1/vms/${vm}/attestation`)).measurement, launched.digest)
  }
})

const CODE = '/usr/share/OVMF/OVMF_CODE.fd'
test('intel-tdx.md f.2: Debian’s CODE-only image is refused: data outside the image', {
  skip: !existsSync(CODE) && `needs ${CODE} of Debian's package ovmf`,
}, async () => {
  const vm = await newVm()
  const { status, body } = await ask('POST', `/v1/vms/${vm}/launch/image`, readFileSync(CODE))
  assert.deepEqual([status, body.code, body.errno], [422, 'section-data-outside', 'EINVAL'])
})

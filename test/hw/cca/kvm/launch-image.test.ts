import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { VMMS, type Vmm } from '../../../../src/hw/cca/measurement/vmms.ts'
import { service } from '../../../support/service.ts'

type Json = ReturnType<typeof JSON.parse>

let url = ''
before(async (t) => {
  const { app } = await service(t as Parameters<typeof service>[0])
  url = await app.listen({ port: 0, host: '127.0.0.1' })
})

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
  (await must('POST', '/v1/vms', { technology: 'cca', ...more })).id
const hex = (value: number): string => `0x${value.toString(16)}`

/** POST /v1/measurements for a VMM's whole launch of one image, as a form. */
async function measure(inputs: object, image: Uint8Array): Promise<Json> {
  const form = new FormData()
  form.set('request', JSON.stringify({ technology: 'cca', inputs }))
  form.set('image', new Blob([Buffer.from(image)]))
  const reply = await fetch(`${url}/v1/measurements`, { method: 'POST', body: form })
  assert.equal(reply.status, 200)
  return reply.json()
}

const image = Buffer.concat([Buffer.alloc(3 * 4096, 'kernel'), Buffer.alloc(4096), Buffer.from('and its end')])
const MIB = 2 ** 20

type Launch = {
  readonly vmm: Vmm
  readonly ramSize: number
  /** Where the image lies; undefined is where the VMM puts it. */
  readonly base?: number
  readonly vcpus?: number
  readonly x0?: number
  readonly entry?: number
  readonly hash?: 'sha-256' | 'sha-512'
}

const launches: Launch[] = (Object.keys(VMMS) as Vmm[]).flatMap((vmm): Launch[] => [
  { vmm, ramSize: 512 * MIB },
  { vmm, ramSize: 512 * MIB, base: VMMS[vmm].ramGfn * 4096 + 2 * MIB, vcpus: 3 },
  { vmm, ramSize: 3 * MIB + 4096, base: VMMS[vmm].ramGfn * 4096 + 4096, hash: 'sha-256' },
  { vmm, ramSize: 1024 * MIB, base: VMMS[vmm].ramGfn * 4096, x0: 0x1234, entry: 0x5678, hash: 'sha-512' },
])

/** The config of a VM whose Realm is the one that the VMM would ask for, and the launch as measurements take it. */
function shapeOf(launch: Launch) {
  const machine = VMMS[launch.vmm]
  const last = BigInt(machine.ramGfn) * 4096n + BigInt(launch.ramSize) - 1n
  const s2sz = machine.s2sz(last.toString(2).length)
  const hash = launch.hash ?? (machine.hashAlgo === 0 ? 'sha-256' : 'sha-512')
  const isFirmware = machine.firmwareEntry !== undefined && launch.base === undefined
  const base = launch.base ?? (isFirmware ? 0 : machine.ramGfn * 4096)
  const x0 = launch.x0 ?? 0
  const { vmm, ramSize, vcpus = 1 } = launch
  const inputs = {
    vmm,
    ramSize,
    vcpus,
    images: [{ ipa: hex(base), content: { part: 'image' } }],
    entry: hex(launch.entry ?? base),
    gprs: [hex(x0), ...Array.from({ length: 7 }, () => '0x0')],
    realm: { hash_algo: hash === 'sha-512' ? 1 : 0 },
  }
  return { config: { s2sz, hash }, inputs, base }
}

function queryOf({ vmm, ramSize, base, x0, entry }: Launch): string {
  const given = { vmm, ramSize, base, x0, entry }
  const words = Object.entries(given).filter(([, value]) => value !== undefined)
  return words.map(([name, value]) => `${name}=${value}`).join('&')
}

for (const launch of launches) {
  const name = queryOf(launch)
  test(`arm-cca.md 8, 9: launch/image gives the RIM of POST /v1/measurements: ${name}`, async () => {
    const { config, inputs, base } = shapeOf(launch)
    const privacy = launch.vcpus === 3 ? 'attributes' : 'populated'
    const vm = await newVm({ privacy, vcpus: inputs.vcpus, config })
    const { rim } = await measure(inputs, image)
    const launched = await must('POST', `/v1/vms/${vm}/launch/image?${name}`, image)
    assert.deepEqual([launched.digest, launched.state, launched.completed], [rim, 'ACTIVE', 5 * 4096])
    const log = await must('GET', `/v1/vms/${vm}/launch`)
    assert.deepEqual([log.digest, log.state, log.steps.at(-1).digestAfter], [rim, 'ACTIVE', rim])
    assert.equal(log.steps.filter(({ operation }: Json) => operation === 'rec').length, inputs.vcpus)
    const nonce = '0102'
    const evidence = await must('GET', `/v1/vms/${vm}/attestation?nonce=${nonce}`)
    assert.equal(evidence.measurement, rim)
    assert.deepEqual(
      [evidence.fields.realm.initialMeasurement, evidence.fields.realm.challenge, evidence.fields.realm.hashAlgorithm],
      [rim, nonce.padEnd(128, '0'), config.hash],
    )
    assert.ok(Buffer.from(evidence.token, 'base64').includes(Buffer.from(rim, 'hex')), 'the token carries it')
    const read = await must('POST', `/v1/vms/${vm}/vcpus/0/accesses`, {
      gpa: hex(base + 4 * 4096),
      kind: 'read',
      length: 16,
      private: true,
    })
    assert.equal(Buffer.from(read.data, 'base64').toString(), 'and its end'.padEnd(16, '\0'))
    const raw = await must('POST', `/v1/vms/${vm}/calls`, { call: 'RSI_MEASUREMENT_READ', index: 0 })
    assert.ok(JSON.stringify(raw).includes(rim), 'and the guest reads it')
    await must('DELETE', `/v1/vms/${vm}`)
  })
}

test('arm-cca.md 9: every VMM has a RIM of its own', async () => {
  const rims = new Set<string>()
  for (const vmm of Object.keys(VMMS) as Vmm[]) {
    const base = 0x80000000
    const vm = await newVm({ config: { s2sz: 41 } })
    const query = queryOf({ vmm, ramSize: 2048 * MIB, base, x0: 0 })
    rims.add((await must('POST', `/v1/vms/${vm}/launch/image?${query}`, image)).digest)
  }
  assert.equal(rims.size, 4)
})

test('arm-cca.md 9: without finish more can be added; finish makes no REC twice', async () => {
  const vm = await newVm({ vcpus: 2, config: { s2sz: 33 } })
  const first = await must('POST', `/v1/vms/${vm}/launch/image?finish=false&vmm=kvmtool`, image)
  assert.equal(first.state, 'NEW')
  const data = Buffer.alloc(4096, 9).toString('base64')
  const added = await must('POST', `/v1/vms/${vm}/launch/update`, { gpa: '0x8fe00000', data, measure: false })
  assert.notEqual(added.digest, first.digest)
  const finished = await must('POST', `/v1/vms/${vm}/launch/finish`, { entry: '0x1', x0: '0x2' })
  assert.deepEqual([finished.state, finished.digest], ['ACTIVE', added.digest])
  const again = await ask('POST', `/v1/vms/${vm}/launch/image?vmm=kvmtool`, image)
  assert.deepEqual([again.status, again.body.code, again.body.errno], [422, 'realm-not-new', 'EPERM'])
})

test('arm-cca.md 4, 9: what an image launch refuses, and that it leaves no trace', async () => {
  const vm = await newVm({ config: { s2sz: 33 } })
  const use = async () => (await must('GET', '/v1/hosts/cca')).use
  const before = await use()
  for (const [query, code, pointer] of [
    ['vmm=qemu&base=0x80000001', 'base-unaligned', '/base'],
    ['vmm=kvmtool&ramSize=4097', 'ram-size', '/ramSize'],
    ['vmm=kvmtool&ramSize=0', 'ram-size', '/ramSize'],
    ['vmm=kvmtool&ramSize=0x80001000', 'ipa-unprotected', '/ramSize'],
    ['vmm=kvmtool&base=0xfffff000', 'ipa-unprotected', '/image'],
  ]) {
    const { status, body } = await ask('POST', `/v1/vms/${vm}/launch/image?${query}`, image)
    assert.deepEqual([status, body.code, body.errno], [422, code, 'EINVAL'], JSON.stringify(body))
    assert.equal(body.errors?.[0]?.pointer, pointer)
  }
  assert.deepEqual([await use(), (await must('GET', `/v1/vms/${vm}/memslots`)).items], [before, []])
  const { status } = await ask('POST', `/v1/vms/${vm}/launch/image?vmm=bochs`, image)
  assert.equal(status, 400)
})

test('arm-cca.md 5: RIPAS over pages that are there already stops the launch, and says how far it came', async () => {
  const vm = await newVm({ config: { s2sz: 33 } })
  await must('POST', '/v1/memfiles', { size: '16KiB', technology: 'cca' })
  const memfile = (await must('POST', '/v1/memfiles', { size: '16KiB', technology: 'cca' })).id
  await must('POST', `/v1/memfiles/${memfile}/bind`, { vm })
  await must('PUT', `/v1/vms/${vm}/memslots/0`, { gpa: '0x80200000', size: '16KiB', memfile })
  const data = Buffer.alloc(4096, 9).toString('base64')
  await must('POST', `/v1/vms/${vm}/launch/update`, { gpa: '0x80201000', data })
  const { status, body } = await ask('POST', `/v1/vms/${vm}/launch/image?vmm=kvmtool&ramSize=0x400000`, image)
  assert.deepEqual(
    [status, body.code, body.errno, body.hardware],
    [422, 'rmi-refused', 'ENXIO', { status: 'RMI_ERROR_RTT', code: 0x304 }],
  )
  const log = await must('GET', `/v1/vms/${vm}/launch`)
  assert.deepEqual(
    [log.state, log.steps.at(-1).operation, log.steps.at(-1).digestAfter],
    ['NEW', 'init-ripas', log.digest],
  )
})

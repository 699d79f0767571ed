import assert from 'node:assert/strict'
import { Changes } from '../../src/domain/changes.ts'
import { recover } from '../../src/domain/recovery.ts'
import { backends } from '../../src/hw/registry.ts'
import { fingerprint } from './domain.ts'
import { MemoryJournal } from './memory-journal.ts'
import { ovmfImage } from './ovmf-image.ts'
import type { Service } from './service.ts'

type Json = Record<string, unknown>

export type Attack = {
  readonly method: string
  readonly url: string
  /** Sent as it is; anything but a text or bytes is sent as JSON. */
  readonly payload?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export type Outcome = {
  readonly status: number
  readonly text: string
  readonly body: ReturnType<typeof JSON.parse>
  readonly headers: Readonly<Record<string, unknown>>
}

const brief = ({ method, url, payload }: Attack): string => {
  const text = typeof payload === 'string' || payload === undefined ? payload : JSON.stringify(payload)
  return `${method} ${url.slice(0, 300)} ${(text ?? '').slice(0, 600)}`
}

/**
 * Sends a request that may be anything, and checks what holds for all: never a fault of ours, a problem document for
 * whatever is refused, and nothing journaled for it unless it says so.
 */
export async function attack({ app, engine }: Pick<Service, 'app' | 'engine'>, request: Attack): Promise<Outcome> {
  const { method, url, payload, headers = {} } = request
  const raw = typeof payload === 'string' || Buffer.isBuffer(payload)
  const before = engine.lastSeq
  const reply = await app.inject({
    method: method as 'GET',
    url,
    headers: { ...(payload === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(payload === undefined ? {} : { payload: raw ? payload : JSON.stringify(payload) }),
  })
  const what = brief(request)
  const { statusCode: status, body: text } = reply
  assert.ok(status < 500, `${what}: ${text}`)
  const json = String(reply.headers['content-type']).includes('json')
  const body: ReturnType<typeof JSON.parse> = json && text !== '' ? JSON.parse(text) : undefined
  if (status >= 400 && method !== 'HEAD') {
    assert.match(String(reply.headers['content-type']), /^application\/problem\+json/, what)
    assert.deepEqual([body.status, typeof body.code, body.type], [status, 'string', `urn:gmemd:problem:${body.code}`])
    assert.equal(typeof body.requestId, 'string', what)
    assert.ok(body.detail.length > 0 && body.title.length > 0, what)
    assert.doesNotMatch(text, /node_modules|\bat .*\.ts:\d/, what)
  }
  const kept = body?.progress?.seq !== undefined
  if (status >= 400 && !kept) assert.equal(engine.lastSeq, before, `${what} was refused and journaled`)
  return { status, text, body, headers: reply.headers }
}

/** Replaying the journal alone, without what was refused, must come to the hosts as they are, to the byte. */
export function assertReplays({ engine, store }: Pick<Service, 'engine' | 'store'>): void {
  assert.ok(store instanceof MemoryJournal)
  const { entries, replies } = store
  for (const [index, { seq }] of entries.entries()) assert.equal(seq, index + 1, 'the journal has a gap')
  const hosts = recover(backends, { lastSeq: entries.length, checkpoints: [], entries, replies }, new Changes())
  for (const [name, host] of engine.hosts) {
    const again = hosts.get(name)
    assert.ok(again !== undefined, `host ${name} is not in the journal`)
    assert.ok(fingerprint(again) === fingerprint(host), `host ${name} replays to another state`)
  }
}

export type World = {
  readonly host: string
  readonly ids: {
    readonly vm: readonly string[]
    readonly memfile: readonly string[]
    readonly mapping: readonly string[]
    readonly pin: readonly string[]
    readonly exit: readonly string[]
  }
}

const PAGE = 4096

/** A VM of each kind on two hosts of their own, with everything that a VM can have. */
export async function makeWorld(service: Service, name: string): Promise<World> {
  const { post } = service
  const soft = `soft-${name}`
  const snp = `snp-${name}`
  await post('/v1/hosts', { name: soft, technology: 'sw-protected', memory: '256MiB' }, 201)
  await post('/v1/hosts', { name: snp, technology: 'sev-snp', memory: '256MiB' }, 201)
  const plain = await makeMachine(service, { technology: 'sw-protected', host: soft, vcpus: 2 })
  const attributes = await makeMachine(service, { technology: 'sw-protected', host: soft, privacy: 'attributes' })
  const manual = await makeMachine(service, { technology: 'sw-protected', host: soft, conversion: 'manual', vcpus: 2 })
  const launched = await makeMachine(service, { technology: 'sev-snp', host: snp, vcpus: 2 })
  const launching = await makeMachine(service, { technology: 'sev-snp', host: snp })
  await launchImage(service, launched.vm)
  const entries = [{ gpa: 0, pages: 64, operation: 'private' }]
  await post(`/v1/vms/${launched.vm}/page-states`, { accept: true, entries })
  await post(`/v1/vms/${plain.vm}/page-states`, { entries })
  const waiting = await post(`/v1/vms/${manual.vm}/page-states`, { entries })
  const mapping = await post(`/v1/vms/${plain.vm}/mappings`, { gpa: 0x80000, length: 4 * PAGE }, 201)
  const pin = await post(`/v1/vms/${plain.vm}/pins`, { gpa: 0x80000, length: 2 * PAGE }, 201)
  const unbound = await post('/v1/memfiles', { size: '2MiB', host: soft }, 201)
  const all = [plain, attributes, manual, launched, launching]
  return {
    host: snp,
    ids: {
      vm: all.map(({ vm }) => vm),
      memfile: [...all.map(({ memfile }) => memfile), unbound.id],
      mapping: [mapping.id],
      pin: [pin.id],
      exit: [waiting.waiting.id],
    },
  }
}

/** A VM with 4 MiB of memory from address 0. */
export async function makeMachine({ post, put }: Service, options: Json): Promise<{ vm: string; memfile: string }> {
  const vm = (await post('/v1/vms', options, 201)).id
  const { host } = options
  const memfile = (await post('/v1/memfiles', { size: '4MiB', host }, 201)).id
  await post(`/v1/memfiles/${memfile}/bind`, { vm })
  await put(`/v1/vms/${vm}/memslots/0`, { gpa: '0x0', size: '4MiB', memfile }, 201)
  return { vm, memfile }
}

export async function launchImage(service: Service, vm: string): Promise<void> {
  const headers = { 'content-type': 'application/octet-stream' }
  const payload = ovmfImage()
  const { status, text } = await attack(service, {
    method: 'POST',
    url: `/v1/vms/${vm}/launch/image`,
    payload,
    headers,
  })
  assert.equal(status, 200, text)
}

const hex = (value: number): string => `0x${value.toString(16)}`

/** Ids that exist, some that do not, and addresses around everything that is somewhere. */
export function poolsOf({ ids }: World): Record<string, readonly unknown[]> {
  const never = ['vm-0', 'nope', 'memfile-1']
  const addresses = [
    0,
    1,
    PAGE - 4,
    PAGE,
    2 * PAGE,
    63 * PAGE,
    64 * PAGE,
    0x80000,
    0x82000,
    0x200000,
    0x3ff000,
    0x400000,
  ]
  const far = [
    0x800000,
    0x80d000,
    0x80e000,
    0x80f000,
    0x81f000,
    0xffffe000,
    2 ** 30,
    2 ** 40 - PAGE,
    2 ** 52 - PAGE,
    2 ** 52,
  ]
  const gpa = [...addresses, ...addresses, ...far].map((value, index) => (index % 2 === 0 ? hex(value) : value))
  const top = 256 * 2 ** 20
  const hpa = [0, PAGE, 2 * PAGE, 3 * PAGE, 64 * PAGE, 2 ** 21, 2 ** 22, top - 2 ** 21, top - PAGE, top, 2 ** 40].map(
    hex,
  )
  const lengths = [1, PAGE, PAGE, 2 * PAGE, 16 * PAGE, 512 * PAGE, '2MiB', 0, 100, '4MiB', '0x1000']
  return {
    vm: [...ids.vm, ...ids.vm, ...ids.vm, never[0]],
    memfile: [...ids.memfile, ...ids.memfile, never[2]],
    mapping: [...ids.mapping, never[1]],
    pin: [...ids.pin, never[1]],
    exit: [...ids.exit, never[1]],
    gpa,
    hpa,
    destination: hpa,
    metadata: hpa,
    gctx: hpa,
    offset: [0, PAGE, 16 * PAGE, 2 ** 21, '1MiB', 1],
    memfileOffset: [0, PAGE, 2 ** 21],
    length: lengths,
    size: [PAGE, 16 * PAGE, '1MiB', '2MiB', '4MiB'],
    slot: ['0', '1', '2', '5', '1000', '32763', '32764', '509'],
    vcpu: [0, 0, 0, 1, 2],
    pages: [1, 1, 2, 16, 64, 512],
    vmpl: [0, 0, 0, 1, 2, 3],
    name: ['a', 'b'],
    memory: ['16MiB', '64MiB'],
    limit: ['1', '2', '1000'],
  }
}

import path from 'node:path'
import type { TestContext } from 'node:test'
import Database from 'better-sqlite3'
import type { Engine } from '../../src/domain/engine.ts'
import { openStore } from '../../src/store/store.ts'
import { fingerprint } from './domain.ts'
import { ovmfImage } from './ovmf-image.ts'
import type { Call } from './process.ts'
import { service } from './service.ts'

/** A history of the service that uses every kind of mutation, as it goes when nothing stops it. */

export type Step = {
  readonly call: Call
  readonly status: number
  readonly body: Record<string, unknown>
}

/** The service after a number of steps. */
export type Moment = {
  readonly lastSeq: number
  /** Each host, to the byte. */
  readonly state: string
  /** Every row that people query, and the journal with its chain of hashes. */
  readonly rows: string
  /** What clients read, by URL. */
  readonly views: ReadonlyMap<string, unknown>
}

export type Script = {
  readonly steps: readonly Step[]
  /** One more than steps: the first is before any of them. */
  readonly moments: readonly Moment[]
}

const PAGE = 4096
const MIB = 1024 * 1024
const bytes = (fill: number, length = 16): string => Buffer.alloc(length, fill).toString('base64')
const memory = (gpa: number, kind: string, more: object = {}) => ({ gpa: hex(gpa), kind, ...more })
export const hex = (value: number): string => `0x${value.toString(16)}`

/** Contents read straight from the database are Buffers, and mean the same. */
export const stateOf = (hosts: Engine['hosts']): string =>
  [...hosts.values()]
    .map((host) => `${host.state.name} ${fingerprint(host).replaceAll('Buffer ', 'Uint8Array ')}`)
    .sort()
    .join('\n')

/** What clients read of everything there is; the lists say which further URLs there are. */
export async function readViews(get: (url: string) => Promise<unknown>): Promise<Map<string, unknown>> {
  const views = new Map<string, unknown>()
  const see = async (url: string): Promise<{ readonly id: string; readonly state?: string }[]> => {
    const view = (await get(url)) as { readonly items?: { readonly id: string }[] }
    views.set(url, view)
    return view.items ?? []
  }
  await see('/v1/hosts')
  await see('/v1/journal?limit=1000')
  for (const { id } of await see('/v1/vms')) {
    for (const part of ['page-states', 'accounting', 'memslots', 'exits', 'mappings', 'pins', 'launch']) {
      await see(`/v1/vms/${id}/${part}`)
    }
  }
  for (const { id } of await see('/v1/memfiles')) await see(`/v1/memfiles/${id}/extents`)
  return views
}

const TABLES = ['journal', 'replies', 'hosts', 'vms', 'memfiles', 'memslots', 'page_runs']

export function readRows(directory: string): string {
  const db = new Database(path.join(directory, 'gmemd.db'), { readonly: true })
  try {
    return TABLES.map((table) => {
      const rows = db.prepare<[], unknown[]>(`SELECT * FROM ${table}`).raw().all()
      return `${table}\n${rows.map((row) => JSON.stringify(row)).join('\n')}`
    }).join('\n')
  } finally {
    db.close()
  }
}

/** Runs the script in this process, with nothing in its way, and records everything that it comes to. */
export async function recordScript(t: TestContext, directory: string): Promise<Script> {
  const { app, engine, get } = await service(t, openStore({ directory }))
  t.after(() => engine.close())
  const steps: Step[] = []
  const moments: Moment[] = []
  const look = async (): Promise<void> => {
    const state = stateOf(engine.hosts)
    moments.push({ lastSeq: engine.lastSeq, state, rows: readRows(directory), views: await readViews(get) })
  }
  await look()
  const step = async (expected: number, method: 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown) => {
    const headers = { 'idempotency-key': `step-${steps.length}` }
    const raw = Buffer.isBuffer(body)
    const type = { 'content-type': raw ? 'application/octet-stream' : 'application/json' }
    const payload = body === undefined ? {} : { payload: raw ? body : JSON.stringify(body) }
    const answer = await app.inject({
      method,
      url: path,
      headers: { ...(body === undefined ? {} : type), ...headers },
      ...payload,
    })
    const reply = answer.json() as Record<string, unknown>
    if (answer.statusCode !== expected) throw new Error(`${method} ${path}: ${answer.statusCode} ${answer.body}`)
    steps.push({ call: { method, path, body, headers }, status: expected, body: reply })
    await look()
    return reply as Record<string, string>
  }
  await playScript(step, get)
  return { steps, moments }
}

type Get = (url: string) => Promise<{ readonly hpa: string }>
type Play = (
  status: number,
  method: 'POST' | 'PUT' | 'DELETE',
  path: string,
  body?: unknown,
) => Promise<Record<string, string>>

async function playScript(step: Play, get: Get): Promise<void> {
  await playSoftware(step)
  await playSnp(step)
  await playSmallHosts(step, get)
}

async function playSoftware(step: Play): Promise<void> {
  const { id: vm } = await step(201, 'POST', '/v1/vms', { technology: 'sw-protected', name: 'soft', vcpus: 2 })
  const at = `/v1/vms/${vm}`
  // Made where no host is named, so that it moves to the host of its VM: two entries in one group.
  const { id: file } = await step(201, 'POST', '/v1/memfiles', { size: '16MiB', name: 'ram' })
  await step(200, 'POST', `/v1/memfiles/${file}/bind`, { vm })
  await step(201, 'PUT', `${at}/memslots/0`, { gpa: '0x0', size: '16MiB', memfile: file })
  await step(200, 'POST', `/v1/memfiles/${file}/fallocate`, { offset: 0, length: '1MiB' })
  await step(200, 'POST', `${at}/vcpus/0/accesses`, memory(PAGE - 8, 'write', { data: bytes(0x11) }))
  const entries = [{ gpa: '0x2000', pages: 8, operation: 'shared' }]
  await step(200, 'POST', `${at}/page-states`, { entries })
  await step(200, 'POST', `${at}/vcpus/1/accesses`, memory(0x3000, 'write', { data: bytes(0x22, 5000) }))
  await step(200, 'POST', `${at}/host-accesses`, memory(0x3000, 'read', { as: 'user', length: 32 }))
  await step(200, 'POST', `${at}/page-states`, { entries: [{ gpa: '0x3000', pages: 2, operation: 'private' }] })
  await step(422, 'POST', `/v1/memfiles/${file}/fallocate`, { offset: 1, length: '1MiB' })
  await step(200, 'POST', `/v1/memfiles/${file}/punch-hole`, { offset: 8 * PAGE, length: 16 * PAGE })
  await step(201, 'POST', `${at}/mappings`, { gpa: '0x8000', length: 4 * PAGE })
  const { id: pin } = await step(201, 'POST', `${at}/pins`, { gpa: '0x8000', length: 2 * PAGE, by: 'vfio' })
  await step(201, 'PUT', `${at}/memslots/7`, { gpa: '0x40000000', size: '4MiB' })
  await step(200, 'POST', `${at}/host-accesses`, memory(0x40000000, 'write', { as: 'kernel', data: bytes(0x33) }))
  await step(200, 'DELETE', `${at}/memslots/7`)
  await step(200, 'DELETE', `${at}/pins/${pin}`)
  await playManual(step)
  await playAttributes(step)
  await step(200, 'POST', `${at}/vcpus/0/accesses`, memory(PAGE - 8, 'read', { length: 64 }))
  await step(200, 'DELETE', `/v1/memfiles/${file}`)
}

/** The client is the VMM: an exit waits across restarts. */
async function playManual(step: Play): Promise<void> {
  const { id: vm } = await step(201, 'POST', '/v1/vms', { technology: 'sw-protected', conversion: 'manual' })
  const { id: file } = await step(201, 'POST', '/v1/memfiles', { size: MIB, technology: 'sw-protected' })
  await step(200, 'POST', `/v1/memfiles/${file}/bind`, { vm })
  await step(201, 'PUT', `/v1/vms/${vm}/memslots/0`, { gpa: '0x100000', size: MIB, memfile: file })
  const asked = await step(200, 'POST', `/v1/vms/${vm}/page-states`, {
    entries: [{ gpa: '0x100000', pages: 4, operation: 'private' }],
  })
  const exit = (asked.waiting as unknown as { id: string }).id
  await step(409, 'POST', `/v1/vms/${vm}/vcpus/0/accesses`, memory(0x100000, 'read'))
  await step(200, 'POST', `/v1/memfiles/${file}/fallocate`, { offset: 0, length: 4 * PAGE })
  await step(200, 'POST', `/v1/vms/${vm}/exits/${exit}/resume`, {})
  await step(200, 'POST', `/v1/vms/${vm}/vcpus/0/accesses`, memory(0x101000, 'write', { data: bytes(0x44, 4097) }))
  await step(200, 'DELETE', `/v1/vms/${vm}`)
}

async function playAttributes(step: Play): Promise<void> {
  const { id: vm } = await step(201, 'POST', '/v1/vms', { technology: 'sw-protected', privacy: 'attributes' })
  const { id: file } = await step(201, 'POST', '/v1/memfiles', { size: '4MiB', pageSize: 2 * MIB })
  await step(200, 'POST', `/v1/memfiles/${file}/bind`, { vm })
  await step(201, 'PUT', `/v1/vms/${vm}/memslots/3`, { gpa: '0x200000', size: '4MiB', memfile: file })
  await step(200, 'PUT', `/v1/vms/${vm}/attributes`, { gpa: '0x200000', length: '3MiB', attributes: ['private'] })
  await step(200, 'POST', `/v1/vms/${vm}/vcpus/0/accesses`, memory(0x3ff000, 'write', { data: bytes(0x55, 2 * PAGE) }))
  await step(200, 'PUT', `/v1/vms/${vm}/attributes`, { gpa: '0x300000', length: PAGE, attributes: [] })
  await step(200, 'POST', `/v1/vms/${vm}/vcpus/0/accesses`, memory(0x3ff000, 'read', { length: 2 * PAGE }))
}

async function playSnp(step: Play): Promise<void> {
  const { id: vm } = await step(201, 'POST', '/v1/vms', { technology: 'sev-snp', vcpus: 2, config: {} })
  const at = `/v1/vms/${vm}`
  await step(409, 'POST', `${at}/vcpus/0/accesses`, memory(0x800000, 'read'))
  await step(200, 'POST', `${at}/launch/image?vcpuType=EPYC-Genoa`, ovmfImage({ pages: 4 }))
  const { id: file } = await step(201, 'POST', '/v1/memfiles', { size: '4MiB', host: 'sev-snp', pageSize: 2 * MIB })
  await step(200, 'POST', `/v1/memfiles/${file}/bind`, { vm })
  await step(201, 'PUT', `${at}/memslots/1`, { gpa: '0x200000', size: '4MiB', memfile: file })
  await step(200, 'POST', `${at}/page-states`, {
    accept: true,
    entries: [{ gpa: '0x200000', pages: 1, pageSize: '2M', operation: 'private' }],
  })
  await step(200, 'POST', `${at}/vcpus/1/accesses`, memory(0x2ffff8, 'write', { private: true, data: bytes(0x66, 64) }))
  await step(200, 'POST', `${at}/host-accesses`, memory(0x2ffff8, 'read', { as: 'kernel', length: 8 }))
  await step(200, 'POST', `${at}/calls`, { call: 'PVALIDATE', gpa: '0x200000', validate: false })
  await step(200, 'POST', `${at}/page-states`, { entries: [{ gpa: '0x400000', pages: 512, operation: 'shared' }] })
  await step(200, 'POST', `${at}/vcpus/0/accesses`, memory(0x2ffff8, 'read', { private: true, length: 64 }))
  await step(404, 'DELETE', `${at}/memslots/99`)
  await step(200, 'DELETE', at)
}

async function playSmallHosts(step: Play, get: Get): Promise<void> {
  await step(201, 'POST', '/v1/hosts', { name: 'small', technology: 'sw-protected', memory: '16MiB' })
  const { id: file } = await step(201, 'POST', '/v1/memfiles', { size: '32MiB', host: 'small' })
  const { id: full } = await step(201, 'POST', '/v1/vms', { technology: 'sw-protected', host: 'small' })
  await step(200, 'POST', `/v1/memfiles/${file}/bind`, { vm: full })
  // Memory runs out half way: what was filled stays, and so does the problem that says it.
  await step(422, 'POST', `/v1/memfiles/${file}/fallocate`, { offset: 0, length: '32MiB' })
  await step(201, 'POST', '/v1/hosts', { name: 'fragile', technology: 'sev-snp', memory: '64MiB' })
  const { id: vm } = await step(201, 'POST', '/v1/vms', { technology: 'sev-snp', host: 'fragile' })
  await step(200, 'POST', `/v1/vms/${vm}/launch/image`, ovmfImage())
  // A kernel write to a page of the guest's: the host does not survive it.
  const { hpa } = await get(`/v1/vms/${vm}/pages/0x800000`)
  const crash = { as: 'kernel', hpa, kind: 'write', data: bytes(1) }
  await step(200, 'POST', `/v1/vms/${vm}/host-accesses`, crash)
  await step(409, 'DELETE', `/v1/vms/${vm}`)
  await step(200, 'POST', '/v1/hosts/fragile/reboot', {})
  // Where no host is named: the same one whatever order the hosts came back in.
  await step(201, 'POST', '/v1/memfiles', { size: '1MiB' })
}

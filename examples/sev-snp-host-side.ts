import { randomBytes, X509Certificate } from 'node:crypto'
import { isChain, isSignedBy, parseReport } from './attestation-report.ts'
import { base64, hex } from './client.ts'
import { chapter, check, same, say } from './narrator.ts'
import type {
  Accounting,
  Attestation,
  Call,
  Certificates,
  Exit,
  Host,
  HostAccess,
  PageStates,
  Resumed,
  Runs,
  Vm,
} from './replies.ts'
import { type Cast, guestReads, type Moments, makeVm, PAGES, pageAt, WORK } from './sev-snp-cast.ts'

const window = `gpa=${hex(WORK)}&length=${hex(PAGES * 4096)}`

export async function lookAtPages(cast: Cast): Promise<void> {
  const { gmemd, vm } = cast
  chapter('Who owns what, and why')
  const { items } = await gmemd.get<Runs>(`/v1/vms/${vm}/page-states?${window}`)
  for (const { gpa, length, owner, visibility, backing, hardware } of items) {
    const both = backing.private && backing.shared ? ', both backings' : ''
    say(
      `${gpa} ${String(length / 4096).padStart(3)} pages: ${owner}, ${visibility}${both}, ${JSON.stringify(hardware)}`,
    )
  }
  const pages = items.reduce((sum, { length }) => sum + length / 4096, 0)
  same('the runs cover the 16 pages', pages, PAGES)
  check(
    'all of them are private to the guest',
    items.every((run) => run.owner === 'guest'),
    items,
  )
  const page = await pageAt(cast, WORK)
  say(`${page.gpa}: slot ${page.slot}, ${page.memfile.id} at ${hex(page.memfile.offset)}`)
  say(`private page ${page.privateHpa}, shared page ${page.sharedHpa}`)
  say(`tables ${JSON.stringify(page.tables)}`)
  say(`last touched by ${page.history.map(({ seq, type }) => `${seq} ${type}`).join(', ')}`)
  same('its hardware state', page.hardware.rmp, 'Guest-Valid')
  check('its history is there', page.history.length > 0, page.history)
}

export async function countMemory({ gmemd, vm }: Cast): Promise<void> {
  chapter('Where memory goes')
  const { private: own, shared, both } = await gmemd.get<Accounting>(`/v1/vms/${vm}/accounting`)
  say(`private ${own}, shared ${shared}, allocated twice ${both} bytes`)
  same('the page that was shared for a while is paid for twice', both, 4096)
}

export async function convertByHand({ gmemd, host }: Cast): Promise<void> {
  const cast = await makeVm(gmemd, host, { conversion: 'manual' })
  const { vm, memfile } = cast
  await gmemd.post(`/v1/vms/${vm}/launch/finish`)
  const entries = [{ gpa: hex(WORK), pages: 2, operation: 'private' }]
  const asked = await gmemd.post<PageStates>(`/v1/vms/${vm}/page-states`, { entries, accept: true })
  same('the guest asks, and nothing is done', asked.completed, 0)
  const { items } = await gmemd.get<{ items: Exit[] }>(`/v1/vms/${vm}/exits`)
  const [exit] = items
  same('its exit waits for the VMM', exit?.id, asked.waiting?.id)
  say(`${exit?.id}: ${exit?.reason}, ${exit?.length} bytes at ${exit?.gpa} to be private`)
  await gmemd.post(`/v1/memfiles/${memfile}/fallocate`, { offset: WORK, length: 2 * 4096 })
  const resumed = await gmemd.post<Resumed>(`/v1/vms/${vm}/exits/${exit?.id}/resume`)
  same('fallocate, resume, and the request completes', resumed.result.completed, 1)
  same('the guest has accepted the pages', (await guestReads(cast, WORK, true)).outcome, 'ok')
  await gmemd.delete(`/v1/vms/${vm}`)
}

export async function attest({ gmemd, vm, host }: Cast, digest: string): Promise<void> {
  chapter('Evidence, simulated but well made')
  const nonce = randomBytes(64)
  const path = `/v1/vms/${vm}/attestation?nonce=${nonce.toString('hex')}`
  const { simulated, report: encoded } = await gmemd.get<Attestation>(path)
  same('it says itself that it is simulated', simulated, true)
  const bytes = Buffer.from(encoded, 'base64')
  const report = parseReport(bytes)
  say(`${bytes.length} bytes, version ${report.version}, policy ${hex(Number(report.policy))}`)
  check('it holds our nonce', report.reportData.equals(nonce), report.reportData.toString('hex'))
  same('and the launch digest', report.measurement, digest)
  const { items } = await gmemd.get<Certificates>(`/v1/hosts/${host}/certificates`)
  for (const { name, subject } of items) say(`${name}: ${subject.replaceAll('\n', ', ')}`)
  const chain = items.map(({ pem }) => new X509Certificate(pem))
  const [vcek] = chain
  check('the VCEK signed it', vcek !== undefined && isSignedBy(bytes, vcek))
  check('and the chain holds, up to the simulated ARK', isChain(chain))
}

export async function travelInTime({ gmemd, vm }: Cast, moments: Moments): Promise<void> {
  chapter('The page map as it was')
  const then = async (at: string): Promise<string | undefined> => {
    const { items } = await gmemd.get<Runs>(`/v1/vms/${vm}/page-states?gpa=${hex(WORK)}&length=4096${at}`)
    return items[0]?.visibility
  }
  same(`at ${moments.private} the page was private`, await then(`&at=${moments.private}`), 'private')
  same(`at ${moments.shared} it was shared`, await then(`&at=${moments.shared}`), 'shared')
  same('and now it is private again', await then(''), 'private')
}

export async function crashTheHost(cast: Cast): Promise<void> {
  const { gmemd, vm, host } = cast
  chapter('What a careless host does to itself')
  const { privateHpa: hpa } = await pageAt(cast, WORK)
  const write = (as: string, where: object): Promise<HostAccess> =>
    gmemd.post(`/v1/vms/${vm}/host-accesses`, { as, ...where, kind: 'write', data: base64('!') })
  const entry = await gmemd.post<Call>(`/v1/vms/${vm}/calls`, { call: 'RMPREAD', hpa })
  say(`RMPREAD ${hpa}: assigned ${entry.assigned}, ASID ${entry.asid}`)
  const user = await write('user', { hpa })
  same(`userspace that writes there gets ${user.fault?.name}`, user.fault?.errorCode, '0x80000007')
  const device = await write('device', { hpa })
  same('a device is stopped by the IOMMU', device.fault?.name, 'RMP_PAGE_FAULT')

  const shared = WORK + PAGES * 4096
  same('a page beside it is shared, and the VMM writes it', (await write('user', { gpa: hex(shared) })).outcome, 'ok')
  const { sharedHpa } = await pageAt(cast, shared)
  const given = { call: 'RMPUPDATE', hpa: sharedHpa, gpa: hex(shared), assigned: true, asid: entry.asid }
  const update = await gmemd.post<Call>(`/v1/vms/${vm}/calls`, given)
  same('a raw RMPUPDATE gives it to the guest, behind the back of KVM', update.status.name, 'SUCCESS')
  const kernel = await write('kernel', { gpa: hex(shared) })
  same('the kernel writes to it as before, and that was that', kernel.outcome, 'host-crash')
  const crashed = await gmemd.get<Host>(`/v1/hosts/${host}`)
  same('the machine has crashed', crashed.state, 'crashed')
  say(String(crashed.reason))
  same('the VM with it', (await gmemd.get<Vm>(`/v1/vms/${vm}`)).state, 'crashed')
  const refused = await gmemd.send('POST', `/v1/vms/${vm}/page-states`, { entries: [{ gpa: 0, operation: 'shared' }] })
  same('nothing can be done with it', refused.status, 409)

  const rebooted = await gmemd.post<Host>(`/v1/hosts/${host}/reboot`)
  same('after a reboot it is up', rebooted.state, 'up')
  same('all its memory is free', rebooted.use.private, 0)
  same('and the VM is gone', (await gmemd.send('GET', `/v1/vms/${vm}`)).status, 404)
}

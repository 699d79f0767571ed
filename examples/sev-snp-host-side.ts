import { randomBytes, X509Certificate } from 'node:crypto'
import { type Cast, call, hostWrites, PAGES, pageAt, WORK } from './cast.ts'
import { isChain } from './certificate-chain.ts'
import { showPages } from './chapters.ts'
import { hex } from './client.ts'
import { chapter, check, same, say } from './narrator.ts'
import type { Attestation, Certificates, Host, Vm } from './replies.ts'
import { isSignedBy, parseReport } from './sev-snp-report.ts'

export async function lookAtPages(cast: Cast): Promise<void> {
  chapter('Who owns what, and why')
  const { runs, page } = await showPages(cast, WORK)
  check(
    'all of them are private to the guest',
    runs.every((run) => run.owner === 'guest'),
    runs,
  )
  say(`tables ${JSON.stringify(page.tables)}`)
  same('its hardware state', page.hardware.rmp, 'Guest-Valid')
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

export async function crashTheHost(cast: Cast): Promise<void> {
  const { gmemd, vm, host } = cast
  chapter('What a careless host does to itself')
  const { privateHpa: hpa } = await pageAt(cast, WORK)
  const entry = await call(cast, 'RMPREAD', { hpa })
  say(`RMPREAD ${hpa}: assigned ${entry.assigned}, ASID ${entry.asid}`)
  const user = await hostWrites(cast, 'user', { hpa })
  same(`userspace that writes there gets ${user.fault?.name}`, user.fault?.errorCode, '0x80000007')
  const device = await hostWrites(cast, 'device', { hpa })
  same('a device is stopped by the IOMMU', device.fault?.name, 'RMP_PAGE_FAULT')

  const shared = WORK + PAGES * 4096
  same(
    'a page beside it is shared, and the VMM writes it',
    (await hostWrites(cast, 'user', { gpa: hex(shared) })).outcome,
    'ok',
  )
  const { sharedHpa } = await pageAt(cast, shared)
  const given = { hpa: sharedHpa, gpa: hex(shared), assigned: true, asid: entry.asid }
  const update = await call(cast, 'RMPUPDATE', given)
  same('a raw RMPUPDATE gives it to the guest, behind the back of KVM', update.status.name, 'SUCCESS')
  const kernel = await hostWrites(cast, 'kernel', { gpa: hex(shared) })
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

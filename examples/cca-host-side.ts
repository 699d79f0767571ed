import { type Cast, call, guestReads, guestWrites, hostReads, makeVm, PAGES, pageAt, WORK } from './cast.ts'
import { ipaStateSet, NO_CHANGE_DESTROYED, ripasOf } from './cca-guest.ts'
import { showPages } from './chapters.ts'
import { hex, textOf } from './client.ts'
import { chapter, check, same, say } from './narrator.ts'
import type { Call, Host, RealmPage, ResumedCall, Vm } from './replies.ts'

/** Pages in the middle of host memory, which nobody has. */
const SPARE = 512 * 2 ** 20

const realmPageAt = (cast: Cast, gpa: number): Promise<RealmPage> => pageAt(cast, gpa) as Promise<RealmPage>
const entryOf = (page: RealmPage): string | undefined => page.tables.protected.at(-1)?.state

export async function destroyAPage(cast: Cast): Promise<void> {
  const { gmemd, memfile } = cast
  const gpa = WORK + 2 * 4096
  chapter('The VMM punches a hole that nobody asked for: a tainted address')
  await guestWrites(cast, gpa, true, 'precious')
  await gmemd.post(`/v1/memfiles/${memfile}/punch-hole`, { offset: gpa, length: 4096 })
  same('the address is DESTROYED', await ripasOf(cast, gpa), 'DESTROYED')
  const touched = await guestReads(cast, gpa, true)
  same('the guest touches it, and leaves with REC_EXIT_SYNC', touched.fault?.name, 'REC_EXIT_SYNC')
  say(`${touched.exit?.reason}: ${touched.fault?.detail}`)
  const page = await realmPageAt(cast, gpa)
  same('KVM has given it a page, which helps nothing', entryOf(page), 'ASSIGNED/DESTROYED')
  same('and stays so until the guest has acknowledged the loss', page.tables.protected.at(-1)?.acknowledged, false)
  const careful = await ipaStateSet(cast, WORK, 4, 'RAM', NO_CHANGE_DESTROYED)
  same('a guest that wants to notice asks for RAM, and gets as far as the page', careful.x1, hex(gpa))
  same('RSI_IPA_STATE_SET with CHANGE_DESTROYED', (await ipaStateSet(cast, gpa, 1, 'RAM')).x1, hex(gpa + 4096))
  const read = await guestReads(cast, gpa, true)
  same('makes it usable', read.outcome, 'ok')
  same('and what was there is gone', textOf(read.data), '')
}

export async function lookAtPages(cast: Cast): Promise<void> {
  chapter('Who owns what, and why')
  const { runs } = await showPages(cast, WORK)
  check(
    'all of them are RAM of the guest',
    runs.every((run) => run.owner === 'guest' && run.hardware.ripas === 'RAM'),
    runs,
  )
  const page = await realmPageAt(cast, WORK)
  const { tables, sharedHpa, privateHpa } = page
  for (const half of ['protected', 'unprotected'] as const)
    for (const { level, index, state, table } of tables[half])
      say(
        `${half.padEnd(11)} level ${level}, entry ${String(index).padStart(3)}: ${table ? `${state} → ${table}` : state}`,
      )
  same('the walk in the protected half ends in a page', entryOf(page), 'ASSIGNED/RAM')
  const { pa, state, pas, rd } = tables.granule
  say(`granule ${pa}: ${state}, address space ${pas}, of the Realm ${rd}`)
  same('its granule is the private page', pa, privateHpa)
  same('and belongs to this Realm', rd, tables.realm.rd)
  check('the page that was shared for a while is another', sharedHpa !== null && sharedHpa !== privateHpa)
}

export async function commandTheRmm(cast: Cast): Promise<void> {
  chapter('The host commands the RMM itself')
  const gpa = WORK + 3 * 4096
  const { privateHpa: addr } = await pageAt(cast, gpa)
  const undelegated = await call(cast, 'RMI_GRANULE_UNDELEGATE', { addr })
  same(`a granule in use can't be undelegated: ${undelegated.status.name}`, undelegated.status.code, 1)
  const entry = await call(cast, 'RMI_RTT_READ_ENTRY', { ipa: hex(gpa), level: 3 })
  same('RMI_RTT_READ_ENTRY says what it is', `${entry.state} ${entry.ripas}`, 'ASSIGNED RAM')
  const folded = await call(cast, 'RMI_RTT_FOLD', { ipa: hex(WORK), level: 3 })
  same(`its table is no one entry: ${folded.status.name}, index 3`, folded.status.code, 0x304)
  await call(cast, 'RMI_GRANULE_DELEGATE', { addr: hex(SPARE) })
  const late = await call(cast, 'RMI_DATA_CREATE', {
    data: hex(SPARE),
    ipa: hex(gpa),
    src: hex(SPARE + 4096),
    flags: 1,
  })
  same(`no contents can be put into a Realm that is ACTIVE: ${late.status.name}`, late.status.code, 2)
  const live = await call(cast, 'RMI_REALM_DESTROY')
  same(`the Realm lives as long as its RECs: ${live.status.name}`, live.status.code, 2)
  same('the host enters a REC, which stays inside', (await call(cast, 'RMI_REC_ENTER')).status.name, 'RMI_SUCCESS')
  const twice = await call(cast, 'RMI_REC_ENTER')
  same(`it can't be entered twice: ${twice.status.name}`, twice.status.code, 3)
  await call(cast, 'IRQ')
  same('an interrupt brings it out, and in it may again', (await call(cast, 'RMI_REC_ENTER')).status.code, 0)
  await call(cast, 'IRQ')
}

export async function switchOnAVcpu(cast: Cast): Promise<void> {
  chapter('The second vCPU is parked until the first switches it on')
  const onSecond = (): Promise<Call> => call(cast, 'RSI_VERSION', { vcpu: 1, req: '0x10000' })
  const parked = await onSecond()
  same(`it can't be entered: ${parked.status.name}`, parked.status.code, 3)
  const asked = await call(cast, 'PSCI_CPU_ON', { target_cpu: 1, entry_point_address: '0x0' })
  same('PSCI_CPU_ON leaves the Realm', asked.exit_reason, 'PSCI')
  const waiting = await call(cast, 'RMI_REC_ENTER')
  same(`and the first can't go on meanwhile: ${waiting.status.name}`, waiting.status.code, 3)
  const { tables } = await realmPageAt(cast, WORK)
  const completed = await call(cast, 'RMI_PSCI_COMPLETE', { target_rec: tables.realm.recs[1]?.rec, status: 0 })
  same('RMI_PSCI_COMPLETE names the REC that is meant', completed.status.name, 'RMI_SUCCESS')
  same('the second vCPU runs', (await onSecond()).status.name, 'RSI_SUCCESS')
  const version = await call(cast, 'RSI_VERSION', { req: '0x10000' })
  same('and so does the first', version.status.name, 'RSI_SUCCESS')
}

export async function refuse({ gmemd, technology, host }: Cast): Promise<void> {
  chapter('A VMM that says no')
  const cast = await makeVm(gmemd, technology, host, { conversion: 'manual' })
  const { vm } = cast
  await gmemd.post(`/v1/vms/${vm}/launch/finish`)
  const resume = (asked: Call): Promise<ResumedCall> =>
    gmemd.post(`/v1/vms/${vm}/exits/${asked.waiting?.id}/resume`, { ret: 'EAGAIN' })
  const ram = await resume(await ipaStateSet(cast, WORK, PAGES, 'RAM'))
  same('RAM can be refused: REJECT', ram.result.response, 'REJECT')
  same('at the first page', ram.result.x1, hex(WORK))
  const empty = await resume(await ipaStateSet(cast, WORK, PAGES, 'EMPTY'))
  same("EMPTY can't: ACCEPT", empty.result.response, 'ACCEPT')
  same('but nothing was done, and the guest asks again', empty.result.x1, hex(WORK))
  await gmemd.delete(`/v1/vms/${vm}`)
}

export async function faultOnGranules(cast: Cast): Promise<void> {
  const { gmemd, vm, host } = cast
  chapter('What a careless host does to itself')
  const { privateHpa: hpa } = await pageAt(cast, WORK)
  const addr = hex(SPARE)
  same(
    `the page at ${addr} is DELEGATED, and the host may not look at it: GPF`,
    (await call(cast, 'host read', { addr })).status.name,
    'GPF',
  )
  same('until it is undelegated', (await call(cast, 'RMI_GRANULE_UNDELEGATE', { addr })).status.code, 0)
  same('and empty', (await call(cast, 'host read', { addr })).data, '')
  const kernel = await hostReads(cast, { hpa: String(hpa) })
  same(`the kernel, reading the guest's page at ${hpa}, dies of it`, kernel.outcome, 'host-crash')
  const crashed = await gmemd.get<Host>(`/v1/hosts/${host}`)
  same('the machine has crashed', crashed.state, 'crashed')
  say(String(crashed.reason))
  same('the VM with it', (await gmemd.get<Vm>(`/v1/vms/${vm}`)).state, 'crashed')
  const rebooted = await gmemd.post<Host>(`/v1/hosts/${host}/reboot`)
  same('after a reboot it is up', rebooted.state, 'up')
  same('and all its memory is free', rebooted.use.private, 0)
}

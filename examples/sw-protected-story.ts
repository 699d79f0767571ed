import { makeHost } from './cast.ts'
import { base64, type Gmemd, hex, textOf } from './client.ts'
import { chapter, check, same, say } from './narrator.ts'
import type { Access, Accounting, Call, Exit, HostAccess, Memfile, PageStates, Resumed, Runs, Vm } from './replies.ts'

const PAGE = 0x100000
type Cast = { readonly gmemd: Gmemd; readonly vm: string; readonly memfile: string }

/** KVM alone: two stores, and its own record of which one the guest sees. */
export async function tellSwProtected(gmemd: Gmemd): Promise<void> {
  const host = await meetTheHost(gmemd)
  const cast = await makeVm(gmemd, host, {})
  const asPrivate = await writeInPrivate(cast)
  const asShared = await share(cast)
  await travelInTime(cast, asPrivate, asShared)
  await refuseAndConvert(gmemd, host)
}

async function meetTheHost(gmemd: Gmemd): Promise<string> {
  chapter('Confidential in name only: KVM and nothing under it')
  const host = await makeHost(gmemd, 'sw-protected')
  same('no table takes memory', host.use.metadata, 0)
  return host.name
}

async function makeVm(gmemd: Gmemd, host: string, more: object): Promise<Cast> {
  const { id: vm, state } = await gmemd.post<Vm>('/v1/vms', { technology: 'sw-protected', host, ...more })
  same('nothing is measured, so the guest runs at once', state, 'running')
  const { id: memfile } = await gmemd.post<Memfile>('/v1/memfiles', { host, size: '16MiB' })
  await gmemd.post(`/v1/memfiles/${memfile}/bind`, { vm })
  await gmemd.put(`/v1/vms/${vm}/memslots/0`, { gpa: 0, size: '16MiB', memfile })
  say(`${vm} with 16 MiB in ${memfile}`)
  return { gmemd, vm, memfile }
}

const guest = ({ gmemd, vm }: Cast, access: object): Promise<Access> =>
  gmemd.post(`/v1/vms/${vm}/vcpus/0/accesses`, { gpa: PAGE, ...access })
const guestReads = async (cast: Cast): Promise<string> => textOf((await guest(cast, { kind: 'read', length: 16 })).data)
const hostReads = async ({ gmemd, vm }: Cast): Promise<string> => {
  const body = { as: 'user', gpa: PAGE, kind: 'read', length: 16 }
  return textOf((await gmemd.post<HostAccess>(`/v1/vms/${vm}/host-accesses`, body)).data)
}

async function writeInPrivate(cast: Cast): Promise<number> {
  const { gmemd, vm, memfile } = cast
  chapter('Two stores for one address')
  const body = { as: 'user', gpa: PAGE, kind: 'write', data: base64('from the host') }
  await gmemd.post(`/v1/vms/${vm}/host-accesses`, body)
  same('all memory is shared at first, so the guest reads', await guestReads(cast), 'from the host')
  const { seq } = await gmemd.post<Memfile>(`/v1/memfiles/${memfile}/fallocate`, { offset: PAGE, length: 4096 })
  same('fallocate makes the page private, and it is empty', await guestReads(cast), '')
  await guest(cast, { kind: 'write', data: base64('my own') })
  same('the guest has its own bytes', await guestReads(cast), 'my own')
  same('and the host still has its own', await hostReads(cast), 'from the host')
  const { both } = await gmemd.get<Accounting>(`/v1/vms/${vm}/accounting`)
  same('so the page is paid for twice', both, 4096)
  return seq
}

async function share(cast: Cast): Promise<number> {
  const { gmemd, vm } = cast
  chapter('The only call there is: KVM_HC_MAP_GPA_RANGE')
  const arguments_ = { call: 'MAP_GPA_RANGE', gpa: PAGE, pages: 1, attributes: 0 }
  const call = await gmemd.post<Call>(`/v1/vms/${vm}/calls`, arguments_)
  same('bit 4 clear asks for shared', call.status.name, 'SUCCESS')
  same('and the guest sees the mapping again', await guestReads(cast), 'from the host')
  const refused = await gmemd.post<Call>(`/v1/vms/${vm}/calls`, { ...arguments_, pages: 0 })
  same('no pages is -KVM_EINVAL in RAX', refused.rax, -22)
  return call.seq
}

async function travelInTime({ gmemd, vm }: Cast, asPrivate: number, asShared: number): Promise<void> {
  chapter('The page map as it was')
  for (const [at, told] of [
    [asPrivate, 'private'],
    [asShared, 'shared'],
  ] as const) {
    const { items } = await gmemd.get<Runs>(`/v1/vms/${vm}/page-states?gpa=${hex(PAGE)}&length=4096&at=${at}`)
    same(`at ${at} the page was ${told}`, items[0]?.visibility, told)
  }
}

async function refuseAndConvert(gmemd: Gmemd, host: string): Promise<void> {
  chapter('A VM whose VMM we are ourselves')
  const cast = await makeVm(gmemd, host, { conversion: 'manual' })
  const { vm, memfile } = cast
  const ask = (): Promise<PageStates> =>
    gmemd.post(`/v1/vms/${vm}/page-states`, { entries: [{ gpa: PAGE, operation: 'private' }] })
  const first = await ask()
  check('the exit of a request waits', first.waiting?.id != null, first)
  const refused = await gmemd.post<Resumed>(`/v1/vms/${vm}/exits/${first.waiting?.id}/resume`, { ret: 'EAGAIN' })
  same('a VMM may refuse, and its errno lands in RAX', refused.result.entries[0]?.status.code, -11)
  await ask()
  const { items } = await gmemd.get<{ items: Exit[] }>(`/v1/vms/${vm}/exits`)
  await gmemd.post(`/v1/memfiles/${memfile}/fallocate`, { offset: PAGE, length: 4096 })
  const resumed = await gmemd.post<Resumed>(`/v1/vms/${vm}/exits/${items[0]?.id}/resume`)
  same('or convert and resume', resumed.result.completed, 1)
}

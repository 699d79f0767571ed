import { type Gmemd, hex } from './client.ts'
import { chapter, same, say } from './narrator.ts'
import type { Access, Memfile, Page, Vm } from './replies.ts'

export const RAM = 64 * 2 ** 20
/** The guest memory that the story is about: 16 pages at 16 MiB. */
export const WORK = 0x1000000
export const PAGES = 16

/** Who plays: a host of our own, since it will not survive the story, and one VM on it. */
export type Cast = { readonly gmemd: Gmemd; readonly host: string; readonly vm: string; readonly memfile: string }
/** Journal sequence numbers to come back to. */
export type Moments = { readonly private: number; readonly shared: number }

export async function makeVm(gmemd: Gmemd, host: string, more: object = {}): Promise<Cast> {
  chapter(`A VM ${'conversion' in more ? 'whose VMM we are ourselves' : 'with 64 MiB that can be private or shared'}`)
  const vm = await gmemd.post<Vm>('/v1/vms', { technology: 'sev-snp', host, vcpus: 2, ...more })
  same('it is not running yet', vm.state, 'launching')
  const memfile = await gmemd.post<Memfile>('/v1/memfiles', { host, size: '64MiB' })
  same('a new memfile belongs to nobody', memfile.state, 'unbound')
  const bound = await gmemd.post<Memfile>(`/v1/memfiles/${memfile.id}/bind`, { vm: vm.id })
  same('and once bound to nobody else', bound.state, 'bound')
  await gmemd.put(`/v1/vms/${vm.id}/memslots/0`, { gpa: '0x0', size: RAM, memfile: memfile.id })
  say(`${vm.id}, memslot 0 at 0x0, backed by ${memfile.id}`)
  return { gmemd, host, vm: vm.id, memfile: memfile.id }
}

export const guestReads = ({ gmemd, vm }: Cast, gpa: number, isPrivate: boolean): Promise<Access> =>
  gmemd.post(`/v1/vms/${vm}/vcpus/0/accesses`, { gpa: hex(gpa), private: isPrivate, kind: 'read', length: 16 })
export const pageAt = ({ gmemd, vm }: Cast, gpa: number): Promise<Page> => gmemd.get(`/v1/vms/${vm}/pages/${hex(gpa)}`)

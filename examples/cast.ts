import { base64, type Gmemd, hex } from './client.ts'
import { same, say } from './narrator.ts'
import type { Access, Call, Host, HostAccess, Memfile, Page, Vm } from './replies.ts'

export const RAM = 64 * 2 ** 20
/** The guest memory that the stories are about: 16 pages at 16 MiB. */
export const WORK = 0x1000000
export const PAGES = 16

/** Who plays: a host of our own, since not all of it survives the story, and one VM on it. */
export type Cast = {
  readonly gmemd: Gmemd
  readonly technology: string
  readonly host: string
  readonly vm: string
  readonly memfile: string
}
/** Journal sequence numbers to come back to. */
export type Moments = { readonly private: number; readonly shared: number }

export const makeHost = (gmemd: Gmemd, technology: string): Promise<Host> =>
  gmemd.post('/v1/hosts', { name: `story-${Date.now().toString(36)}`, technology, memory: '1GiB' })

/** A VM that is yet to be launched, with 64 MiB of memory. */
export async function makeVm(gmemd: Gmemd, technology: string, host: string, more: object = {}): Promise<Cast> {
  const vm = await gmemd.post<Vm>('/v1/vms', { technology, host, vcpus: 2, ...more })
  same('it is not running yet', vm.state, 'launching')
  const memfile = await gmemd.post<Memfile>('/v1/memfiles', { host, size: RAM })
  same('a new memfile belongs to nobody', memfile.state, 'unbound')
  const bound = await gmemd.post<Memfile>(`/v1/memfiles/${memfile.id}/bind`, { vm: vm.id })
  same('and once bound to nobody else', bound.state, 'bound')
  await gmemd.put(`/v1/vms/${vm.id}/memslots/0`, { gpa: '0x0', size: RAM, memfile: memfile.id })
  say(`${vm.id}, memslot 0 at 0x0, backed by ${memfile.id}`)
  return { gmemd, technology, host, vm: vm.id, memfile: memfile.id }
}

const access = ({ gmemd, vm }: Cast, body: object): Promise<Access> =>
  gmemd.post(`/v1/vms/${vm}/vcpus/0/accesses`, body)
export const guestReads = (cast: Cast, gpa: number, isPrivate: boolean): Promise<Access> =>
  access(cast, { gpa: hex(gpa), private: isPrivate, kind: 'read', length: 16 })
export const guestWrites = (cast: Cast, gpa: number, isPrivate: boolean, text: string): Promise<Access> =>
  access(cast, { gpa: hex(gpa), private: isPrivate, kind: 'write', data: base64(text) })

type Where = { readonly gpa: string } | { readonly hpa: string }
export const hostReads = ({ gmemd, vm }: Cast, where: Where): Promise<HostAccess> =>
  gmemd.post(`/v1/vms/${vm}/host-accesses`, { as: 'kernel', ...where, kind: 'read', length: 16 })
export const hostWrites = ({ gmemd, vm }: Cast, as: string, where: Where): Promise<HostAccess> =>
  gmemd.post(`/v1/vms/${vm}/host-accesses`, { as, ...where, kind: 'write', data: base64('!') })

export const pageAt = ({ gmemd, vm }: Cast, gpa: number): Promise<Page> => gmemd.get(`/v1/vms/${vm}/pages/${hex(gpa)}`)
/** A raw call of the hardware, by the side that makes it. */
export const call = ({ gmemd, vm }: Cast, name: string, more: object = {}): Promise<Call> =>
  gmemd.post(`/v1/vms/${vm}/calls`, { call: name, ...more })

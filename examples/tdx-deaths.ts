import { type Cast, call, guestReads, guestWrites, hostWrites, makeVm, pageAt, WORK } from './cast.ts'
import { hex } from './client.ts'
import { chapter, check, same, say } from './narrator.ts'
import type { Host, Vm } from './replies.ts'
import { acceptPage, mapGpa } from './tdx-guest.ts'

const stateOf = async ({ gmemd, vm }: Cast): Promise<string> => (await gmemd.get<Vm>(`/v1/vms/${vm}`)).state

/** A TD beside the one of the story, running and with nothing in it. */
async function makeAnother({ gmemd, technology, host }: Cast, config: object): Promise<Cast> {
  const cast = await makeVm(gmemd, technology, host, { config })
  await gmemd.post(`/v1/vms/${cast.vm}/launch/finish`)
  return cast
}

export async function touchBeforeAccepting(cast: Cast): Promise<void> {
  chapter('Touched before it is accepted, by a TD that wants to know: #VE')
  const curious = await makeAnother(cast, { attributes: '0x0' })
  await mapGpa(curious, WORK, 4096)
  const touched = await guestReads(curious, WORK, true)
  same('without SEPT_VE_DISABLE the guest gets a fault that the host never sees', touched.outcome, 'guest-fault')
  same(`it is ${touched.fault?.name}, vector 20`, Number(touched.fault?.code), 20)
  const second = await guestReads(curious, WORK, true)
  same('another before the guest has asked why', second.fault?.name, '#DF')
  const why = await call(curious, 'TDG.VP.VEINFO.GET')
  same('TDG.VP.VEINFO.GET says why: an EPT violation, 48', Number(why.rcx), 48)
  await acceptPage(curious, WORK)
  same('accepted, the page can be used', (await guestReads(curious, WORK, true)).outcome, 'ok')
  await curious.gmemd.delete(`/v1/vms/${curious.vm}`)
}

export async function loseAPage(cast: Cast): Promise<void> {
  chapter('The VMM punches a hole that nobody asked for, and the guest is dead')
  const victim = await makeAnother(cast, {})
  const { gmemd, vm, memfile } = victim
  await mapGpa(victim, WORK, 4096)
  await acceptPage(victim, WORK)
  await guestWrites(victim, WORK, true, 'precious')
  await gmemd.post(`/v1/memfiles/${memfile}/punch-hole`, { offset: WORK, length: 4096 })
  const touched = await guestReads(victim, WORK, true)
  same('the next private access is an implicit conversion', touched.exits?.[0]?.reason, 'KVM_EXIT_MEMORY_FAULT')
  same('which puts in a fresh page that the guest has not accepted', touched.fault?.name, 'EPT_VIOLATION')
  say(`${touched.exit?.reason}: ${touched.fault?.detail}`)
  same('with SEPT_VE_DISABLE, as Linux wants it, KVM gives the VM up', await stateOf(victim), 'dead')
  await gmemd.delete(`/v1/vms/${vm}`)
}

export async function poisonAPage(cast: Cast): Promise<void> {
  const { gmemd, vm, host } = cast
  chapter('What a careless host does to its guest')
  const neighbour = await makeAnother(cast, {})
  await guestWrites(cast, WORK, true, 'my secret')
  const { privateHpa: hpa } = await pageAt(cast, WORK)
  const written = await hostWrites(cast, 'kernel', { hpa })
  same(`the kernel writes one byte at ${hpa}, and nothing happens`, written.outcome, 'ok')
  same('the guest runs', await stateOf(cast), 'running')
  const { tables } = await pageAt(cast, WORK)
  check('but the page is poisoned', tables.poisoned === true, tables)
  const read = await guestReads(cast, WORK, true)
  same(`its next read is a machine check: ${read.fault?.name}`, read.fault?.code, '0x6000000500000000')
  same('the TD is dead', await stateOf(cast), 'dead')
  const enter = await call(cast, 'TDH.VP.ENTER')
  same(`TDH.VP.ENTER answers ${enter.status.name}`, enter.status.code, '0xe000060400000000')
  same('its neighbour lives', (await acceptPage(neighbour, WORK)).status.name, 'TDX_SUCCESS')
  same('and so does the host', (await gmemd.get<Host>(`/v1/hosts/${host}`)).state, 'up')

  const keysBefore = (await gmemd.get<Host>(`/v1/hosts/${host}`)).keys.inUse
  await gmemd.delete(`/v1/vms/${vm}`)
  const { keys } = await gmemd.get<Host>(`/v1/hosts/${host}`)
  same('torn down, it gives its HKID back', keys.inUse, keysBefore - 1)
  const metadata = await call(neighbour, 'TDH.PHYMEM.PAGE.RDMD', { page: hpa })
  same(`and the page at ${hex(Number(hpa))}`, metadata.page?.type, 'PT_NDA')
}

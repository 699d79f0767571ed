import { type Cast, call, guestReads, guestWrites, hostReads, makeHost, makeVm, PAGES, pageAt, WORK } from './cast.ts'
import { convertByHand, countMemory, travelInTime } from './chapters.ts'
import { base64, type Gmemd, hex, textOf } from './client.ts'
import { chapter, check, same, say } from './narrator.ts'
import type { Access, HostAccess, PageStates, TdLaunch, TdMeasurement, Technology, Vm } from './replies.ts'
import { tdvfImage } from './tdvf-image.ts'
import * as deaths from './tdx-deaths.ts'
import { acceptPage, mapGpa, SHARED } from './tdx-guest.ts'
import * as hostSide from './tdx-host-side.ts'
import { rehash } from './tdx-transcript.ts'

export async function tellTdx(gmemd: Gmemd, firmware: Buffer | undefined): Promise<void> {
  const host = await meetTheHost(gmemd)
  chapter('A TD with 64 MiB that can be private or shared')
  const cast = await makeVm(gmemd, 'tdx', host)
  const mrtd = await launch(cast, firmware)
  const accepted = await writeInPrivate(cast)
  const shared = await share(cast)
  await takeBack(cast)
  await deaths.touchBeforeAccepting(cast)
  await deaths.loseAPage(cast)
  await hostSide.lookAtPages(cast)
  await countMemory(cast)
  await hostSide.trackTranslations(cast)
  await convertByHand(cast)
  await hostSide.tellToRetry(cast)
  await hostSide.attest(cast, mrtd)
  await travelInTime(cast, { private: accepted, shared })
  await deaths.poisonAPage(cast)
}

async function meetTheHost(gmemd: Gmemd): Promise<string> {
  chapter('A machine that nobody has in CI')
  const { properties, calls, title } = await gmemd.get<Technology>('/v1/technologies/tdx')
  say(title)
  say(`${calls.length} calls, from ${calls[0]?.name} to ${calls.at(-1)?.name}`)
  same('what a conversion does to contents: they are lost', properties.contents, 'lost')
  same('a guest must accept private pages', properties.guestAccepts, true)
  const host = await makeHost(gmemd, 'tdx')
  say(`host ${host.name}: ${host.memory >> 20} MiB, of which PAMT takes ${host.use.metadata >> 20} MiB`)
  same('its keys are called HKIDs', host.keys.name, 'HKID')
  return host.name
}

async function launch({ gmemd, vm }: Cast, given: Buffer | undefined): Promise<string> {
  chapter(given === undefined ? 'Launch, from a TDVF image made here' : 'Launch, from your firmware image')
  const image = given ?? tdvfImage()
  await gmemd.postBytes(`/v1/vms/${vm}/launch/image?vmm=qemu`, image)
  const log = await gmemd.get<TdLaunch>(`/v1/vms/${vm}/launch`)
  for (const { operation, gpa, pages, digestAfter } of log.steps)
    say(`${gpa.padStart(14)} ${String(pages).padStart(5)} × ${operation.padEnd(10)} ${digestAfter.slice(0, 24)}…`)
  say(`MRTD ${log.digest}`)

  const measure = (vmm: string): Promise<TdMeasurement> => {
    const request = { technology: 'tdx', inputs: { vmm, image: { part: 'image' } } }
    return gmemd.postFiles('/v1/measurements', request, { image })
  }
  const predicted = await measure('qemu')
  same('POST /v1/measurements predicts it from the same image', predicted.mrtd, log.digest)
  same('its transcript hashes to MRTD, here and without gmemd', rehash(predicted.steps, image), log.digest)
  const older = await measure('qemu-8.2-two-pass')
  check('a VMM that adds a section and then measures it gets another MRTD', older.mrtd !== log.digest, older.mrtd)
  same('TDH.MR.FINALIZE was the last call', log.state, 'RUNNABLE')
  same('the guest runs', (await gmemd.get<Vm>(`/v1/vms/${vm}`)).state, 'running')
  return log.digest
}

async function writeInPrivate(cast: Cast): Promise<number> {
  const { gmemd, vm } = cast
  chapter('The guest has a secret')
  const entries = [{ gpa: hex(WORK), pages: PAGES, operation: 'private' }]
  const change = await gmemd.post<PageStates>(`/v1/vms/${vm}/page-states`, { entries, accept: true })
  const [exit] = change.exits
  same('MapGPA of 16 pages leaves KVM as KVM_HC_MAP_GPA_RANGE, hypercall 12', exit?.hypercall?.nr, 12)
  say(`${exit?.reason} ${exit?.hypercall?.args.join(' ')}: the VMM made it private, the guest accepted it`)
  same('the guest writes without the shared bit', (await guestWrites(cast, WORK, true, 'my secret')).outcome, 'ok')
  same('and reads it back', textOf((await guestReads(cast, WORK, true)).data), 'my secret')
  const { privateHpa: hpa } = await pageAt(cast, WORK)
  const seen = await hostReads(cast, { hpa })
  same(`the host, reading at ${hpa} with a key of its own, sees zeros`, textOf(seen.data), '')
  check('for the page is under the key of the TD', seen.ciphertext === true, seen)
  const mapped = await hostReads(cast, { gpa: hex(WORK) })
  same("by the guest's address it finds its own page, which is empty", textOf(mapped.data), '')
  return change.seq
}

async function share(cast: Cast): Promise<number> {
  const { gmemd, vm } = cast
  chapter('The guest shares a page: MapGPA with the shared bit')
  const { privateHpa: page } = await pageAt(cast, WORK)
  const change = await mapGpa(cast, WORK + SHARED, 4096)
  same('R10 of the VMCALL says SUCCESS', change.r10, '0x0')
  same('the Secure EPT entry is free', (await hostSide.tdPageAt(cast, WORK)).tables.acceptance, 'free')
  const metadata = await call(cast, 'TDH.PHYMEM.PAGE.RDMD', { page })
  same(`and so is the page at ${page}, by PAMT`, metadata.page?.type, 'PT_NDA')
  const body = { gpa: hex(WORK + SHARED), kind: 'write', data: base64('hello, host') }
  const written = await gmemd.post<Access>(`/v1/vms/${vm}/vcpus/0/accesses`, body)
  same(`the guest writes at ${hex(WORK + SHARED)}, the shared alias`, written.outcome, 'ok')
  const seen = await gmemd.post<HostAccess>(`/v1/vms/${vm}/host-accesses`, {
    ...{ as: 'user', gpa: hex(WORK), kind: 'read', length: 16 },
  })
  same('and the VMM reads it', textOf(seen.data), 'hello, host')
  const none = await mapGpa(cast, WORK, 0)
  same('a MapGPA of no size is INVALID_OPERAND', none.status.code, '0x8000000000000000')
  const odd = await mapGpa(cast, WORK + 512, 4096)
  same('one of half a page ALIGN_ERROR', odd.status.code, '0x8000000000000002')
  return change.seq
}

async function takeBack(cast: Cast): Promise<void> {
  chapter('Back to private, and accepted')
  await mapGpa(cast, WORK, 4096)
  const { hardware } = await pageAt(cast, WORK)
  same('TDH.MEM.PAGE.AUG has put in a fresh page', hardware.sept, 'PENDING')
  same('TDG.MEM.PAGE.ACCEPT', (await acceptPage(cast, WORK)).status.name, 'TDX_SUCCESS')
  same("makes it the guest's, and it is empty", textOf((await guestReads(cast, WORK, true)).data), '')
  const again = await acceptPage(cast, WORK)
  same(`accepting it twice: ${again.status.name}, which is no error`, again.status.code, '0xb0a00000000')
  const large = await acceptPage(cast, WORK, 1)
  same(`2 MiB over pages of 4 KiB: ${large.status.name}`, large.status.code, '0xc0000b0b00000001')
}

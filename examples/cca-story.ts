import { arm64Image } from './arm64-image.ts'
import {
  type Cast,
  call,
  guestReads,
  guestWrites,
  hostReads,
  hostWrites,
  makeHost,
  makeVm,
  PAGES,
  pageAt,
  WORK,
} from './cast.ts'
import { attest } from './cca-attestation.ts'
import { ipaStateSet, ripasOf, SHARED } from './cca-guest.ts'
import * as hostSide from './cca-host-side.ts'
import { rehash } from './cca-transcript.ts'
import { convertByHand, countMemory, travelInTime } from './chapters.ts'
import { base64, type Gmemd, hex, textOf } from './client.ts'
import { chapter, check, same, say } from './narrator.ts'
import type { Access, HostAccess, PageStates, RealmLaunch, RealmMeasurement, Technology, Vm } from './replies.ts'

export async function tellCca(gmemd: Gmemd, firmware: Buffer | undefined): Promise<void> {
  const host = await meetTheHost(gmemd)
  chapter('A Realm with 64 MiB that can be private or shared')
  const cast = await makeVm(gmemd, 'cca', host, { config: { hash: 'sha-512' } })
  const rim = await launch(cast, firmware)
  const kept = await keepASecret(cast)
  const shared = await share(cast)
  await takeBack(cast)
  await hostSide.destroyAPage(cast)
  await hostSide.lookAtPages(cast)
  await countMemory(cast)
  await hostSide.commandTheRmm(cast)
  await hostSide.switchOnAVcpu(cast)
  await convertByHand(cast)
  await hostSide.refuse(cast)
  await attest(cast, rim)
  await travelInTime(cast, { private: kept, shared })
  await hostSide.faultOnGranules(cast)
}

async function meetTheHost(gmemd: Gmemd): Promise<string> {
  chapter('A machine that nobody has in CI')
  const { properties, calls, title } = await gmemd.get<Technology>('/v1/technologies/cca')
  say(title)
  say(`${calls.length} calls, from ${calls[0]?.name} to ${calls.at(-1)?.name}`)
  same('what a conversion does to contents: they are lost', properties.contents, 'lost')
  same('a guest need not accept private pages', properties.guestAccepts, false)
  same('and the host may take them away at any time', properties.reclaimable, true)
  const host = await makeHost(gmemd, 'cca')
  say(`host ${host.name}: ${host.memory >> 20} MiB, of which the RMM keeps ${host.use.metadata >> 10} KiB of books`)
  same('its keys are called VMIDs', host.keys.name, 'VMID')
  return host.name
}

const RAM_SIZE = 512 * 2 ** 20

async function launch({ gmemd, vm }: Cast, given: Buffer | undefined): Promise<string> {
  chapter(given === undefined ? 'Launch, from an arm64 image made here' : 'Launch, from your firmware image')
  const image = given ?? arm64Image()
  await gmemd.postBytes(`/v1/vms/${vm}/launch/image?vmm=qemu&ramSize=${RAM_SIZE}`, image)
  const log = await gmemd.get<RealmLaunch>(`/v1/vms/${vm}/launch`)
  for (const { operation, gpa = '', pages = '', digestAfter } of log.steps)
    say(`${gpa.padStart(12)} ${String(pages).padStart(7)} ${operation.padEnd(12)} ${digestAfter.slice(0, 24)}…`)
  say(`RIM ${log.digest}`)

  const measure = (vmm: string): Promise<RealmMeasurement> => {
    const images = [{ ipa: 0, content: { part: 'image' } }]
    const inputs = { vmm, ramSize: RAM_SIZE, images, entry: 0, vcpus: 2 }
    return gmemd.postFiles('/v1/measurements', { technology: 'cca', inputs }, { image })
  }
  const predicted = await measure('qemu')
  same('POST /v1/measurements predicts it from the same image', predicted.rim, log.digest)
  same('its transcript hashes to the RIM, here and without gmemd', rehash(predicted.steps, image), log.digest)
  const early = await measure('early-qemu')
  check('a VMM that creates the RECs first gets another RIM', early.rim !== log.digest, early.rim)
  const copies = log.steps.find(({ operation }) => operation === 'data')?.copies
  same(
    'every page was copied twice: to a page of the kernel, and into the Realm',
    copies,
    2 * Math.ceil(image.length / 4096),
  )
  same('REALM_ACTIVATE was the last command', log.state, 'ACTIVE')
  same('the guest runs', (await gmemd.get<Vm>(`/v1/vms/${vm}`)).state, 'running')
  return log.digest
}

async function keepASecret(cast: Cast): Promise<number> {
  const { gmemd, vm } = cast
  chapter('The guest has a secret')
  same('an address beside its RAM is EMPTY', await ripasOf(cast, WORK), 'EMPTY')
  const early = await guestReads(cast, WORK, true)
  same(`touched, it is an abort that stays in the Realm: ${early.fault?.name}`, early.outcome, 'guest-fault')
  same('of which the host hears nothing', early.exits?.length, 0)
  const entries = [{ gpa: hex(WORK), pages: PAGES, operation: 'private' }]
  const change = await gmemd.post<PageStates>(`/v1/vms/${vm}/page-states`, { entries })
  const [exit] = change.exits
  same('RSI_IPA_STATE_SET of 16 pages leaves KVM as a memory fault', exit?.reason, 'KVM_EXIT_MEMORY_FAULT')
  same('over the whole range', exit?.length, PAGES * 4096)
  same('they are RAM now', await ripasOf(cast, WORK), 'RAM')
  same('the guest writes', (await guestWrites(cast, WORK, true, 'my secret')).outcome, 'ok')
  same('and reads it back', textOf((await guestReads(cast, WORK, true)).data), 'my secret')
  const { privateHpa: hpa } = await pageAt(cast, WORK)
  const seen = await hostWrites(cast, 'user', { hpa: String(hpa) })
  same(`the VMM at ${hpa} gets ${seen.fault?.name}, for a granule protection fault`, seen.fault?.errorCode, 'GPF')
  const device = await hostWrites(cast, 'device', { hpa: String(hpa) })
  same('a device is stopped by the SMMU', device.fault?.name, 'SMMU_GPF')
  const mapped = await hostReads(cast, { gpa: hex(WORK) })
  same("by the guest's address the host finds its own page, which is empty", textOf(mapped.data), '')
  return change.seq
}

async function share(cast: Cast): Promise<number> {
  const { gmemd, vm } = cast
  chapter('The guest shares a page: EMPTY, and the top bit of the address')
  const { privateHpa: granule } = await pageAt(cast, WORK)
  const change = await ipaStateSet(cast, WORK, 1, 'EMPTY')
  same('RSI_IPA_STATE_SET is accepted', change.response, 'ACCEPT')
  same('up to its top', change.x1, hex(WORK + 4096))
  const given = await call(cast, 'host read', { addr: granule })
  same(`the granule at ${granule} is the host's again`, given.status.name, 'OK')
  same('and was wiped on its way back', given.data, '')
  same('the address is EMPTY', (await guestReads(cast, WORK, true)).fault?.name, 'SEA')
  const body = { gpa: hex(WORK + SHARED), kind: 'write', data: base64('hello, host') }
  const written = await gmemd.post<Access>(`/v1/vms/${vm}/vcpus/0/accesses`, body)
  same(`the guest writes at ${hex(WORK + SHARED)}, the shared alias`, written.outcome, 'ok')
  const seen = await gmemd.post<HostAccess>(`/v1/vms/${vm}/host-accesses`, {
    ...{ as: 'user', gpa: hex(WORK), kind: 'read', length: 16 },
  })
  same('and the VMM reads it', textOf(seen.data), 'hello, host')
  const fetched = await gmemd.post<Access>(`/v1/vms/${vm}/vcpus/0/accesses`, {
    ...body,
    kind: 'execute',
    data: undefined,
  })
  same('nothing there can be executed', fetched.fault?.name, 'SEA')
  return change.seq
}

async function takeBack(cast: Cast): Promise<void> {
  chapter('Back to private')
  const change = await ipaStateSet(cast, WORK, 1, 'RAM')
  same('RSI_IPA_STATE_SET is accepted', change.response, 'ACCEPT')
  same('the guest uses it at once, and it is empty', textOf((await guestReads(cast, WORK, true)).data), '')
  const { hardware } = await pageAt(cast, WORK)
  same('KVM has put in a fresh granule', `${hardware.hipas} ${hardware.ripas}`, 'ASSIGNED RAM')
  const beyond = await ipaStateSet(cast, WORK + SHARED, 1, 'RAM')
  same(`of an unprotected address it is ${beyond.status.name}`, beyond.status.code, 1)
}

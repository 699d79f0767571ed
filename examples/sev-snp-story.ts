import { createHash } from 'node:crypto'
import { type Cast, call, guestReads, guestWrites, hostReads, makeHost, makeVm, PAGES, pageAt, WORK } from './cast.ts'
import { convertByHand, countMemory, travelInTime } from './chapters.ts'
import { type Gmemd, hex, textOf } from './client.ts'
import { firmwareImage } from './firmware-image.ts'
import { chapter, check, same, say } from './narrator.ts'
import type { Call, Launch, Measurement, PageStates, Technology, Vm } from './replies.ts'
import * as hostSide from './sev-snp-host-side.ts'
import { hashesOf, pageHashes, rehash } from './sev-snp-transcript.ts'

export async function tellSevSnp(gmemd: Gmemd, firmware: Buffer | undefined): Promise<void> {
  const host = await meetTheHost(gmemd)
  chapter('A VM with 64 MiB that can be private or shared')
  const cast = await makeVm(gmemd, 'sev-snp', host)
  const digest = await launch(cast, firmware)
  const accepted = await writeInPrivate(cast)
  const shared = await share(cast)
  await takeBack(cast)
  await loseAPage(cast)
  await hostSide.lookAtPages(cast)
  await countMemory(cast)
  await convertByHand(cast)
  await hostSide.attest(cast, digest)
  await travelInTime(cast, { private: accepted, shared })
  await hostSide.crashTheHost(cast)
}

const pvalidate = (cast: Cast, gpa: number, validate: boolean): Promise<Call> =>
  call(cast, 'PVALIDATE', { gpa: hex(gpa), validate })

async function meetTheHost(gmemd: Gmemd): Promise<string> {
  chapter('A machine that nobody has in CI')
  const { properties, calls, title } = await gmemd.get<Technology>('/v1/technologies/sev-snp')
  say(title)
  say(`${calls.length} calls, from ${calls[0]?.name} to ${calls.at(-1)?.name}`)
  same('what a conversion does to contents: they are lost', properties.contents, 'lost')
  same('a guest must accept private pages', properties.guestAccepts, true)
  const host = await makeHost(gmemd, 'sev-snp')
  say(`host ${host.name}: ${host.memory >> 20} MiB, of which the RMP takes ${host.use.metadata >> 20} MiB`)
  same('its keys are called ASIDs', host.keys.name, 'ASID')
  return host.name
}

async function launch({ gmemd, vm }: Cast, given: Buffer | undefined): Promise<string> {
  chapter(given === undefined ? 'Launch, from a firmware image made here' : 'Launch, from your firmware image')
  const image = given ?? firmwareImage()
  const kernel = Buffer.from('not much of a kernel')
  const cmdline = 'console=ttyS0'
  // An image of yours may have no page for kernel hashes, so it is launched without a kernel.
  const hashes: Record<string, string> =
    given === undefined ? { kernelHash: createHash('sha256').update(kernel).digest('hex'), cmdline } : {}
  const query = new URLSearchParams({ vmm: 'qemu', vcpuType: 'EPYC-v4', ...hashes })
  await gmemd.postBytes(`/v1/vms/${vm}/launch/image?${query}`, image)

  const log = await gmemd.get<Launch>(`/v1/vms/${vm}/launch`)
  for (const { pageType, gpa, pages, digestAfter } of log.steps)
    say(`${gpa.padStart(14)} ${String(pages).padStart(5)} × ${pageType.padEnd(10)} ${digestAfter.slice(0, 24)}…`)
  say(`digest ${log.digest}`)
  const [first] = log.steps
  const measured = first === undefined ? [] : hashesOf(first)
  same('the first step is the image, page by page', measured.join(), pageHashes(image).join())
  same('the transcript hashes to the digest, here and without gmemd', rehash(log.steps), log.digest)

  const inputs = { mode: 'snp', vmm: 'qemu', vcpuType: 'EPYC-v4', vcpus: 2, image: { part: 'image' } }
  const withKernel = given === undefined ? { ...inputs, kernel: { part: 'kernel' }, cmdline } : inputs
  const files = given === undefined ? { image, kernel } : { image }
  const request = { technology: 'sev-snp', inputs: withKernel }
  const predicted = await gmemd.postFiles<Measurement>('/v1/measurements', request, files)
  same('POST /v1/measurements predicts it from the same inputs', predicted.launchDigest, log.digest)
  same('the guest runs', (await gmemd.get<Vm>(`/v1/vms/${vm}`)).state, 'running')
  return log.digest
}

async function writeInPrivate(cast: Cast): Promise<number> {
  const { gmemd, vm } = cast
  chapter('The guest has a secret')
  const entries = [{ gpa: hex(WORK), pages: PAGES, operation: 'private' }]
  const change = await gmemd.post<PageStates>(`/v1/vms/${vm}/page-states`, { entries, accept: true })
  const [exit] = change.exits
  same('16 entries of a page-state change leave KVM as one exit', change.exits.length, 1)
  same('which is KVM_HC_MAP_GPA_RANGE, hypercall 12', exit?.hypercall?.nr, 12)
  say(`${exit?.reason} ${exit?.hypercall?.args.join(' ')}: the VMM made it private, the guest accepted it`)
  same('the guest writes with C=1', (await guestWrites(cast, WORK, true, 'my secret')).outcome, 'ok')
  same('and reads it back', textOf((await guestReads(cast, WORK, true)).data), 'my secret')
  const { privateHpa: hpa } = await pageAt(cast, WORK)
  const seen = await hostReads(cast, { hpa })
  check(`the host, reading at ${hpa}, sees ciphertext`, seen.ciphertext === true, seen)
  say(`it is ${Buffer.from(seen.data ?? '', 'base64').toString('hex')}`)
  check('and nothing of the secret', !textOf(seen.data).includes('secret'), textOf(seen.data))
  const mapped = await hostReads(cast, { gpa: hex(WORK) })
  same("by the guest's address it finds its own page, which is empty", textOf(mapped.data), '')
  return change.seq
}

async function share(cast: Cast): Promise<number> {
  const { gmemd, vm } = cast
  chapter('The guest shares a page: PVALIDATE rescinds first, then the request')
  same('PVALIDATE rescinds', (await pvalidate(cast, WORK, false)).status.name, 'SUCCESS')
  const entries = [{ gpa: hex(WORK), operation: 'shared' }]
  const change = await gmemd.post<PageStates>(`/v1/vms/${vm}/page-states`, { entries })
  same('the page-state change is done', change.entries[0]?.status.name, 'SUCCESS')
  same('what was there is lost', textOf((await guestReads(cast, WORK, false)).data), '')
  await guestWrites(cast, WORK, false, 'hello, host')
  same('what it writes now the host reads', textOf((await hostReads(cast, { gpa: hex(WORK) })).data), 'hello, host')
  return change.seq
}

async function takeBack(cast: Cast): Promise<void> {
  const { gmemd, vm } = cast
  chapter('Back to private, and not accepted')
  await gmemd.post<PageStates>(`/v1/vms/${vm}/page-states`, { entries: [{ gpa: hex(WORK), operation: 'private' }] })
  const touched = await guestReads(cast, WORK, true)
  same('the guest gets a fault that the host never sees', touched.outcome, 'guest-fault')
  same(`it is ${touched.fault?.name} ${hex(Number(touched.fault?.code))}`, touched.fault?.code, 0x404)
  same('once PVALIDATE has accepted the page', (await pvalidate(cast, WORK, true)).status.name, 'SUCCESS')
  const read = await guestReads(cast, WORK, true)
  check('it can be used, and holds neither text', read.outcome === 'ok' && textOf(read.data) === '', read)
}

async function loseAPage(cast: Cast): Promise<void> {
  const { gmemd, memfile } = cast
  const gpa = WORK + 4096
  chapter('The VMM punches a hole that nobody asked for')
  await guestWrites(cast, gpa, true, 'precious')
  await gmemd.post(`/v1/memfiles/${memfile}/punch-hole`, { offset: gpa, length: '4KiB' })
  const touched = await guestReads(cast, gpa, true)
  const [exit] = touched.exits ?? []
  same('its next private access is an implicit conversion', exit?.reason, 'KVM_EXIT_MEMORY_FAULT')
  same('which puts in a fresh page, and the guest takes #VC 404', touched.fault?.code, 0x404)
  say('a Linux guest panics here; ours looks further')
  await pvalidate(cast, gpa, true)
  same('what it had written is gone', textOf((await guestReads(cast, gpa, true)).data), '')
}

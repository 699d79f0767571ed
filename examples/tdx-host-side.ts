import { hash, randomBytes } from 'node:crypto'
import { type Cast, call, guestReads, guestWrites, makeVm, pageAt, WORK } from './cast.ts'
import { isChain } from './certificate-chain.ts'
import { showPages } from './chapters.ts'
import { hex, textOf } from './client.ts'
import { chapter, check, same, say } from './narrator.ts'
import type { Call, Certificates, Quote, ResumedCall, TdPage } from './replies.ts'
import { acceptPage, mapGpa } from './tdx-guest.ts'
import { brokenLink, chainOf, parseQuote, parseTdReport } from './tdx-quote.ts'

const CHUNK = 2 * 2 ** 20

export const tdPageAt = (cast: Cast, gpa: number): Promise<TdPage> => pageAt(cast, gpa) as Promise<TdPage>

export async function lookAtPages(cast: Cast): Promise<void> {
  chapter('Who owns what, and why')
  const { runs } = await showPages(cast, WORK)
  check(
    'all of them are accepted by the guest',
    runs.every((run) => run.owner === 'guest' && run.hardware.accepted === true),
    runs,
  )
  const { tables, sharedHpa, privateHpa } = await tdPageAt(cast, WORK)
  for (const { level, index, state, table } of tables.sept)
    say(
      `Secure EPT level ${level}, entry ${String(index).padStart(3)}: ${state}${table === undefined ? '' : ` → ${table}`}`,
    )
  same('the walk ends in a page of 4 KiB', tables.sept.at(-1)?.state, 'MAPPED')
  say(`PAMT of ${tables.pamt?.hpa}: ${tables.pamt?.type}, owner ${tables.pamt?.tdr}`)
  same('PAMT names the TD by its TDR', tables.pamt?.tdr, tables.td.tdr)
  check('the page that was shared for a while is in the other tree', sharedHpa !== null && sharedHpa !== privateHpa)
  say(`TD: HKID ${tables.td.hkid}, ${tables.td.opState}, TLB epoch ${tables.td.tdEpoch}`)
}

export async function trackTranslations(cast: Cast): Promise<void> {
  chapter('Block, track, kick, remove')
  const gpa = WORK + 4096
  const memory = (name: string): Promise<Call> => call(cast, name, { gpa: hex(gpa) })
  await guestWrites(cast, gpa, true, 'precious')
  same('a vCPU enters, and stays inside', (await call(cast, 'TDH.VP.ENTER')).status.name, 'TDX_SUCCESS')
  const early = await memory('TDH.MEM.PAGE.REMOVE')
  same(`its page can't be removed: ${early.status.name}`, early.status.code, '0xc0000b0600000001')
  same('the host blocks it', (await memory('TDH.MEM.RANGE.BLOCK')).status.code, '0x0')
  same('and again, which changes nothing', (await memory('TDH.MEM.RANGE.BLOCK')).status.code, '0xb0700000001')
  const untracked = await memory('TDH.MEM.PAGE.REMOVE')
  same(`still not: ${untracked.status.name}`, untracked.status.code, '0xc0000b0800000001')
  same('TDH.MEM.TRACK begins an epoch', (await call(cast, 'TDH.MEM.TRACK')).status.code, '0x0')
  const inside = await memory('TDH.MEM.PAGE.REMOVE')
  same('but the vCPU is inside since the one before', inside.status.code, '0xc0000b0800000001')
  const busy = await call(cast, 'TDH.MEM.TRACK')
  same(`so that another TRACK is ${busy.status.name}`, busy.status.code, '0x8000020100000000')
  await call(cast, 'INTERRUPT')
  same('an interrupt kicks it out, and the page goes', (await memory('TDH.MEM.PAGE.REMOVE')).status.code, '0x0')
  const accepted = await acceptPage(cast, gpa)
  same('KVM faults a fresh one in when the guest accepts', accepted.status.name, 'TDX_SUCCESS')
  same('and what was there is gone', textOf((await guestReads(cast, gpa, true)).data), '')
}

export async function tellToRetry({ gmemd, technology, host }: Cast): Promise<void> {
  chapter('MapGPA, half done')
  const cast = await makeVm(gmemd, technology, host, { conversion: 'manual' })
  const { vm, memfile } = cast
  await gmemd.post(`/v1/vms/${vm}/launch/finish`)
  const resume = (exit: string | null | undefined, body: object): Promise<ResumedCall> =>
    gmemd.post(`/v1/vms/${vm}/exits/${exit}/resume`, body)
  const asked = await mapGpa(cast, WORK, 2 * CHUNK)
  same('KVM asks for 4 MiB in steps of 2 MiB', asked.waiting?.length, CHUNK)
  await gmemd.post(`/v1/memfiles/${memfile}/fallocate`, { offset: WORK, length: CHUNK })
  const first = await resume(asked.waiting?.id, {})
  same('the VMM does the first', first.result.waiting?.gpa, hex(WORK + CHUNK))
  const { result } = await resume(first.result.waiting?.id, { ret: 'EAGAIN' })
  same('and has no time for the second: R10 is RETRY', result.r10, '0x1')
  same('R11 says where the guest is to go on', result.r11, hex(WORK + CHUNK))
  await gmemd.delete(`/v1/vms/${vm}`)
}

export async function attest(cast: Cast, mrtd: string): Promise<void> {
  const { gmemd, vm, host } = cast
  chapter('Evidence, simulated but well made')
  const event = hash('sha384', 'not much of a kernel', 'buffer')
  await gmemd.post(`/v1/vms/${vm}/vcpus/0/accesses`, {
    ...{ gpa: hex(WORK), private: true, kind: 'write', data: event.toString('base64') },
  })
  const extended = await call(cast, 'TDG.MR.RTMR.EXTEND', { gpa: hex(WORK), index: 2 })
  const rtmr = hash('sha384', Buffer.concat([Buffer.alloc(48), event]))
  same('the guest extends RTMR2, to SHA-384(zeros, digest)', extended.rtmr, rtmr)

  const nonce = randomBytes(64)
  const path = `/v1/vms/${vm}/attestation?nonce=${nonce.toString('hex')}`
  const evidence = await gmemd.get<Quote>(path)
  same('it says itself that it is simulated', evidence.simulated, true)
  const report = parseTdReport(Buffer.from(evidence.tdreport, 'base64'))
  check('the TDREPORT holds our nonce', report.reportData.equals(nonce))
  check('its hash of TDINFO is right, with our MRTD in it', report.isWhole && report.mrtd === mrtd, report.mrtd)

  const bytes = Buffer.from(evidence.quote, 'base64')
  const quote = parseQuote(bytes)
  say(`quote: ${bytes.length} bytes, version ${quote.version}`)
  check('the quote holds our nonce', quote.reportData.equals(nonce))
  same('the MRTD', quote.mrtd, mrtd)
  same('and RTMR2', quote.rtmrs[2], rtmr)
  same('from PCK to attestation key to quote no link is broken', brokenLink(bytes), 'none')
  const chain = chainOf(bytes)
  check('the chain in it holds, up to the simulated root', isChain(chain))
  const { items } = await gmemd.get<Certificates>(`/v1/hosts/${host}/certificates`)
  for (const { name, subject } of items) say(`${name}: ${subject}`)
  same('which is the one that the host shows', chain.map(String).join(''), items.map(({ pem }) => pem).join(''))
}

import { Buffer } from 'node:buffer'
import type { Host } from '../data.ts'
import { type Checked, fail, INPUT, pass, REC, realmError } from './answer.ts'
import { leave, type RecExit } from './exits.ts'
import { PAGE_SIZE } from './geometry.ts'
import { isHostMemory } from './granules.ts'
import { reach, writeBytes } from './guest-memory.ts'
import { pageOf, recAt } from './operands.ts'
import type { Realm } from './realm.ts'
import type { Rec, RipasChange } from './rec.ts'
import { RIPAS } from './states.ts'

/** Bits of RmiRecRun's entry flags (arm-cca.md 1). */
export const ENTRY_FLAG = { EMUL_MMIO: 1n, INJECT_SEA: 2n, TRAP_WFI: 4n, TRAP_WFE: 8n, RIPAS_RESPONSE: 16n } as const

/** The entry half of RmiRecRun: what the host hands in. */
export type RecEntry = {
  readonly flags: bigint
  readonly gprs: readonly bigint[]
  readonly gicv3Hcr: bigint
  readonly gicv3Lrs: readonly bigint[]
}
export const PLAIN_ENTRY: RecEntry = { flags: 0n, gprs: [], gicv3Hcr: 0n, gicv3Lrs: [] }

/** What the guest finds when it goes on: the answer to its last exit. */
export type Resumed =
  | { readonly kind: 'running' }
  | { readonly kind: 'ipa-state-set'; readonly reached: number; readonly response: 'ACCEPT' | 'REJECT' }
  | { readonly kind: 'host-call'; readonly gprs: readonly bigint[] }
  | { readonly kind: 'psci'; readonly x0: number }
  | { readonly kind: 'mmio'; readonly value: bigint }
  | { readonly kind: 'sea' }
  /** It didn't come far: the structure of its host call is out of reach. */
  | { readonly kind: 'exit'; readonly exit: RecExit }

export type Entered = { readonly realm: Realm; readonly rec: Rec; readonly resumed: Resumed }

const RUNNING: Resumed = { kind: 'running' }
const RUN_GPRS = 31
const RUN_LRS = 16

/** RmiRecRun's entry half as it lies in memory. */
function decodeEntry(bytes: Uint8Array): RecEntry {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, PAGE_SIZE)
  const words = (offset: number, count: number): bigint[] =>
    Array.from({ length: count }, (_, index) => view.readBigUInt64LE(offset + 8 * index))
  return {
    flags: view.readBigUInt64LE(0),
    gprs: words(0x200, RUN_GPRS),
    gicv3Hcr: view.readBigUInt64LE(0x300),
    gicv3Lrs: words(0x308, RUN_LRS),
  }
}

const ZERO_PAGE = new Uint8Array(PAGE_SIZE)

/** The entry half in the page the host names (arm-cca.md 3): INPUT where that isn't an aligned NS granule. */
export function readEntry({ data, machine }: Host, run: bigint): Checked<RecEntry> {
  const frame = pageOf(run)
  if (frame < 0 || !isHostMemory(data.granules, frame)) return fail(INPUT)
  return pass(decodeEntry(machine.read(frame) ?? ZERO_PAGE))
}

/**
 * REC_ENTER (arm-cca.md 3): INPUT without a REC, REC while it runs, (REALM,0) NEW, (REALM,1) SYSTEM_OFF, REC for what the
 * entry may not ask. The REC is inside from then on, and what its last exit waited for is done.
 */
export function recEnter(host: Host, address: bigint, entry: RecEntry): Checked<Entered> {
  const rec = recAt(host.data, address)
  const realm = rec === undefined ? undefined : host.data.realms.get(rec.rd)
  if (rec === undefined || realm === undefined) return fail(INPUT)
  if (rec.running) return fail(REC)
  if (realm.state !== 'ACTIVE') return fail(realmError(realm.state === 'NEW' ? 0 : 1))
  if (!rec.runnable || rec.psci !== undefined || !isEntryLegal(rec, entry)) return fail(REC)
  rec.running = true
  const resumed = resume(host, realm, rec, entry)
  if (resumed.kind === 'exit') leave(rec, resumed.exit)
  return pass({ realm, rec, resumed })
}

/** Bits of ICH_HCR_EL2 that the host may set: UIE, LRENPIE, NPIE, VGrp0EIE to VGrp1DIE, TDIR. */
const HCR_BITS = 0x40fen
/** ICH_LR: tied to a physical interrupt, which a Realm has none of. */
const LR_HARDWARE = 1n << 61n

const has = ({ flags }: RecEntry, flag: bigint): boolean => (flags & flag) !== 0n

function isEntryLegal({ lastExit }: Rec, entry: RecEntry): boolean {
  if ((entry.gicv3Hcr & ~HCR_BITS) !== 0n || entry.gicv3Lrs.some((lr) => (lr & LR_HARDWARE) !== 0n)) return false
  if (has(entry, ENTRY_FLAG.EMUL_MMIO) && !lastExit.emulatable) return false
  return !has(entry, ENTRY_FLAG.INJECT_SEA) || lastExit.unprotectedAbort
}

function resume(host: Host, realm: Realm, rec: Rec, entry: RecEntry): Resumed {
  if (rec.ripasChange !== undefined) return completeRipasChange(rec, rec.ripasChange, entry)
  if (rec.hostCall !== undefined) return completeHostCall(host, realm, rec, rec.hostCall, entry)
  if (rec.psciResult !== undefined) return completePsci(rec, rec.psciResult)
  if (has(entry, ENTRY_FLAG.INJECT_SEA)) return { kind: 'sea' }
  if (has(entry, ENTRY_FLAG.EMUL_MMIO)) return { kind: 'mmio', value: entry.gprs[0] ?? 0n }
  return RUNNING
}

/** REJECT (arm-cca.md 7) only of RAM that wasn't all set and that the host said it refuses: EMPTY can't be refused. */
function completeRipasChange(rec: Rec, change: RipasChange, entry: RecEntry): Resumed {
  rec.ripasChange = undefined
  const isRejected = change.ripas === RIPAS.RAM && change.next !== change.top && has(entry, ENTRY_FLAG.RIPAS_RESPONSE)
  return { kind: 'ipa-state-set', reached: change.next, response: isRejected ? 'REJECT' : 'ACCEPT' }
}

const OFFSET = 0xfffn
/** Offset of the registers in RsiHostCall. */
export const HOST_CALL_GPRS = 8

/** The host's registers go into the structure; the call stays pending while the guest can't be given them. */
function completeHostCall(host: Host, realm: Realm, rec: Rec, ipa: bigint, entry: RecEntry): Resumed {
  const target = reach(host, realm, ipa, 'write')
  if (target.kind === 'exit') return target
  rec.hostCall = undefined
  if (target.kind !== 'ok') return { kind: 'sea' }
  const bytes = Buffer.alloc(8 * RUN_GPRS)
  const gprs = Array.from({ length: RUN_GPRS }, (_, index) => entry.gprs[index] ?? 0n)
  for (const [index, value] of gprs.entries()) bytes.writeBigUInt64LE(value, 8 * index)
  writeBytes(host, target.frame, Number(ipa & OFFSET) + HOST_CALL_GPRS, bytes)
  return { kind: 'host-call', gprs }
}

function completePsci(rec: Rec, x0: number): Resumed {
  rec.psciResult = undefined
  return { kind: 'psci', x0 }
}

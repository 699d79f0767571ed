import type { Host } from '../data.ts'
import type { RecExit, SyncExit } from './exits.ts'
import { PAGE_BITS } from './geometry.ts'
import { isHostMemory } from './granules.ts'
import type { Realm } from './realm.ts'
import { frameAt, isProtected, type Rtt, stateAt, walkLevel } from './rtt.ts'
import { ENTRY, isHostMapping, mayRead, mayWrite, RIPAS, ripasOf } from './states.ts'

export type AccessKind = 'read' | 'write' | 'execute'

/** An access by a REC. `value` is what a write stores; `isv`: one register that the syndrome describes, so emulatable. */
export type GuestAccess = {
  readonly ipa: bigint
  readonly kind: AccessKind
  readonly value?: bigint
  readonly isv?: boolean
}

/**
 * What comes of it (arm-cca.md 6). `sea` and `address-size` are taken in the Realm, and the host sees nothing; `gpf` is the
 * external abort of a host page that was delegated under its mapping.
 */
export type AccessResult =
  | { readonly kind: 'ok'; readonly frame: number }
  | { readonly kind: 'sea' }
  | { readonly kind: 'address-size' }
  | { readonly kind: 'gpf' }
  | { readonly kind: 'exit'; readonly exit: RecExit }

export const SEA_RESULT: AccessResult = { kind: 'sea' }
const ADDRESS_SIZE: AccessResult = { kind: 'address-size' }
const GPF: AccessResult = { kind: 'gpf' }

const EC = { INSTRUCTION_ABORT: 0x20, DATA_ABORT: 0x24 } as const
const EC_SHIFT = 26
/** ISV, SAS = 64 bits, SF: a register load or store of 8 bytes. */
const REGISTER_ACCESS = (1 << 24) | (3 << 22) | (1 << 15)
const WRITE_NOT_READ = 1 << 6
const TRANSLATION_FAULT = 0x04
const PERMISSION_FAULT = 0x0c

/** What an access does, by the table of arm-cca.md 6. Changes nothing: who makes the access leaves the REC on an exit. */
export function access(
  { data }: Pick<Host, 'data'>,
  { rtt }: Realm,
  { ipa, kind, value = 0n, isv = true }: GuestAccess,
): AccessResult {
  const page = Number(ipa >> BigInt(PAGE_BITS))
  if (page >= rtt.endPage) return ADDRESS_SIZE
  const entry = stateAt(rtt, page)
  if (isProtected(rtt, page)) return accessProtected(rtt, page, entry, kind)
  if (kind === 'execute') return SEA_RESULT
  if (!isHostMapping(entry)) {
    const exit = abort(rtt, page, kind, TRANSLATION_FAULT)
    return { kind: 'exit', exit: isv ? emulatable(exit, ipa, kind, value) : exit }
  }
  if (!(kind === 'write' ? mayWrite(entry) : mayRead(entry)))
    return { kind: 'exit', exit: abort(rtt, page, kind, PERMISSION_FAULT) }
  const frame = frameAt(rtt, page)
  if (frame >= data.granules.frames) return SEA_RESULT
  return isHostMemory(data.granules, frame) ? { kind: 'ok', frame } : GPF
}

function accessProtected(rtt: Rtt, page: number, entry: number, kind: AccessKind): AccessResult {
  if (entry === ENTRY.ASSIGNED_RAM) return { kind: 'ok', frame: frameAt(rtt, page) }
  if (ripasOf(entry) === RIPAS.EMPTY) return SEA_RESULT
  return { kind: 'exit', exit: abort(rtt, page, kind, TRANSLATION_FAULT) }
}

/** A non-emulatable abort: nothing but where, and why. */
function abort(rtt: Rtt, page: number, kind: AccessKind, fault: number): SyncExit {
  const isFetch = kind === 'execute'
  const status = fault + walkLevel(rtt, page, 3)
  return {
    reason: 'SYNC',
    page,
    write: kind === 'write',
    esr: (((isFetch ? EC.INSTRUCTION_ABORT : EC.DATA_ABORT) << EC_SHIFT) | status) >>> 0,
    far: 0,
    gpr0: 0n,
    emulatable: false,
    unprotectedAbort: !isProtected(rtt, page),
  }
}

const OFFSET = 0xfffn
const U64 = 0xffffffffffffffffn

const emulatable = (exit: SyncExit, ipa: bigint, kind: AccessKind, value: bigint): SyncExit => ({
  ...exit,
  esr: (exit.esr | REGISTER_ACCESS | (kind === 'write' ? WRITE_NOT_READ : 0)) >>> 0,
  far: Number(ipa & OFFSET),
  gpr0: kind === 'write' ? value & U64 : 0n,
  emulatable: true,
})

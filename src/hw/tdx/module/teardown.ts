import type { Host } from '../data.ts'
import { type Answer, DONE, done, type Outputs, refuse, refuseOperand } from './answer.ts'
import { ADDRESS_BITS, addressOf, hex, KEY_BITS, SPAN } from './geometry.ts'
import { flushKey, freeKey, hasFlushedKey, isWrittenBack, writeBack } from './kot.ts'
import { LIFECYCLE } from './op-states.ts'
import { checkAnyPage, checkFreePage, checkTdr, ownerTd } from './operands.ts'
import { entryAt, epochOf, freePages, ownerFrame, PAGE_TYPE, removeOwner, sizeOf, typeName, typeOf } from './pamt.ts'
import { forget } from './sept-ranges.ts'
import type { Td } from './td.ts'

/** TDH.MNG.VPFLUSHDONE (intel-tdx.md a.5 step 2): no vCPU is associated any more, the key is to be flushed. */
export function mngVpFlushDone({ data }: Host, tdr: bigint): Answer {
  const found = checkTdr(data, tdr, 'RCX')
  if (!found.ok) return found.answer
  const td = found.value
  if (td.lifecycle !== LIFECYCLE.HKID_ASSIGNED && td.lifecycle !== LIFECYCLE.KEYS_CONFIGURED)
    return refuse('TDX_LIFECYCLE_STATE_INCORRECT')
  for (const vcpu of td.vcpus.values()) if (vcpu.lp !== -1) return refuse('TDX_FLUSHVP_NOT_DONE')
  td.lifecycle = LIFECYCLE.BLOCKED
  flushKey(data.kot, td.hkid)
  return DONE
}

/**
 * TDH.PHYMEM.CACHE.WB (a.5 step 3) on one package, for all flushed keys at once. It is never interrupted here, so that
 * there is never anything to resume.
 */
export function cacheWriteBack({ data }: Host, rcx: bigint, onPackage: number): Answer {
  if (rcx > 1n) return refuseOperand('TDX_OPERAND_INVALID', 'RCX')
  if (!hasFlushedKey(data.kot)) return refuse('TDX_NO_HKID_READY_TO_WBCACHE')
  if (rcx === 1n) return refuse('TDX_WBCACHE_RESUME_ERROR')
  writeBack(data.kot, onPackage)
  return DONE
}

/** TDH.MNG.KEY.FREEID (a.5 step 4): the key is free, the TD can only be reclaimed. */
export function mngKeyFreeId({ data }: Host, tdr: bigint): Answer {
  const found = checkTdr(data, tdr, 'RCX')
  if (!found.ok) return found.answer
  const td = found.value
  if (td.lifecycle !== LIFECYCLE.BLOCKED) return refuse('TDX_LIFECYCLE_STATE_INCORRECT')
  if (!isWrittenBack(data.kot, td.hkid)) return refuse('TDX_WBCACHE_NOT_COMPLETE')
  freeKey(data.kot, td.hkid)
  td.lifecycle = LIFECYCLE.TEARDOWN
  return DONE
}

/**
 * TDH.PHYMEM.PAGE.RECLAIM (a.5 step 5): a page of a TD that is torn down is free, the TDR last of all. RCX, RDX and R8
 * are its type, owner and size, also where it refuses a page that has an owner. Ciphertext reads as zeros.
 */
export function pageReclaim(host: Host, page: bigint): Answer {
  const { data } = host
  const found = checkAnyPage(data, page, 'RCX')
  if (!found.ok) return found.answer
  const frame = found.value
  const entry = entryAt(data.pamt, frame)
  const type = typeOf(entry)
  if (type === PAGE_TYPE.NDA || type === PAGE_TYPE.RSVD)
    return refuseOperand('TDX_PAGE_METADATA_INCORRECT', 'RCX', NO_METADATA)
  const outputs = metadataOutputs(host, entry)
  const pages = SPAN[sizeOf(entry)]
  if (frame % pages !== 0) return refuseOperand('TDX_OPERAND_INVALID', 'RCX', outputs)
  const td = type === PAGE_TYPE.TDR ? tdrOf(host, frame) : ownerTd(data, entry)
  if (td.lifecycle !== LIFECYCLE.TEARDOWN) return { ...refuse('TDX_LIFECYCLE_STATE_INCORRECT'), outputs }
  if (type === PAGE_TYPE.TDR) {
    if (td.childCount !== 0) return { ...refuse('TDX_TD_ASSOCIATED_PAGES_EXIST'), outputs }
    data.tds.delete(frame)
    removeOwner(data.pamt, td.owner)
  } else td.childCount -= pages
  if (type === PAGE_TYPE.TDVPR) td.vcpus.delete(frame)
  reclaim(host, frame, pages)
  return done(outputs)
}

function tdrOf({ data }: Host, frame: number): Td {
  const td = data.tds.get(frame)
  if (td === undefined) throw new Error(`frame ${frame} is PT_TDR and no TD's`)
  return td
}

function reclaim({ data, machine }: Host, frame: number, count: number): void {
  freePages(data.pamt, frame, count)
  if (data.poisoned.size > 0) forget(data.poisoned, frame, count)
  machine.clear(frame, count)
}

const NO_METADATA: Outputs = { rcx: '0x0', rdx: '0x0', r8: '0x0' }

const metadataOutputs = ({ data }: Host, entry: number): Outputs => {
  const owner = ownerFrame(data.pamt, entry)
  return {
    rcx: hex(typeOf(entry)),
    rdx: owner < 0 ? '0x0' : addressOf(owner),
    r8: hex(sizeOf(entry)),
    page: { type: typeName(typeOf(entry)), level: sizeOf(entry), ...(owner < 0 ? {} : { tdr: addressOf(owner) }) },
  }
}

/** TDH.PHYMEM.PAGE.RDMD (b): type, owner, size and BEPOCH of any page, whatever its TD's state. */
export function pageReadMetadata(host: Host, page: bigint): Answer {
  const { data } = host
  const found = checkAnyPage(data, page, 'RCX')
  if (!found.ok) return found.answer
  const entry = entryAt(data.pamt, found.value)
  const epoch = blockedEpoch(host, found.value, entry)
  return done({ ...metadataOutputs(host, entry), r9: hex(epoch), blockedEpoch: epoch })
}

function blockedEpoch({ data }: Host, frame: number, entry: number): number {
  const type = typeOf(entry)
  if (type !== PAGE_TYPE.REG && type !== PAGE_TYPE.EPT) return 0
  return epochOf(data.pamt, frame, ownerTd(data, entry).epoch)
}

/** TDH.PHYMEM.PAGE.WBINVD (a.5 step 6): writes back the lines of a free page under the key in the address. */
export function pageWbinvd({ data }: Host, address: bigint): Answer {
  if (address >> (ADDRESS_BITS + KEY_BITS) !== 0n) return refuseOperand('TDX_OPERAND_INVALID', 'RCX')
  const frame = checkFreePage(data, address & ((1n << ADDRESS_BITS) - 1n), 'RCX')
  return frame.ok ? DONE : frame.answer
}

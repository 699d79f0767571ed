import type { Host } from '../data.ts'
import { type Answer, DONE, refuse, refuseOperand } from './answer.ts'
import type { Level } from './geometry.ts'
import { assignKey, isPrivateKey, KEY_STATE, keyState } from './kot.ts'
import { ALLOWED, isAllowed, LIFECYCLE, OP_STATE } from './op-states.ts'
import { checkFreePage, checkKeys, checkTdr, MIN_TDCX, openTd } from './operands.ts'
import { addOwner, assignPages, PAGE_TYPE } from './pamt.ts'
import { createTd, TD_CTLS, type Td } from './td.ts'
import { ATTRIBUTE, pageWalkLevels, parseTdParams } from './td-params.ts'

const MAX_TDCX = 9

/** TDH.MNG.CREATE (intel-tdx.md a.4): `page` becomes the TDR of a new TD under key `hkid`. */
export function mngCreate({ data, machine }: Host, page: bigint, hkid: number): Answer {
  if (!isPrivateKey(hkid)) return refuseOperand('TDX_OPERAND_INVALID', 'RDX')
  const frame = checkFreePage(data, page, 'RCX')
  if (!frame.ok) return frame.answer
  if (keyState(data.kot, hkid) !== KEY_STATE.FREE) return refuse('TDX_HKID_NOT_FREE')
  assignKey(data.kot, hkid)
  assignPages(data.pamt, frame.value, 1, PAGE_TYPE.TDR, 0, 0)
  machine.clear(frame.value, 1)
  data.tds.set(frame.value, createTd(frame.value, addOwner(data.pamt, frame.value), hkid))
  return DONE
}

/** TDH.MNG.KEY.CONFIG (a.4) on one package; on the last one the TD's keys are configured. */
export function mngKeyConfig({ data }: Host, tdr: bigint, onPackage: number): Answer {
  const found = checkTdr(data, tdr, 'RCX')
  if (!found.ok) return found.answer
  const td = found.value
  if (td.lifecycle !== LIFECYCLE.HKID_ASSIGNED) return refuse('TDX_LIFECYCLE_STATE_INCORRECT')
  const bit = 1 << onPackage
  if (td.configuredPackages & bit) return refuse('TDX_KEY_CONFIGURED')
  td.configuredPackages |= bit
  if (td.configuredPackages === 2 ** data.kot.packages - 1) td.lifecycle = LIFECYCLE.KEYS_CONFIGURED
  return DONE
}

/** TDH.MNG.ADDCX (a.4): one more TDCX page, of 6 to 9, before MNG.INIT. */
export function mngAddcx(host: Host, page: bigint, tdr: bigint): Answer {
  const { data } = host
  const found = checkTdr(data, tdr, 'RDX')
  if (!found.ok) return found.answer
  const td = found.value
  const refused = checkKeys(td)
  if (refused !== undefined) return refused
  if (td.tdcx.length >= MAX_TDCX) return refuse('TDX_TDCX_NUM_INCORRECT')
  if (!isAllowed(ALLOWED['TDH.MNG.ADDCX'], td.opState)) return refuse('TDX_OP_STATE_INCORRECT')
  const frame = checkFreePage(data, page, 'RCX')
  if (!frame.ok) return frame.answer
  takePage(host, td, frame.value, PAGE_TYPE.TDCX)
  td.tdcx.push(frame.value)
  return DONE
}

/** A free page becomes the TD's for the module's own use; its contents are gone. */
export function takePage(
  { data, machine }: Host,
  td: Td,
  frame: number,
  type: typeof PAGE_TYPE.TDCX | typeof PAGE_TYPE.TDVPR,
): void {
  assignPages(data.pamt, frame, 1, type, 0, td.owner)
  td.childCount++
  machine.clear(frame, 1)
}

/** TDH.MNG.INIT (a.4) with the 1024 bytes of TD_PARAMS. The digest, which nothing could change before, starts here. */
export function mngInit({ data }: Host, tdr: bigint, bytes: Uint8Array): Answer {
  const opened = openTd(data, 'TDH.MNG.INIT', tdr, 'RCX')
  if (!opened.ok) return opened.answer
  const td = opened.value
  const parsed = parseTdParams(bytes, td.tdcx.length - MIN_TDCX)
  if (!parsed.ok) return parsed.answer
  const params = parsed.value
  td.params = params
  td.sept.top = (pageWalkLevels(params.eptpControls) - 1) as Level
  td.epoch = 1
  td.tdCtls = params.attributes & ATTRIBUTE.SEPT_VE_DISABLE ? TD_CTLS.PENDING_VE_DISABLE : 0
  td.opState = OP_STATE.INITIALIZED
  return DONE
}

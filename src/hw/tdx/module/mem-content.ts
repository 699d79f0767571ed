import { Buffer } from 'node:buffer'
import type { Host } from '../data.ts'
import { digest, extend } from '../measurement/mrtd.ts'
import { type Answer, type Checked, DONE, done, fail, pass, refuse, refuseOperand } from './answer.ts'
import { hex, PAGE_BITS, PAGE_SIZE } from './geometry.ts'
import { OP_STATE } from './op-states.ts'
import { isPrivateGpa, type MemoryCall, openTd } from './operands.ts'
import { frameAt, leafAt, stateOfLeaf } from './sept.ts'
import { STATE } from './states.ts'
import type { Td } from './td.ts'
import { ATTRIBUTE } from './td-params.ts'

const ZERO_PAGE = new Uint8Array(PAGE_SIZE)
const CHUNK = 256n
const WORD = 8n

/** Where a byte address of a mapped page lies: 0.3 step 3 for addresses without a level, then presence (c.3). */
function locate(td: Td, gpa: bigint, alignment: bigint): Checked<Located> {
  if (gpa % alignment !== 0n || !isPrivateGpa(td, gpa)) return fail(refuseOperand('TDX_OPERAND_INVALID', 'RCX'))
  const gfn = Number(gpa >> PAGE_BITS)
  if (stateOfLeaf(leafAt(td.sept, gfn)) !== STATE.MAPPED) return fail(refuseOperand('TDX_EPT_ENTRY_NOT_PRESENT', 'RCX'))
  return pass({ gfn, frame: frameAt(td.sept, gfn), offset: Number(gpa & 0xfffn) })
}
type Located = { readonly gfn: number; readonly frame: number; readonly offset: number }

/** TDH.MR.EXTEND (intel-tdx.md c.3, e.1): measures 256 bytes of a mapped page, of any size. */
export function mrExtend({ data, machine }: Host, { gpa, tdr }: MemoryCall): Answer {
  const td = openTd(data, 'TDH.MR.EXTEND', tdr, 'RDX')
  if (!td.ok) return td.answer
  const at = locate(td.value, gpa, CHUNK)
  if (!at.ok) return at.answer
  const { gfn, frame, offset } = at.value
  extend(td.value.mrtd, gfn, offset, machine.read(frame) ?? ZERO_PAGE)
  return DONE
}

/** TDH.MR.FINALIZE (a.4): MRTD is what was measured, no service TD is bound, and the TD may run. */
export function mrFinalize({ data }: Host, tdr: bigint): Answer {
  const opened = openTd(data, 'TDH.MR.FINALIZE', tdr, 'RCX')
  if (!opened.ok) return opened.answer
  const td = opened.value
  if (td.indexed.length === 0) return refuse('TDX_NO_VCPUS')
  td.finalDigest = Uint8Array.from(digest(td.mrtd))
  td.opState = OP_STATE.RUNNABLE
  return done({ mrtd: Buffer.from(td.finalDigest).toString('hex') })
}

/** A debug TD's mapped 8 bytes at an aligned address. */
function openWord(
  host: Host,
  leaf: 'TDH.MEM.RD' | 'TDH.MEM.WR',
  { gpa, tdr }: MemoryCall,
): Checked<{ readonly at: Located; readonly bytes: Buffer }> {
  const td = openTd(host.data, leaf, tdr, 'RDX')
  if (!td.ok) return td
  if ((td.value.params.attributes & ATTRIBUTE.DEBUG) === 0n) return fail(refuse('TDX_TD_NON_DEBUG'))
  const at = locate(td.value, gpa, WORD)
  if (!at.ok) return at
  return pass({ at: at.value, bytes: Buffer.from(host.machine.read(at.value.frame) ?? ZERO_PAGE) })
}

/** TDH.MEM.RD (c.3): R8 is 8 bytes of a debug TD's page. */
export function memRead(host: Host, call: MemoryCall): Answer {
  const word = openWord(host, 'TDH.MEM.RD', call)
  return word.ok ? done({ r8: hex(word.value.bytes.readBigUInt64LE(word.value.at.offset)) }) : word.answer
}

/** TDH.MEM.WR (c.3): writes 8 bytes of a debug TD's page; R8 is what was there. */
export function memWrite(host: Host, call: MemoryCall & { readonly value: bigint }): Answer {
  const word = openWord(host, 'TDH.MEM.WR', call)
  if (!word.ok) return word.answer
  const { at, bytes } = word.value
  const before = bytes.readBigUInt64LE(at.offset)
  bytes.writeBigUInt64LE(call.value, at.offset)
  host.machine.write(at.frame, bytes)
  return done({ r8: hex(before) })
}

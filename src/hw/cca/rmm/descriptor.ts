import { PAGE_BITS, spanOf } from './geometry.ts'
import { attributesOf, HOST_ATTRIBUTES } from './states.ts'

/** What RTT_MAP_UNPROTECTED takes of the host (arm-cca.md 5): a frame of any physical memory, MemAttr and S2AP. */
export type HostDescriptor = { readonly frame: number; readonly attributes: number }

const ADDRESS = 0xfffffffff000n
/** With LPA2 bits 49:48 stay in place, and bits 51:50 lie in 9:8. */
const LPA2_ADDRESS = 0x3fffffffff000n
const LPA2_HIGH = 0x300n
const LPA2_HIGH_SHIFT = 42n
const MEM_ATTR_SHIFT = 2
const MEM_ATTR_MASK = 7
const RESERVED_MEM_ATTR = 4

/** Reads a descriptor for an entry of `level`; undefined where a bit, the MemAttr or the alignment isn't legal. */
export function readDescriptor(desc: bigint, level: number, lpa2: boolean): HostDescriptor | undefined {
  const high = lpa2 ? LPA2_HIGH : 0n
  const address = lpa2 ? LPA2_ADDRESS : ADDRESS
  if ((desc & ~(address | high | BigInt(HOST_ATTRIBUTES))) !== 0n) return undefined
  const attributes = Number(desc & BigInt(HOST_ATTRIBUTES))
  if (((attributes >>> MEM_ATTR_SHIFT) & MEM_ATTR_MASK) === RESERVED_MEM_ATTR) return undefined
  const frame = Number(((desc & address) | ((desc & high) << LPA2_HIGH_SHIFT)) >> BigInt(PAGE_BITS))
  return frame % spanOf(level) === 0 ? { frame, attributes } : undefined
}

/** The descriptor of a frame with the attributes of an entry (states.ts), 0 for none. */
export function descriptorOf(frame: number, entry: number, lpa2: boolean): bigint {
  const address = BigInt(frame) << BigInt(PAGE_BITS)
  const placed = lpa2 ? (address & LPA2_ADDRESS) | ((address >> LPA2_HIGH_SHIFT) & LPA2_HIGH) : address
  return placed | BigInt(attributesOf(entry))
}

import { digestField, type HashAlgo, MEASUREMENT_BYTES, PAGE_BYTES } from './digest.ts'

/** The fields of RmiRealmParams that are measured, as they are in memory; the RPV, VMID and rtt_* don't count (arm-cca.md 8). */
export type MeasuredRealmParams = {
  readonly flags: bigint
  readonly s2sz: number
  readonly sveVl: number
  readonly numBps: number
  readonly numWps: number
  readonly pmuNumCtrs: number
  readonly hashAlgo: HashAlgo
}

/** The fields of RmiRecParams that are measured; `gprs` are the eight registers. mpidr and aux don't count (8). */
export type MeasuredRecParams = {
  readonly flags: bigint
  readonly pc: bigint
  readonly gprs: readonly bigint[]
}

export const REC_RUNNABLE = 1n

const TYPE = { data: 0, rec: 1, ripas: 2 } as const
const DESCRIPTOR_BYTES = 0x100
const RIM_AT = 0x10
const BODY_AT = 0x50

/** The RIM of a Realm just created: the digest of its 4096 bytes of parameters (arm-cca.md 8). */
export function initialRim(params: MeasuredRealmParams): Uint8Array {
  const page = Buffer.alloc(PAGE_BYTES)
  page.writeBigUInt64LE(params.flags, 0)
  page.writeUInt8(params.s2sz, 0x08)
  page.writeUInt8(params.sveVl, 0x10)
  page.writeUInt8(params.numBps, 0x18)
  page.writeUInt8(params.numWps, 0x20)
  page.writeUInt8(params.pmuNumCtrs, 0x28)
  page.writeUInt8(params.hashAlgo, 0x30)
  return digestField(params.hashAlgo, page)
}

/**
 * RMI_DATA_CREATE of the page at `ipa` (arm-cca.md 8). `content` are the page's 4096 bytes and count only where `flags` is 1
 * (MEASURE_CONTENT); a page that isn't measured still extends the RIM.
 */
export function extendData(
  algo: HashAlgo,
  rim: Uint8Array,
  ipa: bigint,
  flags: 0 | 1,
  content: Uint8Array | undefined,
): Uint8Array {
  if (flags === 0) return extendDataDigest(algo, rim, ipa, flags, undefined)
  if (content?.length !== PAGE_BYTES) throw new RangeError(`A measured page has ${PAGE_BYTES} bytes`)
  return extendDataDigest(algo, rim, ipa, flags, digestField(algo, content))
}

/** {@link extendData} where the digest of the page is known: its 64-byte field, undefined for zeros. */
export function extendDataDigest(
  algo: HashAlgo,
  rim: Uint8Array,
  ipa: bigint,
  flags: 0 | 1,
  digest: Uint8Array | undefined,
): Uint8Array {
  const bytes = descriptor(TYPE.data, rim)
  bytes.writeBigUInt64LE(ipa, BODY_AT)
  bytes.writeUInt8(flags, BODY_AT + 8)
  if (digest !== undefined) bytes.set(digest, BODY_AT + 16)
  return digestField(algo, bytes)
}

/** RMI_REC_CREATE (arm-cca.md 8). A REC that isn't runnable leaves the RIM alone. */
export function extendRec(algo: HashAlgo, rim: Uint8Array, params: MeasuredRecParams): Uint8Array {
  if ((params.flags & REC_RUNNABLE) === 0n) return rim
  const bytes = descriptor(TYPE.rec, rim)
  bytes.set(digestField(algo, recImage(params)), BODY_AT)
  return digestField(algo, bytes)
}

/** One entry that RMI_RTT_INIT_RIPAS passes, from `base` up to `top` (arm-cca.md 8). */
export function extendRipas(algo: HashAlgo, rim: Uint8Array, base: bigint, top: bigint): Uint8Array {
  const bytes = descriptor(TYPE.ripas, rim)
  bytes.writeBigUInt64LE(base, BODY_AT)
  bytes.writeBigUInt64LE(top, BODY_AT + 8)
  return digestField(algo, bytes)
}

/** One descriptor at a time, hashed before the next is begun. */
const scratch = Buffer.alloc(DESCRIPTOR_BYTES)

function descriptor(type: number, rim: Uint8Array): Buffer {
  if (rim.length !== MEASUREMENT_BYTES) throw new RangeError(`A RIM has ${MEASUREMENT_BYTES} bytes`)
  scratch.fill(0)
  scratch.writeUInt8(type, 0)
  scratch.writeUInt16LE(DESCRIPTOR_BYTES, 8)
  scratch.set(rim, RIM_AT)
  return scratch
}

function recImage({ flags, pc, gprs }: MeasuredRecParams): Buffer {
  const page = Buffer.alloc(PAGE_BYTES)
  page.writeBigUInt64LE(flags, 0)
  page.writeBigUInt64LE(pc, 0x200)
  for (const [index, value] of gprs.entries()) page.writeBigUInt64LE(value, 0x300 + index * 8)
  return page
}

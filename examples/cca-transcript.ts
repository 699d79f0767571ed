import { hash } from 'node:crypto'
import type { RealmStep } from './replies.ts'

const PAGE = 4096
/** A measurement is a field of 64 bytes, whatever the hash. */
const FIELD = 64
const TYPE = { data: 0, rec: 1, ripas: 2 } as const
const RUNNABLE = 1n

/**
 * The RIM from a transcript and the image alone. It begins as the digest of the Realm's parameters; each page, each entry of
 * a table that becomes RAM and each REC that may run then extends it by a descriptor of 256 bytes with the RIM before in it.
 * Throws at the first step whose digest does not follow.
 */
export function rehash(steps: readonly RealmStep[], image: Uint8Array): string {
  const [first] = steps
  if (first?.op !== 'realm_create') throw new Error('A Realm is created first')
  const algorithm = first.hash_algo === 0 ? 'sha256' : 'sha512'
  const digest = (bytes: Uint8Array): Buffer => field(hash(algorithm, bytes, 'buffer'))
  let rim: Uint8Array = Buffer.alloc(FIELD)
  for (const [index, step] of steps.entries()) {
    for (const body of bodiesOf(step, image, digest)) rim = digest(body(rim))
    const shown = Buffer.from(rim).toString('hex', 0, step.rimAfter.length / 2)
    if (shown !== step.rimAfter) throw new Error(`step ${index} (${step.op}) comes to ${shown}, not ${step.rimAfter}`)
  }
  return steps.at(-1)?.rimAfter ?? ''
}

/** What is hashed next, given the RIM before. */
type Body = (rim: Uint8Array) => Uint8Array

function bodiesOf(step: RealmStep, image: Uint8Array, digest: (bytes: Uint8Array) => Buffer): Body[] {
  switch (step.op) {
    case 'realm_create':
      return [() => realmParams(step)]
    case 'ripas':
      return Array.from({ length: step.entries }, (_, entry) => {
        const base = BigInt(step.base) + BigInt(entry * step.entrySize)
        return descriptor(TYPE.ripas, u64(base, base + BigInt(step.entrySize)))
      })
    case 'data':
      return Array.from({ length: step.pages }, (_, page) => {
        const content = digest(pageOf(image, page))
        return descriptor(TYPE.data, u64(BigInt(step.ipa) + BigInt(page * PAGE), BigInt(step.flags)), content)
      })
    case 'rec':
      return BigInt(step.flags) & RUNNABLE ? [descriptor(TYPE.rec, digest(recParams(step)))] : []
    case 'noop':
      return []
  }
}

/** Type, length, the RIM before, and from 0x50 on what the type has. */
function descriptor(type: number, ...parts: readonly Uint8Array[]): Body {
  return (rim) => {
    const bytes = Buffer.alloc(0x100)
    bytes.writeUInt8(type, 0)
    bytes.writeUInt16LE(bytes.length, 8)
    bytes.set(rim, 0x10)
    bytes.set(Buffer.concat(parts), 0x50)
    return bytes
  }
}

function realmParams(step: Extract<RealmStep, { op: 'realm_create' }>): Buffer {
  const bytes = Buffer.alloc(PAGE)
  bytes.writeBigUInt64LE(BigInt(step.flags), 0)
  const { s2sz, sve_vl, num_bps, num_wps, pmu_num_ctrs, hash_algo } = step
  for (const [index, value] of [s2sz, sve_vl, num_bps, num_wps, pmu_num_ctrs, hash_algo].entries())
    bytes.writeUInt8(value, 8 + 8 * index)
  return bytes
}

function recParams({ flags, pc, gprs }: Extract<RealmStep, { op: 'rec' }>): Buffer {
  const bytes = Buffer.alloc(PAGE)
  bytes.writeBigUInt64LE(BigInt(flags), 0)
  bytes.writeBigUInt64LE(BigInt(pc), 0x200)
  bytes.set(u64(...gprs.map(BigInt)), 0x300)
  return bytes
}

function u64(...values: readonly bigint[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length)
  for (const [index, value] of values.entries()) bytes.writeBigUInt64LE(value, 8 * index)
  return bytes
}

function field(bytes: Uint8Array): Buffer {
  const whole = Buffer.alloc(FIELD)
  whole.set(bytes)
  return whole
}

/** A page of the image, and zeros behind its end. */
function pageOf(image: Uint8Array, page: number): Buffer {
  const bytes = Buffer.alloc(PAGE)
  bytes.set(image.subarray(page * PAGE, (page + 1) * PAGE))
  return bytes
}

import { createCipheriv, createDecipheriv } from 'node:crypto'
import type { Host } from './data.ts'
import { memoryKey } from './derive.ts'
import { entryOf } from './rmp.ts'
import { asidOf, CONTEXT, IMMUTABLE, VALIDATED } from './states.ts'

export const PAGE_BYTES = 4096
const ZERO_PAGE = new Uint8Array(PAGE_BYTES)
const TWEAK_BYTES = 16
/** Stands for "nobody's key": bytes are what they are. */
export const PLAIN = 0
/** Key of the firmware's own pages. */
const FIRMWARE_KEY = -1

/**
 * Whose view a page's bytes are kept in: the ASID whose key makes them readable, or {@link PLAIN}. A Pre-Guest page is
 * about to be filled, so its bytes are the memory's own; every other page of a guest is kept as the guest sees it.
 */
export const viewOf = (entry: number): number =>
  (entry & (IMMUTABLE | VALIDATED)) === IMMUTABLE ? PLAIN : asidOf(entry)

/**
 * The memory controller's encryption (amd-sev-snp.md a.1): a key for each ASID, tweaked by the physical address, each
 * 16-byte block on its own. XTS has these properties; the real mode and key are AMD's.
 */
export function encrypt(host: Host, key: number, frame: number, bytes: Uint8Array | undefined): Uint8Array {
  const cipher = createCipheriv('aes-128-xts', keyOf(host, key), tweak(frame))
  return new Uint8Array(cipher.update(bytes ?? ZERO_PAGE))
}

export function decrypt(host: Host, key: number, frame: number, bytes: Uint8Array | undefined): Uint8Array {
  const decipher = createDecipheriv('aes-128-xts', keyOf(host, key), tweak(frame))
  return new Uint8Array(decipher.update(bytes ?? ZERO_PAGE))
}

/** What a read without the owner's key sees. */
export function ciphertextOf(host: Host, frame: number): Uint8Array {
  const entry = entryOf(host.rmp, frame)
  const key = entry === CONTEXT ? FIRMWARE_KEY : viewOf(entry)
  const bytes = host.machine.read(frame)
  return key === PLAIN ? (bytes ?? ZERO_PAGE) : encrypt(host, key, frame, bytes)
}

/**
 * Keeps the memory itself as it is while its bytes change view: what one key wrote, the other reads as garbage. Pages
 * never written stay zero for a guest that gets them from the host, as the default of `freshPages` promises.
 */
export function changeView(host: Host, frame: number, count: number, from: number, to: number): void {
  if (from === to) return
  for (let at = frame; at < frame + count; at++) {
    const bytes = host.machine.read(at)
    if (from === PLAIN && bytes === undefined) continue
    const memory = from === PLAIN ? bytes : encrypt(host, from, at, bytes)
    host.machine.write(at, to === PLAIN ? memory : normal(decrypt(host, to, at, memory)))
  }
}

/** All-zero pages are kept as undefined. */
const normal = (bytes: Uint8Array): Uint8Array | undefined =>
  Buffer.compare(bytes, ZERO_PAGE) === 0 ? undefined : bytes

/** What a guest finds in a page that the host left zero, when fresh pages are scrambled. */
export const scramble = (host: Host, asid: number, frame: number): void =>
  host.machine.write(frame, decrypt(host, asid, frame, undefined))

const keyOf = (host: Host, key: number): Buffer =>
  memoryKey(host.data.seed, key === FIRMWARE_KEY ? 'firmware' : `${key}/${host.data.asids.generation[key] ?? 0}`)

function tweak(frame: number): Buffer {
  const bytes = Buffer.alloc(TWEAK_BYTES)
  bytes.writeBigUInt64LE(BigInt(frame) * BigInt(PAGE_BYTES))
  return bytes
}

import { createCipheriv, createDecipheriv } from 'node:crypto'
import type { GuestContextRecord, Host } from './data.ts'
import { guestSecret } from './derive.ts'
import { contextAt, isLaunched, isMetadataOf } from './firmware-guest.ts'
import { changeGuestPage } from './firmware-pages.ts'
import { decrypt, encrypt, PAGE_BYTES, viewOf } from './memory.ts'
import {
  clearValid,
  METADATA_ENTRY_BYTES,
  type MetadataEntry,
  readMetadataEntry,
  type SwapType,
  TAG_BYTES,
  writeMetadataEntry,
} from './metadata-entry.ts'
import { BLOCK, entryOf, GFN_LIMIT, gfnOf, rawEntry, rawState, writeEntries } from './rmp.ts'
import {
  ALL_PERMISSIONS,
  asidOf,
  FIRMWARE,
  LARGE,
  METADATA_MARK,
  PRE_GUEST,
  PRE_SWAP,
  permissionsOf,
  VALIDATED,
  VMSA,
  withAsid,
  withPermissions,
} from './states.ts'
import { type FirmwareCode, FW } from './status.ts'

export type Swap = {
  /** Frame of the guest context. */
  readonly context: number
  readonly source: number
  readonly target: number
  readonly large: boolean
  readonly type: SwapType
  /** Where the metadata entry lies: frame and byte offset. */
  readonly metadata: { readonly frame: number; readonly offset: number }
}

const ALGORITHM = 'aes-256-gcm'
const MAX_SWAPS = 2n ** 64n - 2n
const ZERO_PAGE = new Uint8Array(PAGE_BYTES)
/** A metadata page has no gpa: all ones. */
const NO_GFN = GFN_LIMIT - 1

/** The metadata entry's checks, then its guest's: the first steps of both swap commands in firmware. */
function judgeEntryPlace(host: Host, swap: Swap): FirmwareCode {
  const { metadata, source, target, large, context } = swap
  if (metadata.offset % METADATA_ENTRY_BYTES !== 0) return FW.INVALID_PARAM
  const count = large ? BLOCK : 1
  const overlaps = (frame: number): boolean => metadata.frame >= frame && metadata.frame < frame + count
  if (overlaps(source) || overlaps(target)) return FW.INVALID_PARAM
  if (rawState(host.rmp, metadata.frame) !== 'Metadata') return FW.INVALID_PAGE_STATE
  return isMetadataOf(host, metadata.frame, context) ? FW.SUCCESS : FW.INVALID_PAGE_OWNER
}

/**
 * SNP_PAGE_SWAP_OUT (amd-sev-snp.md b.6): wraps a page with AES-256-GCM under the guest's OEK into the target and its
 * attributes into a metadata entry. Source → Pre-Guest; a metadata page → Firmware.
 */
export function swapOut(host: Host, swap: Swap, softwareData: bigint): FirmwareCode {
  const { rmp } = host
  const { context, source, target, large, type } = swap
  const guest = contextAt(host, context)
  if (guest === undefined) return FW.INVALID_GUEST
  const place = judgeEntryPlace(host, swap)
  if (place !== FW.SUCCESS) return place
  const size = large ? LARGE : 0
  if ((sizeOf(host, source) ?? 0) !== size || (sizeOf(host, target) ?? size) !== size) return FW.INVALID_PAGE_SIZE
  if (!isLaunched(guest)) return FW.INVALID_GUEST_STATE
  if (guest.asid === 0) return FW.INACTIVE
  const state = rawState(rmp, source)
  const right = type === 'metadata' ? state === 'Metadata' : state === 'Pre-Swap' || state === 'Pre-Guest'
  if (!right || rawState(rmp, target) !== 'Firmware' || target >= rmp.ownStart) return FW.INVALID_PAGE_STATE
  const entry = entryOf(rmp, source)
  const owned = type === 'metadata' ? isMetadataOf(host, source, context) : asidOf(entry) === guest.asid
  if (!owned) return FW.INVALID_PAGE_OWNER
  if (guest.swapCount >= MAX_SWAPS) return FW.AEAD_OFLOW
  const iv = guest.swapCount++
  const tag = wrap(host, guest, swap, iv)
  const count = large ? BLOCK : 1
  writeEntry(host, swap.metadata, {
    softwareData,
    iv,
    tag,
    valid: true,
    validated: type !== 'metadata' && (entry & VALIDATED) !== 0,
    type,
    large,
    gfn: type === 'metadata' ? NO_GFN : gfnOf(rmp, source),
    permissions:
      type === 'metadata'
        ? [0, 0, 0, 0]
        : [ALL_PERMISSIONS, permissionsOf(entry, 1), permissionsOf(entry, 2), permissionsOf(entry, 3)],
  })
  if (type === 'metadata') writeEntries(rmp, source, source + count, FIRMWARE | size, 0)
  else changeGuestPage(host, source, entry & ~VALIDATED)
  return FW.SUCCESS
}

/**
 * SNP_PAGE_SWAP_IN (amd-sev-snp.md b.6): the reverse. The entry's kind, VALID bit and sizes are judged before page
 * states, as in firmware. A wrong tag changes nothing.
 */
export function swapIn(host: Host, swap: Swap, inPlace: boolean): FirmwareCode {
  const { context, target, type, metadata } = swap
  const guest = contextAt(host, context)
  if (guest === undefined) return FW.INVALID_GUEST
  const place = judgeEntryPlace(host, swap)
  if (place !== FW.SUCCESS) return place
  if (!isLaunched(guest)) return FW.INVALID_GUEST_STATE
  if (guest.asid === 0) return FW.INACTIVE
  const bytes = Buffer.from(host.machine.read(metadata.frame) ?? ZERO_PAGE)
  const entry = readMetadataEntry(bytes, metadata.offset)
  if (entry.type !== type || !entry.valid) return FW.INVALID_MDATA_ENTRY
  const code = judgeSwapIn(host, swap, entry, guest, inPlace)
  if (code !== FW.SUCCESS) return code
  const pages = unwrap(host, guest, swap, entry)
  if (pages === undefined) return FW.BAD_MEASUREMENT
  const count = pages.length
  const size = swap.large ? LARGE : 0
  if (type === 'metadata') writeEntries(host.rmp, target, target + count, FIRMWARE | size, METADATA_MARK + context)
  else writeEntries(host.rmp, target, target + count, swappedEntry(entry, guest.asid), entry.gfn)
  const key = type === 'metadata' ? 0 : guest.asid
  const view = viewOf(entryOf(host.rmp, target))
  for (const [index, page] of pages.entries()) {
    const frame = target + index
    host.machine.write(frame, key !== 0 && view === 0 ? encrypt(host, key, frame, page) : page)
  }
  clearValid(bytes, metadata.offset)
  host.machine.write(metadata.frame, new Uint8Array(bytes))
  return FW.SUCCESS
}

function judgeSwapIn(
  host: Host,
  swap: Swap,
  entry: MetadataEntry,
  guest: GuestContextRecord,
  inPlace: boolean,
): FirmwareCode {
  const { source, target, large, type } = swap
  const size = large ? LARGE : 0
  const sizes = (sizeOf(host, source) ?? size) === size && (sizeOf(host, target) ?? 0) === size && entry.large === large
  if (!sizes) return FW.INVALID_PAGE_SIZE
  const state = rawState(host.rmp, target)
  if (type !== 'data' && inPlace) return FW.INVALID_PARAM
  if (type === 'metadata')
    return state === 'Firmware' && target < host.rmp.ownStart ? FW.SUCCESS : FW.INVALID_PAGE_STATE
  if (type === 'vmsa' && large) return FW.INVALID_PAGE_SIZE
  if (inPlace && source !== target) return FW.INVALID_ADDRESS
  if (state !== 'Pre-Guest') return FW.INVALID_PAGE_STATE
  return asidOf(entryOf(host.rmp, target)) === guest.asid ? FW.SUCCESS : FW.INVALID_PAGE_OWNER
}

/** Attributes a metadata entry restores: Pre-Swap if it says validated, else Pre-Guest. */
function swappedEntry(entry: MetadataEntry, asid: number): number {
  let attributes = withAsid(entry.validated ? PRE_SWAP : PRE_GUEST, asid)
  for (const vmpl of [1, 2, 3] as const) attributes = withPermissions(attributes, vmpl, entry.permissions[vmpl])
  return (attributes | (entry.large ? LARGE : 0) | (entry.type === 'vmsa' ? VMSA : 0)) >>> 0
}

/** Without additional data; the nonce is the guest's count of swaps, 8 bytes. */
function wrap(host: Host, guest: GuestContextRecord, swap: Swap, iv: bigint): Uint8Array {
  const cipher = createCipheriv(ALGORITHM, oekOf(host, guest), nonce(iv), { authTagLength: TAG_BYTES })
  const count = swap.large ? BLOCK : 1
  const out: Uint8Array[] = []
  for (let index = 0; index < count; index++)
    out.push(new Uint8Array(cipher.update(guestView(host, guest, swap, swap.source + index))))
  cipher.final()
  for (const [index, bytes] of out.entries()) host.machine.write(swap.target + index, bytes)
  return new Uint8Array(cipher.getAuthTag())
}

/** A source's bytes through the guest's key: a Pre-Guest page is kept as the memory has it. */
function guestView(host: Host, guest: GuestContextRecord, { type }: Swap, frame: number): Uint8Array {
  const bytes = host.machine.read(frame) ?? ZERO_PAGE
  if (type === 'metadata' || viewOf(entryOf(host.rmp, frame)) !== 0) return bytes
  return decrypt(host, guest.asid, frame, bytes)
}

function unwrap(host: Host, guest: GuestContextRecord, swap: Swap, entry: MetadataEntry): Uint8Array[] | undefined {
  const decipher = createDecipheriv(ALGORITHM, oekOf(host, guest), nonce(entry.iv), { authTagLength: TAG_BYTES })
  decipher.setAuthTag(entry.tag)
  const count = swap.large ? BLOCK : 1
  const pages: Uint8Array[] = []
  for (let index = 0; index < count; index++)
    pages.push(new Uint8Array(decipher.update(host.machine.read(swap.source + index) ?? ZERO_PAGE)))
  try {
    decipher.final()
  } catch {
    return undefined // the tag does not fit
  }
  return pages
}

const oekOf = (host: Host, guest: GuestContextRecord): Buffer => guestSecret(host.data.seed, guest.serial, 'oek')

function nonce(iv: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(iv)
  return bytes
}

function writeEntry(host: Host, { frame, offset }: Swap['metadata'], entry: MetadataEntry): void {
  const page = Buffer.from(host.machine.read(frame) ?? ZERO_PAGE)
  writeMetadataEntry(page, offset, entry)
  host.machine.write(frame, new Uint8Array(page))
}

/** LARGE or 0 as software reads it; undefined beyond the table. */
const sizeOf = (host: Host, frame: number): number | undefined =>
  frame < host.rmp.frames ? rawEntry(host.rmp, frame) & LARGE : undefined

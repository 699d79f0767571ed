import * as PageMap from '../shared/page-map.ts'
import type { Host } from './data.ts'
import { contextAt, isLaunched, isMetadataOf } from './firmware-guest.ts'
import { changeView, viewOf } from './memory.ts'
import { BLOCK, changeEntries, entryOf, gfnOf, rawEntry, rawState, writeEntries } from './rmp.ts'
import { asidOf, FIRMWARE, HV_FIXED, IMMUTABLE, LARGE, METADATA_MARK, RECLAIM, VALIDATED, VMSA } from './states.ts'
import { type FirmwareCode, FW } from './status.ts'

/** Changes attributes of a 4K or 2M guest page by the firmware; the bytes follow their view. */
export function changeGuestPage(host: Host, frame: number, entry: number): void {
  const count = entry & LARGE ? BLOCK : 1
  const before = viewOf(entryOf(host.rmp, frame))
  changeEntries(host.rmp, frame, frame + count, entry >>> 0)
  changeView(host, frame, count, before, viewOf(entry))
}

/** SNP_PAGE_RECLAIM (amd-sev-snp.md b.6). The address' alignment and reserved bits are judged by the caller. */
export function pageReclaim(host: Host, frame: number, large: boolean): FirmwareCode {
  const { rmp } = host
  if (frame >= rmp.ownStart) return frame < rmp.frames ? FW.INVALID_ADDRESS : FW.INVALID_PAGE_STATE
  const state = rawState(rmp, frame)
  const entry = rawEntry(rmp, frame)
  if ((entry & LARGE) !== (large ? LARGE : 0)) return FW.INVALID_PAGE_SIZE
  if (large && frame % BLOCK !== 0) return FW.INVALID_ADDRESS
  if ((entry & IMMUTABLE) === 0) return FW.SUCCESS
  switch (state) {
    case 'Metadata':
    case 'Firmware':
      writeEntries(rmp, frame, frame + (large ? BLOCK : 1), RECLAIM | (entry & LARGE), 0)
      return FW.SUCCESS
    case 'Pre-Guest':
    case 'Pre-Swap':
      changeGuestPage(host, frame, entry & ~IMMUTABLE)
      return FW.SUCCESS
    default:
      return FW.INVALID_PAGE_STATE
  }
}

/**
 * SNP_PAGE_UNSMASH (amd-sev-snp.md b.6): 512 4K entries that are immutable, of one state, ASID and permissions, without
 * VMSA, of consecutive gpas from a 2M-aligned one, become one 2M entry, still immutable.
 */
export function pageUnsmash(host: Host, frame: number): FirmwareCode {
  const { rmp } = host
  if (frame % BLOCK !== 0) return FW.INVALID_PARAM
  if (frame + BLOCK > rmp.ownStart) return FW.INVALID_ADDRESS
  const entry = entryOf(rmp, frame)
  const joinable =
    (entry & LARGE) === 0 &&
    (entry & IMMUTABLE) !== 0 &&
    (entry & VMSA) === 0 &&
    asidOf(entry) !== 0 &&
    gfnOf(rmp, frame) % BLOCK === 0 &&
    PageMap.nextRun(rmp.entries, frame, frame + BLOCK) === frame + BLOCK &&
    PageMap.nextRun(rmp.gpas, frame, frame + BLOCK) === frame + BLOCK &&
    PageMap.nextRun(rmp.gpaHighs, frame, frame + BLOCK) === frame + BLOCK
  if (!joinable) return FW.INVALID_PAGE_STATE
  changeEntries(rmp, frame, frame + BLOCK, (entry | LARGE) >>> 0)
  return FW.SUCCESS
}

/** SNP_PAGE_MD_INIT: Firmware → Metadata of a guest, zeroed. */
export function mdInit(host: Host, context: number, frame: number): FirmwareCode {
  const guest = contextAt(host, context)
  if (guest === undefined) return FW.INVALID_GUEST
  if (rawState(host.rmp, frame) !== 'Firmware' || frame >= host.rmp.ownStart) return FW.INVALID_PAGE_STATE
  if (!isLaunched(guest)) return FW.INVALID_GUEST_STATE
  const count = rawEntry(host.rmp, frame) & LARGE ? BLOCK : 1
  for (let at = frame; at < frame + count; at++) host.machine.write(at, undefined)
  writeEntries(host.rmp, frame, frame + count, rawEntry(host.rmp, frame), METADATA_MARK + context)
  return FW.SUCCESS
}

export type FrameRange = { readonly frame: number; readonly pages: number }

/** SNP_PAGE_SET_STATE: Firmware → HV-Fixed for a list; all pages are checked before any is changed. */
export function pageSetState(host: Host, ranges: readonly FrameRange[]): FirmwareCode {
  const { rmp } = host
  for (const { frame, pages } of ranges) {
    if (frame + pages > rmp.frames) return FW.INVALID_PAGE_STATE
    if (frame + pages > rmp.ownStart) return FW.INVALID_ADDRESS
    const isFirmware =
      PageMap.isAll(rmp.entries, frame, frame + pages, FIRMWARE) && PageMap.isAll(rmp.gpas, frame, frame + pages, 0)
    if (!isFirmware) return FW.INVALID_PAGE_STATE
  }
  for (const { frame, pages } of ranges) writeEntries(rmp, frame, frame + pages, HV_FIXED, 0)
  return FW.SUCCESS
}

/** SNP_PAGE_MOVE (amd-sev-snp.md b.6): contents, gpa, VMSA and permissions go from source to target. */
export function pageMove(host: Host, context: number, source: number, target: number, large: boolean): FirmwareCode {
  const { rmp } = host
  const guest = contextAt(host, context)
  if (guest === undefined) return FW.INVALID_GUEST
  const size = large ? LARGE : 0
  const [from, to] = [entryIfAny(host, source), entryIfAny(host, target)]
  if ((from & LARGE) !== size || (to & LARGE) !== size) return FW.INVALID_PAGE_SIZE
  if (!isLaunched(guest)) return FW.INVALID_GUEST_STATE
  if (guest.asid === 0) return FW.INACTIVE
  const states = [rawState(rmp, source), rawState(rmp, target)]
  const count = large ? BLOCK : 1
  if ((states[0] === 'Pre-Swap' || states[0] === 'Pre-Guest') && states[1] === 'Pre-Guest') {
    if (asidOf(from) !== guest.asid || asidOf(to) !== guest.asid) return FW.INVALID_PAGE_OWNER
    moveGuestPage(host, source, target, count)
    return FW.SUCCESS
  }
  if (states[0] !== 'Metadata' || states[1] !== 'Firmware' || target >= rmp.ownStart) return FW.INVALID_PAGE_STATE
  if (!isMetadataOf(host, source, context)) return FW.INVALID_PAGE_OWNER
  for (let index = 0; index < count; index++) host.machine.write(target + index, host.machine.read(source + index))
  writeEntries(rmp, target, target + count, FIRMWARE | size, METADATA_MARK + context)
  writeEntries(rmp, source, source + count, FIRMWARE | size, 0)
  return FW.SUCCESS
}

/** The source ends Guest-Invalid; the target is Guest-Valid if the source was validated. Both are the guest's view. */
function moveGuestPage(host: Host, source: number, target: number, count: number): void {
  const { rmp, machine } = host
  const from = entryOf(rmp, source)
  const gfn = gfnOf(rmp, source)
  changeGuestPage(host, source, from & ~(IMMUTABLE | VALIDATED))
  if (source === target) return
  writeEntries(rmp, target, target + count, (from & ~IMMUTABLE) >>> 0, gfn)
  for (let index = 0; index < count; index++) machine.write(target + index, machine.read(source + index))
}

const entryIfAny = (host: Host, frame: number): number => (frame < host.rmp.frames ? rawEntry(host.rmp, frame) : 0)

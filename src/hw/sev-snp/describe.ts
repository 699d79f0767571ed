import type { PageDescription } from '../contract.ts'
import { addressOf } from '../shared/address-schema.ts'
import * as PageMap from '../shared/page-map.ts'
import type { Host } from './data.ts'
import { blockOf, entryOf, gfnOf, markOf, metadataOwner, type Rmp, stateAt } from './rmp.ts'
import {
  ASSIGNED,
  allPermissions,
  asidOf,
  IMMUTABLE,
  LARGE,
  METADATA_MARK,
  type PageState,
  PERMISSION,
  permissionsOf,
  stateOf,
  VALIDATED,
  VMSA,
} from './states.ts'

export type Emit = (count: number, state: PageDescription) => void
const MAX_CACHED = 4096

/** Describes frames run by run; equal states give one and the same object. */
export function createDescriber(): (host: Host, frame: number, count: number, emit: Emit) => void {
  const byEntry = new Map<number, PageDescription>()
  const describeEntry = (entry: number): PageDescription => {
    const known = byEntry.get(entry)
    if (known !== undefined) return known
    if (byEntry.size >= MAX_CACHED) byEntry.clear()
    const description = present(entry, stateOf(entry, 0))
    byEntry.set(entry, description)
    return description
  }
  return ({ rmp }, frame, count, emit) => {
    const end = frame + count
    for (let at = frame; at < end; ) {
      if (at >= rmp.frames) {
        emit(end - at, DEFAULT)
        return
      }
      const next = nextRun(rmp, at, Math.min(end, rmp.frames))
      const entry = entryOf(rmp, at)
      const mark = markOf(rmp, at)
      emit(next - at, mark === 0 ? describeEntry(entry) : present(entry, stateOf(entry, mark)))
      at = next
    }
  }
}

const DEFAULT: PageDescription = { owner: 'host', hardware: { rmp: 'Default' } }

function nextRun(rmp: Rmp, start: number, end: number): number {
  const next = PageMap.nextRun(rmp.entries, start, end)
  const entry = entryOf(rmp, start)
  return entry & ASSIGNED && asidOf(entry) === 0 ? PageMap.nextRun(rmp.gpas, start, next) : next
}

const ownerOf = (state: PageState): string => {
  switch (state) {
    case 'Default':
    case 'Hypervisor':
    case 'HV-Fixed':
      return 'host'
    case 'Guest-Invalid':
    case 'Guest-Valid':
      return 'guest'
    case 'Reclaim':
      return 'nobody'
    default:
      return 'firmware'
  }
}

function present(entry: number, state: PageState): PageDescription {
  const hardware: Record<string, string | number | boolean> = { rmp: state }
  if (entry & ASSIGNED) hardware.pageSize = entry & LARGE ? '2M' : '4K'
  if (asidOf(entry) !== 0) {
    hardware.asid = asidOf(entry)
    hardware.validated = (entry & VALIDATED) !== 0
    if (entry & VMSA) hardware.vmsa = true
    if (allPermissions(entry) !== 0)
      for (const vmpl of [1, 2, 3]) hardware[`vmpl${vmpl}`] = permissionText(permissionsOf(entry, vmpl))
  }
  return { owner: ownerOf(state), hardware }
}

/** "rwus" and "k" for a supervisor shadow stack, with - for what is not allowed. */
export const permissionText = (permissions: number): string =>
  [
    permissions & PERMISSION.read ? 'r' : '-',
    permissions & PERMISSION.write ? 'w' : '-',
    permissions & PERMISSION.executeUser ? 'u' : '-',
    permissions & PERMISSION.executeSupervisor ? 's' : '-',
    permissions & PERMISSION.shadowStack ? 'k' : '-',
  ].join('')

/** The RMP entry of a page, in words (amd-sev-snp.md b.1). */
export function explain({ rmp }: Host, frame: number | undefined): Readonly<Record<string, unknown>> {
  if (frame === undefined) return {}
  if (frame >= rmp.frames) return { rmp: { state: 'Default', hpa: addressOf(frame) } }
  const entry = entryOf(rmp, frame)
  const asid = asidOf(entry)
  const mark = markOf(rmp, frame)
  return {
    rmp: {
      hpa: addressOf(frame),
      state: stateAt(rmp, frame),
      assigned: (entry & ASSIGNED) !== 0,
      validated: (entry & VALIDATED) !== 0,
      immutable: (entry & IMMUTABLE) !== 0,
      pageSize: entry & LARGE ? '2M' : '4K',
      ...(entry & LARGE && frame !== blockOf(frame) ? { firstEntry: addressOf(blockOf(frame)) } : {}),
      vmsa: (entry & VMSA) !== 0,
      asid,
      ...(asid === 0 ? {} : { gpa: addressOf(gfnOf(rmp, frame)) }),
      ...(mark >= METADATA_MARK ? { context: addressOf(metadataOwner(mark)) } : {}),
      permissions: Object.fromEntries(
        [0, 1, 2, 3].map((vmpl) => [`vmpl${vmpl}`, permissionText(permissionsOf(entry, vmpl))]),
      ),
    },
  }
}

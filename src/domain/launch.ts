import * as pageMap from '../hw/shared/page-map.ts'
import { populate, punch } from './backing.ts'
import { fromHardware, type HostContext, refuseFromHardware } from './context.ts'
import { PAGE_BYTES } from './memory.ts'
import { filePage, privateFrame, sharedFrame, slotAt } from './memslots.ts'
import { privacyOf } from './privacy-models.ts'
import { accept, kernelRefusal, type Refusal, type Result, refuse } from './refusal.ts'
import type { MemslotState, VmState } from './state.ts'

type Options = Readonly<Record<string, unknown>>

/** `pages` went in before `stopped`, if anything stopped it; none may have, where memory was taken before the first was refused. */
export type Populated = { readonly pages: number; readonly stopped?: Refusal }

/** Why a page did not go in. `changed`: its memory was taken for it by then, or the hardware has changed something. */
type PageFailure = { readonly refusal: Refusal; readonly changed: boolean }

/**
 * Measured population of [gfn, gfn + pages): the common helper of kvm-guest-memory.md c.7 and the technology's page
 * command behind it. Stops at the first page that fails; an error only when that is the first of all.
 */
export function populateMeasured(
  host: HostContext,
  vm: VmState,
  gfn: number,
  pages: number,
  source: (page: number, slot: MemslotState) => Uint8Array | undefined,
  options: Options,
): Result<Populated> {
  const needs = host.hardware.launchSource(vm.id, options)
  if (!needs.ok) return refuseFromHardware(needs.refusal)
  const first = slotAt(vm, gfn)
  if (first === undefined || first.file === null) {
    return kernelRefusal('EINVAL', 'launch-needs-memfile', 'No memslot with a memfile holds this address.', '/gpa')
  }
  for (let done = 0; done < pages; done++) {
    const slot = slotAt(vm, gfn + done)
    if (slot === undefined) return stopped(done, missing(host, gfn + done))
    const failure = populatePage(host, vm, slot, gfn + done, () => bytesOf(needs.value, source(done, slot)), options)
    if (failure !== undefined) return stopped(done, failure.refusal, failure.changed)
  }
  return accept({ pages })
}

const bytesOf = (needs: 'bytes' | 'none', bytes: Uint8Array | undefined): Uint8Array | undefined =>
  needs === 'none' ? undefined : (bytes ?? new Uint8Array(PAGE_BYTES))

const stopped = (done: number, failure: Refusal, changed = false): Result<Populated> =>
  done === 0 && !changed ? refuse(failure) : accept({ pages: done, stopped: failure })

const missing = (host: HostContext, gfn: number): Refusal => ({
  kind: 'kernel',
  code: 'launch-page-refused',
  errno: host.backend.properties.populateErrno,
  detail: `No memslot with a memfile holds guest frame 0x${gfn.toString(16)}.`,
})

function populatePage(
  host: HostContext,
  vm: VmState,
  slot: MemslotState,
  gfn: number,
  source: () => Uint8Array | undefined,
  options: Options,
): PageFailure | undefined {
  const memfile = slot.file
  if (memfile === null) return { refusal: missing(host, gfn), changed: false }
  const privacy = privacyOf(vm)
  if (!privacy.preparedByFallocate && !privacy.isPrivate(host, vm, gfn)) {
    const detail = `Guest frame 0x${gfn.toString(16)} does not have the private attribute.`
    const errno = host.backend.properties.populateErrno
    return { refusal: { kind: 'kernel', code: 'launch-page-refused', errno, detail }, changed: false }
  }
  const page = filePage(slot, gfn)
  const fresh = pageMap.get(memfile.backing, page) === 0
  const folio = page - (page % memfile.span)
  const held = memfile.allocated
  const refusal = populate(host, memfile, folio, folio + memfile.span)
  if (refusal !== undefined) return { refusal, changed: memfile.allocated !== held }
  const frame = privateFrame(slot, gfn)
  const verdict = host.hardware.launchPage(vm.id, gfn, frame, source(), options)
  host.changes.pagesOf(vm.id, gfn, gfn + 1)
  if (verdict.ok) return undefined
  if (fresh && memfile.span === 1) punch(host, memfile, page, page + 1)
  return { refusal: fromHardware(verdict.refusal), changed: fresh || verdict.refusal.effects === true }
}

/** Whether the technology's kernel takes a range of an update, as the slots around it are. */
export function checkRange(host: HostContext, vm: VmState, gfn: number, pages: number): Result<undefined> {
  const slot = slotAt(vm, gfn)
  const fits = slot?.file != null && gfn + pages <= slot.firstGfn + slot.pages
  const range = slot === undefined ? 'no-slot' : slot.file === null ? 'shared-slot' : 'over-slots'
  const verdict = fits ? undefined : host.hardware.launchRange?.(vm.id, range)
  return verdict === undefined || verdict.ok ? accept(undefined) : refuseFromHardware(verdict.refusal)
}

/** Source bytes in the VMM's own shared memory at the same guest addresses, as a VMM that loads into RAM first has them. */
export function sharedSource(host: HostContext, vm: VmState, gfn: number) {
  return (page: number, slot: MemslotState): Uint8Array | undefined => {
    const frame = sharedFrame(vm, slot, gfn + page)
    return frame < 0 ? undefined : host.memory.read(frame)
  }
}

/** Page `page` of `bytes`, padded with zeros. */
export function pageOf(bytes: Uint8Array, page: number): Uint8Array {
  const chunk = bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
  if (chunk.length === PAGE_BYTES) return chunk
  const padded = new Uint8Array(PAGE_BYTES)
  padded.set(chunk)
  return padded
}

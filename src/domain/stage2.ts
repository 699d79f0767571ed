import type { Mapping } from '../hw/contract.ts'
import * as pageMap from '../hw/shared/page-map.ts'
import type { HostContext } from './context.ts'
import { privateFrame, sharedFrame, slotAt } from './memslots.ts'
import type { VmState } from './state.ts'

/**
 * The second-stage table of a VM as KVM built it: per guest frame whether it is mapped, of which kind and size. The
 * frame itself is not kept, since whatever changes a backing removes its mappings first (kvm-guest-memory.md d.4). Where
 * the hardware has a second root for private memory, this is the shared one alone.
 */
const PRESENT = 1
const PRIVATE = 2
const SPAN_SHIFT = 2
const SPANS = [1, 512, 262144] as const

const encode = (isPrivate: boolean, span: number): number =>
  PRESENT | (isPrivate ? PRIVATE : 0) | (SPANS.indexOf(span as 1 | 512 | 262144) << SPAN_SHIFT)

/** What an access of this kind to `gfn` is translated to, or undefined when no mapping is present. */
export function translate(host: HostContext, vm: VmState, gfn: number, isPrivate: boolean): Mapping | undefined {
  const { hardware } = host
  if (isPrivate && hardware.translatePrivate !== undefined) return hardware.translatePrivate(vm.id, gfn)
  return lookup(vm, gfn)
}

/** The mapping of `gfn` in KVM's own table, or undefined when it is not present. */
export function lookup(vm: VmState, gfn: number): Mapping | undefined {
  const value = pageMap.get(vm.stage2, gfn)
  if (value === 0) return undefined
  const slot = slotAt(vm, gfn)
  if (slot === undefined) return undefined
  const isPrivate = (value & PRIVATE) !== 0
  const frame = isPrivate ? privateFrame(slot, gfn) : sharedFrame(vm, slot, gfn)
  return frame < 0 ? undefined : { frame, span: SPANS[value >>> SPAN_SHIFT] ?? 1, private: isPrivate }
}

/** Maps the block of `span` pages that holds `gfn`; nothing to do where the hardware has a private table of its own. */
export function install(host: HostContext, vm: VmState, gfn: number, span: number, isPrivate: boolean): void {
  if (isPrivate && host.hardware.translatePrivate !== undefined) return
  if (span === 1) {
    pageMap.set(vm.stage2, gfn, encode(isPrivate, 1))
    return
  }
  const start = gfn - (gfn % span)
  unmap(vm, start, start + span)
  pageMap.setRange(vm.stage2, start, start + span, encode(isPrivate, span))
}

/** Removes every mapping that meets [start, end), larger ones whole. */
export function unmap(vm: VmState, start: number, end: number): void {
  if (end - start === 1) {
    const value = pageMap.get(vm.stage2, start)
    if (value === 0) return
    if (value >>> SPAN_SHIFT === 0) {
      pageMap.set(vm.stage2, start, 0)
      return
    }
  } else if (pageMap.isAll(vm.stage2, start, end, 0)) return
  pageMap.setRange(vm.stage2, blockStart(vm, start), blockEnd(vm, end - 1), 0)
}

/** Removes every mapping that meets [start, end), in the hardware's own table too. The pages stay where they are. */
export function zap(host: HostContext, vm: VmState, start: number, end: number): void {
  unmap(vm, start, end)
  host.hardware.unmapPrivate?.(vm.id, start, end - start)
}

const spanAt = (vm: VmState, gfn: number): number => SPANS[pageMap.get(vm.stage2, gfn) >>> SPAN_SHIFT] ?? 1

const blockStart = (vm: VmState, gfn: number): number => gfn - (gfn % spanAt(vm, gfn))

const blockEnd = (vm: VmState, gfn: number): number => blockStart(vm, gfn) + spanAt(vm, gfn)

/** Maps every page of [start, end) by itself, as private memory. */
export function installPrivateRun(host: HostContext, vm: VmState, start: number, end: number): void {
  if (host.hardware.translatePrivate !== undefined) return
  unmap(vm, start, end)
  pageMap.setRange(vm.stage2, start, end, encode(true, 1))
}

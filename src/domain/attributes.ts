import * as pageMap from '../hw/shared/page-map.ts'
import type { HostContext } from './context.ts'
import * as stage2 from './stage2.ts'
import type { VmState } from './state.ts'

const PRIVATE = 1

export const isPrivateAttribute = (vm: VmState, gfn: number): boolean => pageMap.get(vm.attributes, gfn) === PRIVATE

/**
 * Stores the attribute of guest frames [start, end). The mappings of the other kind go first; neither contents nor population
 * change, and no slot needs to be there (kvm-guest-memory.md c.5, d.4). A range that already is as asked stays mapped.
 */
export function storeAttribute(host: HostContext, vm: VmState, start: number, end: number, isPrivate: boolean): void {
  const value = isPrivate ? PRIVATE : 0
  if (pageMap.isAll(vm.attributes, start, end, value)) return
  if (isPrivate) stage2.unmap(vm, start, end)
  else stage2.zap(host, vm, start, end)
  if (end - start === 1) pageMap.set(vm.attributes, start, value)
  else pageMap.setRange(vm.attributes, start, end, value)
  host.changes.pagesOf(vm.id, start, end)
}

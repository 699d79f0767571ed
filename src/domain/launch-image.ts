import type { LaunchPlan, PlanStep } from '../hw/contract.ts'
import { storeAttribute } from './attributes.ts'
import { mergeWindows } from './changes.ts'
import { fromHardware, type HostContext, refuseFromHardware } from './context.ts'
import { type Populated, pageOf, populateMeasured } from './launch.ts'
import { bindMemfile, createMemfile } from './memfiles.ts'
import { setSlot } from './memslot-bind.ts'
import { nextSlotStart, slotAt } from './memslots.ts'
import { accept, type Refusal, type Result } from './refusal.ts'
import type { VmState } from './state.ts'

/** Ids of the slots that gmemd makes, as the VMM, for memory an image needs and the client has not given. */
const FIRST_OWN_SLOT = 1000

export type ImageLaunch = {
  readonly pages: number
  /** Memory made because no slot held it. */
  readonly memory: readonly {
    readonly slot: number
    readonly memfile: string
    readonly firstGfn: number
    readonly pages: number
  }[]
  readonly stopped?: Refusal
}

/** What a named VMM does with a firmware image: memory where it needs it, then each region in order, then finish. */
export function launchImage(
  host: HostContext,
  vm: VmState,
  image: Uint8Array,
  options: Readonly<Record<string, unknown>>,
  finish: boolean,
): Result<ImageLaunch> {
  const plan = host.hardware.launchPlan(vm.id, image, options)
  if (!plan.ok) return refuseFromHardware(plan.refusal)
  const { memory, stopped } = provideMemory(host, vm, plan.value)
  if (stopped !== undefined) return accept({ pages: 0, memory, stopped })
  let pages = 0
  for (const step of plan.value.steps) {
    const done = runStep(host, vm, step)
    if (!done.ok) return accept({ pages, memory, stopped: done.refusal })
    pages += done.value.pages
    if (done.value.stopped !== undefined) return accept({ pages, memory, stopped: done.value.stopped })
  }
  if (finish) {
    const finished = host.hardware.launchFinish(vm.id, plan.value.finish)
    if (!finished.ok) {
      return accept({ pages, memory, stopped: fromHardware(finished.refusal) })
    }
  }
  return accept({ pages, memory })
}

function runStep(host: HostContext, vm: VmState, step: PlanStep): Result<Populated> {
  const { gfn, pages, bytes, options } = step
  if (step.measureOnly) {
    const verdict = host.hardware.launchMeasure?.(vm.id, gfn, pages, options)
    if (verdict === undefined) throw new Error(`${vm.technology} plans measurements that it has no call for`)
    return verdict.ok ? accept({ pages: 0 }) : refuseFromHardware(verdict.refusal)
  }
  if (!vm.preparedByFallocate) storeAttribute(host, vm, gfn, gfn + pages, true)
  const source = (page: number) => (bytes === undefined ? undefined : pageOf(bytes, page))
  return populateMeasured(host, vm, gfn, pages, source, options)
}

function provideMemory(host: HostContext, vm: VmState, plan: LaunchPlan): Omit<ImageLaunch, 'pages'> {
  const made: { slot: number; memfile: string; firstGfn: number; pages: number }[] = []
  for (const range of missingRanges(vm, plan)) {
    const size = BigInt(range.end - range.start) * 4096n
    const id = `memfile-${host.seq}-${made.length}`
    const memfile = createMemfile(host, { id, name: 'launch image', size, span: 1, placed: true })
    if (!memfile.ok) return { memory: made, stopped: memfile.refusal }
    const bound = bindMemfile(host, memfile.value, vm)
    if (!bound.ok) return { memory: made, stopped: bound.refusal }
    const slot = freeSlot(vm)
    const set = setSlot(host, vm, {
      slot,
      gpa: BigInt(range.start) * 4096n,
      size,
      memfile: id,
      memfileOffset: 0n,
      hva: 'auto',
      readOnly: false,
      dirtyLog: false,
    })
    if (!set.ok) return { memory: made, stopped: set.refusal }
    made.push({ slot, memfile: id, firstGfn: range.start, pages: range.end - range.start })
  }
  return { memory: made }
}

function freeSlot(vm: VmState): number {
  let slot = FIRST_OWN_SLOT
  while (vm.slots.some((other) => other.slot === slot)) slot++
  return slot
}

/** The maximal ranges of the plan that no slot holds. */
function missingRanges(vm: VmState, plan: LaunchPlan): { start: number; end: number }[] {
  const bounds: number[] = []
  for (const window of mergeWindows(plan.steps.flatMap((step) => [step.gfn, step.gfn + step.pages]))) {
    let at = window.start
    while (at < window.end) {
      const slot = slotAt(vm, at)
      const end = slot === undefined ? nextSlotStart(vm, at, window.end) : slot.firstGfn + slot.pages
      if (slot === undefined) bounds.push(at, end)
      at = end
    }
  }
  return mergeWindows(bounds)
}

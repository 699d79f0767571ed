import type { Verdict } from '../../contract.ts'
import { toHex } from '../../shared/hex.ts'
import { type Refused, refuse } from '../../shared/refusal.ts'
import { PAGE_BYTES } from './blocks.ts'
import { planLaunch, type TdPlan, type TdStep } from './launch-plan.ts'
import { createStream, runningDigest, streamPages } from './mrtd-stream.ts'
import { type SparseInputs, sparseImage } from './sparse-image.ts'
import type { TdvfSection } from './tdvf.ts'
import { type Behaviour, BY_THE_RULES, type Extend, type Order, VMMS, type Vmm } from './vmms.ts'

export type ImageInputs = ({ readonly image: Uint8Array } | SparseInputs) & {
  readonly order?: Order
  readonly extend?: Extend
  readonly vmm?: Vmm
  readonly tdHob?: Uint8Array
}

/** Pages of one section that a run of calls goes over; the digest is as if finalised after the last one. */
export type ImageStep = {
  readonly operation: TdStep['operation']
  readonly section: number
  readonly type: TdStep['type']
  readonly gpa: string
  readonly pages: number
  /** Bytes measured, where they come from and how many: the rest of the pages is zero. */
  readonly contents?: { readonly from: 'image' | 'tdHob' | 'zero'; readonly offset: number; readonly length: number }
  readonly digestAfter: string
}

/**
 * The MRTD of a TDVF image as a VMM launches it (intel-tdx.md f). The steps re-hash to it: SHA-384 over, page by page,
 * the block of `add`, the 16 × 3 blocks of `extend`, or both, with `contents` cut from the image and padded with zeros.
 */
export function measureImage(inputs: ImageInputs): Verdict<Readonly<Record<string, unknown>>> {
  const behaviour = behaviourOf(inputs)
  if (!behaviour.ok) return behaviour
  const source = 'image' in inputs ? { ok: true as const, image: inputs.image } : sparseImage(inputs)
  if (!source.ok) return source
  const plan = planLaunch(source.image, behaviour.behaviour, inputs.tdHob)
  if (!plan.ok) {
    const { code, detail } = plan.refusal
    return refuse(code, detail, code.startsWith('td-hob') ? '/tdHob' : 'image' in inputs ? '/image' : '/patches')
  }
  const { order, extend } = behaviour.behaviour
  const { mrtd, steps } = measured(plan)
  const { pageAdds, extends: extendCalls, tdHobGfn } = plan
  return {
    ok: true,
    value: {
      mrtd,
      pageAdds,
      extends: extendCalls,
      order,
      extend,
      ...(behaviour.vmm !== undefined && { vmm: behaviour.vmm }),
      tdHobGpa: tdHobGfn === null ? null : toHex(tdHobGfn * PAGE_BYTES),
      sections: plan.sections.map(shown),
      steps,
      warnings: warningsOf(plan),
    },
  }
}

/** A VMM by name, QEMU where nothing is said; or the rules alone in an order. */
function behaviourOf({ vmm, order, extend }: ImageInputs): { ok: true; behaviour: Behaviour; vmm?: Vmm } | Refused {
  const byRules = order !== undefined || extend !== undefined
  if (byRules && vmm !== undefined)
    return refuse('vmm-or-order', 'A VMM has an order of its own: give vmm, or order and extend.', '/vmm')
  if (byRules)
    return {
      ok: true,
      behaviour: { ...BY_THE_RULES, order: order ?? BY_THE_RULES.order, extend: extend ?? BY_THE_RULES.extend },
    }
  const name = vmm ?? 'qemu'
  return { ok: true, behaviour: VMMS[name], vmm: name }
}

function measured({ steps, sections }: TdPlan): { mrtd: string; steps: ImageStep[] } {
  const stream = createStream()
  const transcript = steps.map((step): ImageStep => {
    const { operation, section, type, gfn, pages, bytes } = step
    streamPages(stream, operation, gfn, pages, bytes)
    return {
      operation,
      section,
      type,
      gpa: toHex(gfn * PAGE_BYTES),
      pages,
      ...(operation !== 'add' && contentsOf(step, sections)),
      digestAfter: runningDigest(stream),
    }
  })
  return { mrtd: runningDigest(stream), steps: transcript }
}

function contentsOf({ bytes, type, section }: TdStep, sections: readonly TdvfSection[]): Pick<ImageStep, 'contents'> {
  if (bytes === undefined) return { contents: { from: 'zero', offset: 0, length: 0 } }
  if (type === 'TD_HOB') return { contents: { from: 'tdHob', offset: 0, length: bytes.length } }
  return { contents: { from: 'image', offset: sections[section]?.dataOffset ?? 0, length: bytes.length } }
}

const shown = ({ type, gfn, pages, attributes, dataOffset, data }: TdvfSection) => ({
  type,
  gpa: toHex(gfn * PAGE_BYTES),
  pages,
  attributes: toHex(attributes),
  dataOffset,
  dataLength: data.length,
})

/** Where other tools are known to give another value (intel-tdx.md f.2). */
function warningsOf({ steps }: TdPlan): string[] {
  const extended = steps.filter(({ operation }) => operation !== 'add')
  return extended.flatMap(({ section, type, bytes, pages }) => {
    if (type === 'TD_HOB' && bytes === undefined)
      return [
        `Section ${section} (TD_HOB) is measured as zeros; a VMM puts there what depends on the machine's memory.`,
      ]
    if (bytes !== undefined && bytes.length < pages * PAGE_BYTES)
      return [
        `Section ${section} (${type}) is padded with zeros, as a VMM does it; some calculators read on into the file.`,
      ]
    return []
  })
}

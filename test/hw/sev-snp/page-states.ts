import assert from 'node:assert/strict'
import { rawState, stateAt, writeEntries } from '../../../src/hw/sev-snp/rmp.ts'
import { FIRMWARE, IOMMU_MARK, LARGE, type PageState } from '../../../src/hw/sev-snp/states.ts'
import { type Bench, codeOf, hpa, mapPrivate } from './fake-machine.ts'

export type Size = '4K' | '2M'

/** States a page can be brought to, with the sizes it can have there. */
export const REACHABLE: readonly (readonly [PageState, readonly Size[]])[] = [
  ['Hypervisor', ['4K']],
  ['HV-Fixed', ['4K']],
  ['Firmware', ['4K', '2M']],
  ['Firmware-IOMMU', ['4K', '2M']],
  ['Reclaim', ['4K', '2M']],
  ['Context', ['4K']],
  ['Metadata', ['4K', '2M']],
  ['Pre-Guest', ['4K', '2M']],
  ['Pre-Swap', ['4K', '2M']],
  ['Guest-Invalid', ['4K', '2M']],
  ['Guest-Valid', ['4K', '2M']],
]

/** Brings a Hypervisor page to a state, by the calls that lead there (amd-sev-snp.md b.3). */
export function bringTo(bench: Bench, state: PageState, frame: number, gfn: number, pageSize: Size = '4K'): void {
  const asid = bench.data.vms.get('vm-1')?.asid ?? 1
  const at = { hpa: hpa(frame), pageSize }
  const done = (name: string, args: Readonly<Record<string, unknown>>) =>
    assert.equal(codeOf(bench.host(name, args)), 0)
  const guestPage = (immutable: boolean) => done('RMPUPDATE', { ...at, gpa: hpa(gfn), assigned: true, asid, immutable })
  const validate = () => {
    mapPrivate(bench, gfn, frame, pageSize === '2M' ? 512 : 1)
    assert.equal(codeOf(bench.asGuest('PVALIDATE', { gpa: hpa(gfn), pageSize })), 0)
  }
  if (['HV-Fixed', 'Firmware', 'Reclaim', 'Context', 'Metadata'].includes(state))
    done('RMPUPDATE', { ...at, assigned: true, immutable: true })
  if (state === 'HV-Fixed') done('SNP_PAGE_SET_STATE', { ranges: [{ hpa: at.hpa, pages: 1 }] })
  if (state === 'Reclaim') done('SNP_PAGE_RECLAIM', at)
  if (state === 'Context') done('SNP_GCTX_CREATE', { hpa: at.hpa })
  if (state === 'Metadata') done('SNP_PAGE_MD_INIT', { hpa: at.hpa })
  if (state === 'Firmware-IOMMU') {
    const large = pageSize === '2M'
    writeEntries(bench.data.rmp, frame, frame + (large ? 512 : 1), FIRMWARE | (large ? LARGE : 0), IOMMU_MARK)
  }
  if (state === 'Pre-Guest') guestPage(true)
  if (state === 'Guest-Invalid' || state === 'Guest-Valid' || state === 'Pre-Swap') guestPage(false)
  if (state === 'Guest-Valid' || state === 'Pre-Swap') validate()
  if (state === 'Pre-Swap') guestPage(true)
  assert.equal(stateAt(bench.data.rmp, frame), state)
}

export const stateOfFrame = (bench: Bench, frame: number): PageState => rawState(bench.data.rmp, frame)

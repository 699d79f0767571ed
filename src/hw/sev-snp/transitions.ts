import type { PageState } from './states.ts'

export type Transition = {
  readonly from: readonly PageState[]
  readonly to: PageState
  readonly by: string
  readonly note?: string
}

/**
 * Every transition of amd-sev-snp.md b.3, as data for documentation and tests. The code gets there by the rules of
 * b.4 to b.6. RMPUPDATE knows no states: by b.4 it also performs what passes its checks and isn't listed, such as
 * Reclaim straight to Guest-Invalid.
 */
export const TRANSITIONS: readonly Transition[] = [
  { from: ['Hypervisor'], to: 'Guest-Invalid', by: 'RMPUPDATE', note: 'assigned, asid, gpa, size' },
  { from: ['Hypervisor'], to: 'Pre-Guest', by: 'RMPUPDATE', note: 'the same with immutable' },
  { from: ['Hypervisor'], to: 'Firmware', by: 'RMPUPDATE', note: 'assigned, asid 0, immutable, gpa 0' },
  { from: ['Firmware'], to: 'Reclaim', by: 'SNP_PAGE_RECLAIM' },
  { from: ['Firmware'], to: 'HV-Fixed', by: 'SNP_PAGE_SET_STATE' },
  { from: ['Firmware'], to: 'Context', by: 'SNP_GCTX_CREATE', note: '4K only; zeroed' },
  { from: ['Firmware'], to: 'Metadata', by: 'SNP_PAGE_MD_INIT' },
  { from: ['Firmware'], to: 'Metadata', by: 'SNP_PAGE_SWAP_IN', note: 'of a metadata page' },
  { from: ['Firmware'], to: 'Metadata', by: 'SNP_PAGE_MOVE', note: 'target' },
  { from: ['Context'], to: 'Firmware', by: 'SNP_DECOMMISSION' },
  { from: ['Metadata'], to: 'Reclaim', by: 'SNP_PAGE_RECLAIM' },
  { from: ['Metadata'], to: 'Firmware', by: 'SNP_PAGE_SWAP_OUT', note: 'of a metadata page' },
  { from: ['Metadata'], to: 'Firmware', by: 'SNP_PAGE_MOVE', note: 'source' },
  { from: ['Reclaim'], to: 'Hypervisor', by: 'RMPUPDATE', note: 'assigned=0' },
  { from: ['Pre-Guest'], to: 'Guest-Valid', by: 'SNP_LAUNCH_UPDATE' },
  { from: ['Pre-Guest'], to: 'Guest-Valid', by: 'SNP_PAGE_MOVE', note: 'target, source Pre-Swap' },
  { from: ['Pre-Guest'], to: 'Guest-Invalid', by: 'SNP_PAGE_RECLAIM' },
  { from: ['Pre-Guest'], to: 'Guest-Invalid', by: 'SNP_PAGE_MOVE', note: 'source; target, source Pre-Guest' },
  { from: ['Pre-Guest'], to: 'Pre-Swap', by: 'SNP_PAGE_SWAP_IN', note: 'the entry says validated' },
  { from: ['Pre-Guest'], to: 'Pre-Guest', by: 'SNP_PAGE_SWAP_IN', note: 'the entry says not validated' },
  { from: ['Pre-Swap'], to: 'Guest-Valid', by: 'SNP_PAGE_RECLAIM' },
  { from: ['Pre-Swap'], to: 'Pre-Guest', by: 'SNP_PAGE_SWAP_OUT', note: 'source' },
  { from: ['Pre-Swap'], to: 'Guest-Invalid', by: 'SNP_PAGE_MOVE', note: 'source' },
  { from: ['Guest-Invalid'], to: 'Guest-Valid', by: 'PVALIDATE', note: 'validate=1, VMPL0' },
  { from: ['Guest-Valid'], to: 'Guest-Invalid', by: 'PVALIDATE', note: 'validate=0' },
  { from: ['Guest-Valid'], to: 'Guest-Invalid', by: 'RMPUPDATE', note: 'gpa, asid or size changes' },
  { from: ['Guest-Valid', 'Guest-Invalid'], to: 'Hypervisor', by: 'RMPUPDATE', note: 'assigned=0' },
  { from: ['Guest-Invalid'], to: 'Pre-Guest', by: 'RMPUPDATE', note: 'only immutable set' },
  { from: ['Guest-Valid'], to: 'Pre-Swap', by: 'RMPUPDATE', note: 'only immutable set' },
  { from: ['Guest-Valid'], to: 'Guest-Valid', by: 'PSMASH', note: '2M to 512 × 4K' },
  { from: ['Guest-Invalid'], to: 'Guest-Invalid', by: 'PSMASH', note: '2M to 512 × 4K' },
  { from: ['Pre-Guest'], to: 'Pre-Guest', by: 'SNP_PAGE_UNSMASH', note: '512 × 4K to 2M' },
  { from: ['Pre-Swap'], to: 'Pre-Swap', by: 'SNP_PAGE_UNSMASH', note: '512 × 4K to 2M' },
]

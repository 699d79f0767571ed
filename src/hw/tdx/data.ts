import type { Machine } from '../contract.ts'
import type { PageMap } from '../shared/page-map.ts'
import { createEvidence, type Evidence } from './evidence/evidence.ts'
import { createKot, type Kot } from './module/kot.ts'
import { createPamt, type Pamt } from './module/pamt.ts'
import type { Td } from './module/td.ts'

/** What KVM keeps of a VM. */
export type VmRecord = {
  /** Frame of its TD's TDR. */
  readonly tdr: number
  /** Whether userspace has enabled the exit for KVM_HC_MAP_GPA_RANGE (d.4). */
  readonly exitHypercall: boolean
  /** Pages of the kernel's that the module has or had for this TD: control pages, tables, pages it did not give up. */
  readonly pages: PageMap
  readonly steps: LaunchStepRecord[]
  /** KVM_RUN fails from now on: the guest used a page it had not accepted, or said itself that it cannot go on. */
  dead: boolean
}

/** One line of the launch log: consecutive pages that were treated alike. */
export type LaunchStepRecord = {
  readonly operation: 'add' | 'add-extend' | 'extend'
  readonly gfn: number
  pages: number
  /** MRTD if it were finalised after this step; undefined while the step may still grow. */
  digestAfter: Uint8Array | undefined
}

/** The machine-wide state of a TDX host: plain data. */
export type TdxData = {
  readonly seed: string
  readonly frames: number
  readonly pamt: Pamt
  readonly kot: Kot
  /** TDs by the frame of their TDR, from MNG.CREATE until that is reclaimed. */
  readonly tds: Map<number, Td>
  readonly vms: Map<string, VmRecord>
  /** Private pages that the host wrote, and that nobody has initialised since (intel-tdx.md d.6). */
  readonly poisoned: Set<number>
}

export const createData = (options: { readonly frames: number; readonly seed: string }): TdxData => ({
  seed: options.seed,
  frames: options.frames,
  pamt: createPamt(options.frames),
  kot: createKot(),
  tds: new Map(),
  vms: new Map(),
  poisoned: new Set(),
})

/** A host's data with the machine under it: what every call works on. `evidence` can be made again from the seed. */
export type Host = { readonly data: TdxData; readonly machine: Machine; readonly evidence: Evidence }

export const openHost = (data: TdxData, machine: Machine): Host => ({
  data,
  machine,
  evidence: createEvidence(data.seed),
})

export function vmOf(data: TdxData, vm: string): VmRecord {
  const record = data.vms.get(vm)
  if (record === undefined) throw new Error(`unknown VM ${vm}`)
  return record
}

/** The VM's TD, undefined after its TDR was reclaimed. */
export const tdOf = (data: TdxData, vm: string): Td | undefined => data.tds.get(vmOf(data, vm).tdr)

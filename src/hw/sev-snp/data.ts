import type { GuestIdentity } from '../amd/id-block.ts'
import type { PageInfoExtras, PageType } from '../amd/launch-digest.ts'
import type { Machine } from '../contract.ts'
import { type Asids, createAsids } from './asids.ts'
import { createRmp, type Rmp } from './rmp.ts'

/** One line of a guest's launch log: consecutive pages of one type. */
export type LaunchStepRecord = {
  readonly pageType: PageType
  readonly gfn: number
  pages: number
  readonly extras: PageInfoExtras
  /** Digests of measured contents, in page order; undefined where the type isn't measured. */
  readonly contents: { pages: number; readonly sha384: Uint8Array }[] | undefined
  digestAfter: Uint8Array
}

/** What the firmware keeps in a guest context page (amd-sev-snp.md b.6, d). */
export type GuestContextRecord = {
  state: 'INIT' | 'LAUNCH' | 'RUNNING'
  policy: bigint
  /** 0 while inactive. */
  asid: number
  digest: Uint8Array
  /** Names the guest's keys: VMPCKs, OEK and report id are derived from it and the machine's seed. */
  serial: number
  /** Counts pages swapped out; the nonce of each. */
  swapCount: bigint
  hostData: Uint8Array
  identity: GuestIdentity | undefined
  readonly steps: LaunchStepRecord[]
}

/** What KVM keeps of a guest. */
export type VmRecord = {
  readonly asid: number
  /** Frame of the guest context page. */
  readonly context: number
  readonly vcpus: number
  readonly preparedByFallocate: boolean
  readonly freshPages: 'zero' | 'scrambled'
  readonly pageStateHints: 'honour' | 'kvm'
  vmsas: number[]
}

/** The machine-wide state of an SNP host: plain data. */
export type SnpData = {
  readonly seed: string
  readonly rmp: Rmp
  readonly asids: Asids
  /** Guest contexts by the frame of their page. */
  readonly contexts: Map<number, GuestContextRecord>
  readonly vms: Map<string, VmRecord>
  /** Guests ever started. */
  serial: number
}

export const createData = (options: { readonly frames: number; readonly seed: string }): SnpData => ({
  seed: options.seed,
  rmp: createRmp(options.frames),
  asids: createAsids(),
  contexts: new Map(),
  vms: new Map(),
  serial: 0,
})

/** A host's data with the machine under it: what every operation here works on. */
export type Host = { readonly data: SnpData; readonly rmp: Rmp; readonly machine: Machine }

export function vmOf(host: Host, vm: string): VmRecord {
  const record = host.data.vms.get(vm)
  if (record === undefined) throw new Error(`unknown VM ${vm}`)
  return record
}

import type { Machine } from '../contract.ts'
import type { PageMap } from '../shared/page-map.ts'
import { createGranules, type Granules } from './rmm/granules.ts'
import type { Realm } from './rmm/realm.ts'
import type { Rec } from './rmm/rec.ts'

/** What KVM keeps of a VM. */
export type VmRecord = {
  /** Frame of its Realm's RD. */
  readonly rd: number
  readonly vcpus: number
  /** Granules of the kernel's that the RMM has or had for this Realm: its RD, tables and RECs, data it did not give up. */
  readonly pages: PageMap
  readonly steps: LaunchStepRecord[]
}

/** One line of the launch log: consecutive pages that were treated alike, or one REC. */
export type LaunchStepRecord = {
  readonly operation: 'init-ripas' | 'data' | 'data-unmeasured' | 'rec'
  readonly gfn: number
  pages: number
  /** The RIM after this step. */
  rimAfter: Uint8Array
}

/** The machine-wide state of a CCA host: plain data. */
export type CcaData = {
  readonly seed: string
  readonly frames: number
  readonly granules: Granules
  /** VMIDs in use by Realms. */
  readonly vmids: Set<number>
  /** Realms by the frame of their RD, and RECs by their own. */
  readonly realms: Map<number, Realm>
  readonly recs: Map<number, Rec>
  readonly vms: Map<string, VmRecord>
}

export const createData = (options: { readonly frames: number; readonly seed: string }): CcaData => ({
  seed: options.seed,
  frames: options.frames,
  granules: createGranules(options.frames),
  vmids: new Set(),
  realms: new Map(),
  recs: new Map(),
  vms: new Map(),
})

/** The whole attestation token of a Realm over 64 bytes of challenge (arm-cca.md 8.1): the same bytes for the same inputs. */
export type TokenSource = (realm: Realm, challenge: Uint8Array) => Uint8Array

/** A host's data with the machine under it: what every command works on. `token` can be made again from the seed. */
export type Host = { readonly data: CcaData; readonly machine: Machine; readonly token: TokenSource }

export function vmOf(data: CcaData, vm: string): VmRecord {
  const record = data.vms.get(vm)
  if (record === undefined) throw new Error(`unknown VM ${vm}`)
  return record
}

/** The VM's Realm, undefined after it was destroyed. */
export const realmOf = (data: CcaData, vm: string): Realm | undefined => data.realms.get(vmOf(data, vm).rd)

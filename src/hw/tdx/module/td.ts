import type { TdInfo } from '../evidence/tdreport.ts'
import { create as createMrtd, digest, type Mrtd } from '../measurement/mrtd.ts'
import { RTMR_BYTES } from '../measurement/rtmr.ts'
import { LIFECYCLE, type Lifecycle, OP_STATE, type OpState } from './op-states.ts'
import { createSept, type Sept } from './sept.ts'
import type { TdParams } from './td-params.ts'
import type { Vcpu } from './vcpu.ts'

/** TDCS.TD_CTLS: whether an access to a pending page is a TD exit rather than #VE (intel-tdx.md d.2). */
export const TD_CTLS = { PENDING_VE_DISABLE: 1 } as const

/** A TD: what its TDR and its TDCS hold. Plain data. */
export type Td = {
  /** Frame of its TDR, by which it is known. */
  readonly tdr: number
  /** What PAMT entries name it by. */
  readonly owner: number
  readonly hkid: number
  lifecycle: Lifecycle
  fatal: boolean
  /** Packages that KEY.CONFIG has run on, a bit each. */
  configuredPackages: number
  /** CHLDCNT: 4 KiB pages assigned to the TD beside the TDR itself. */
  childCount: number
  readonly tdcx: number[]
  opState: OpState
  /** TD_EPOCH; 0 before MNG.INIT. */
  epoch: number
  /** vCPUs inside since an even and since an odd epoch. */
  readonly refcount: [number, number]
  params: TdParams
  /** Bits of {@link TD_CTLS}. */
  tdCtls: number
  readonly mrtd: Mrtd
  /** MRTD since MR.FINALIZE. */
  finalDigest: Uint8Array | undefined
  readonly rtmrs: [Uint8Array, Uint8Array, Uint8Array, Uint8Array]
  readonly sept: Sept
  /** vCPUs by the frame of their TDVPR. */
  readonly vcpus: Map<number, Vcpu>
  /** TDVPR frames of initialised vCPUs by vCPU index. */
  readonly indexed: number[]
}

/** A TD as MNG.CREATE makes it (intel-tdx.md a.4). */
export function createTd(tdr: number, owner: number, hkid: number): Td {
  const zero = (): Uint8Array => new Uint8Array(RTMR_BYTES)
  return {
    tdr,
    owner,
    hkid,
    lifecycle: LIFECYCLE.HKID_ASSIGNED,
    fatal: false,
    configuredPackages: 0,
    childCount: 0,
    tdcx: [],
    opState: OP_STATE.UNINITIALIZED,
    epoch: 0,
    refcount: [0, 0],
    params: NO_PARAMS,
    tdCtls: 0,
    mrtd: createMrtd(),
    finalDigest: undefined,
    rtmrs: [zero(), zero(), zero(), zero()],
    sept: createSept(3),
    vcpus: new Map(),
    indexed: [],
  }
}

const NO_PARAMS: TdParams = Object.freeze({
  attributes: 0n,
  xfam: 0n,
  maxVcpus: 0,
  l2Vms: 0,
  eptpControls: 0,
  configFlags: 0,
  tscFrequency: 0,
  mrconfigid: new Uint8Array(RTMR_BYTES),
  mrowner: new Uint8Array(RTMR_BYTES),
  mrownerconfig: new Uint8Array(RTMR_BYTES),
})

/** The initialised vCPU with this index. */
export function vcpuAt(td: Td, index: number): Vcpu | undefined {
  const tdvpr = td.indexed[index]
  return tdvpr === undefined ? undefined : td.vcpus.get(tdvpr)
}

/** Whether an access to a pending page is a TD exit; otherwise it is a #VE in the guest (d.2). */
export const pendingExits = (td: Td): boolean => (td.tdCtls & TD_CTLS.PENDING_VE_DISABLE) !== 0

/** What reports and quotes say of a TD (e.3). MRTD is what it would be if finalised now until it is. */
export const tdInfo = (td: Td): TdInfo => ({
  attributes: td.params.attributes,
  xfam: td.params.xfam,
  mrtd: td.finalDigest ?? digest(td.mrtd),
  mrconfigid: td.params.mrconfigid,
  mrowner: td.params.mrowner,
  mrownerconfig: td.params.mrownerconfig,
  rtmrs: td.rtmrs,
  servtdHash: NO_SERVICE_TDS,
})
const NO_SERVICE_TDS = new Uint8Array(RTMR_BYTES)

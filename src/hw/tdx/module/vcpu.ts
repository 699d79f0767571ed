/** vCPU states (intel-tdx.md a.2). ACTIVE: it is inside, between VP.ENTER and its TD exit. */
export const VCPU_STATE = { UNINITIALIZED: 0, READY: 2, ACTIVE: 4, DISABLED: 8 } as const
export type VcpuState = (typeof VCPU_STATE)[keyof typeof VCPU_STATE]

const NAMES: Readonly<Record<VcpuState, string>> = { 0: 'UNINITIALIZED', 2: 'READY', 4: 'ACTIVE', 8: 'DISABLED' }
export const vcpuStateName = (state: VcpuState): string => NAMES[state]

/** VE_INFO: why the last #VE came, until TDG.VP.VEINFO.GET takes it. */
export type VeInfo = {
  readonly exitReason: number
  readonly exitQualification: number
  readonly gla: bigint
  readonly gpa: bigint
}

/** A vCPU: what its TDVPS holds. Plain data. */
export type Vcpu = {
  readonly tdvpr: number
  readonly tdcx: number[]
  state: VcpuState
  /** -1 before VP.INIT. */
  index: number
  /** The logical processor it is associated with, -1 for none. */
  lp: number
  /** The epoch in which it entered, while it is inside; -1 outside. */
  enteredEpoch: number
  /** RCX and R8 that the guest starts with. */
  initialRcx: bigint
  veInfo: VeInfo | undefined
}

export const createVcpu = (tdvpr: number): Vcpu => ({
  tdvpr,
  tdcx: [],
  state: VCPU_STATE.UNINITIALIZED,
  index: -1,
  lp: -1,
  enteredEpoch: -1,
  initialRcx: 0n,
  veInfo: undefined,
})

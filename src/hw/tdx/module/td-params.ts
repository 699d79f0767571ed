/** What MNG.INIT takes from TD_PARAMS (intel-tdx.md a.4). Digests are of 48 bytes. */
export type TdParams = {
  readonly attributes: bigint
  readonly xfam: bigint
  readonly maxVcpus: number
  readonly l2Vms: number
  readonly eptpControls: number
  readonly configFlags: number
  /** In units of 25 MHz. */
  readonly tscFrequency: number
  readonly mrconfigid: Uint8Array
  readonly mrowner: Uint8Array
  readonly mrownerconfig: Uint8Array
}

export const ATTRIBUTE = {
  DEBUG: 1n << 0n,
  SEPT_VE_DISABLE: 1n << 28n,
  MIGRATABLE: 1n << 29n,
  PKS: 1n << 30n,
  KL: 1n << 31n,
  PERFMON: 1n << 63n,
} as const

export const CONFIG_FLAG = { GPAW: 1, FLEXIBLE_PENDING_VE: 2, NO_RBP_MOD: 4 } as const

/** Width of a guest physical address; its highest bit is the shared bit (d.1). */
export const gpaw = (params: TdParams): 48 | 52 => (params.configFlags & CONFIG_FLAG.GPAW ? 52 : 48)

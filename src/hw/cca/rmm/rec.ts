import type { Ripas } from './states.ts'

/** A pending RSI_IPA_STATE_SET (arm-cca.md 7), in pages: RTT_SET_RIPAS has come to `next`. */
export type RipasChange = {
  readonly base: number
  readonly top: number
  readonly ripas: Ripas
  readonly changeDestroyed: boolean
  next: number
}

export const EXIT_REASON = { SYNC: 0, IRQ: 1, FIQ: 2, PSCI: 3, RIPAS_CHANGE: 4, HOST_CALL: 5, SERROR: 6 } as const
export type ExitReason = keyof typeof EXIT_REASON

/** What the next entry may ask for depends on the last exit (arm-cca.md 3, REC_ENTER). */
export type LastExit = {
  readonly reason: ExitReason
  /** An emulatable data abort: a load of the guest's that the host may answer. */
  readonly emulatable: boolean
  /** A data abort at an unprotected IPA: the host may inject an SEA instead. */
  readonly unprotectedAbort: boolean
}

/** A PSCI call that waits for RMI_PSCI_COMPLETE: `target` is the mpidr it names. */
export type PsciRequest = {
  readonly kind: 'CPU_ON' | 'AFFINITY_INFO'
  readonly target: bigint
  readonly entry: bigint
  readonly context: bigint
}

/** An attestation token being read out (7), and how many of its bytes the Realm has. */
export type TokenOperation = { readonly token: Uint8Array; given: number }

/** One REC as plain data. */
export type Rec = {
  readonly frame: number
  readonly rd: number
  /** Which REC of its Realm it is, and the affinity that index has. */
  readonly index: number
  readonly mpidr: bigint
  readonly aux: readonly number[]
  /** The host lent the auxiliary granules from pages of its own, which it takes back with the REC. */
  auxLent: boolean
  runnable: boolean
  /** RMI_REC_ENTER is inside, until the guest exits. */
  running: boolean
  pc: bigint
  /** X0 to X7 as its creation or CPU_ON left them. */
  gprs: bigint[]
  ripasChange: RipasChange | undefined
  /** Byte address of the RsiHostCall structure that the host is to answer. */
  hostCall: bigint | undefined
  psci: PsciRequest | undefined
  /** X0 of a PSCI call that the host has completed, for the next entry. */
  psciResult: number | undefined
  lastExit: LastExit
  token: TokenOperation | undefined
}

/** Before the first entry nothing was left that the host could answer. */
export const NO_EXIT: LastExit = { reason: 'IRQ', emulatable: false, unprotectedAbort: false }

/** REC_AUX_COUNT of this RMM, tf-rmm's 16 (arm-cca.md 10). */
export const AUX_COUNT = 16
/** What RMI_REC_CREATE can name at most. */
export const MAX_AUX = 16

/** Aff0 has four bits of the index, Aff1 to Aff3 eight each (arm-cca.md 3). */
export const mpidrOf = (index: number): bigint =>
  BigInt(index & 0xf) |
  (BigInt((index >>> 4) & 0xff) << 8n) |
  (BigInt((index >>> 12) & 0xff) << 16n) |
  (BigInt((index >>> 20) & 0xff) << 32n)

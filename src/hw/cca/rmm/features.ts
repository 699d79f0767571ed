import { hex } from './geometry.ts'

/** What this RMM can do: feature register 0 (arm-cca.md 1). Breakpoints and watchpoints are minus one, as in the register. */
export const FEATURE = {
  /** Widest IPA, with LPA2; without it 48 bits. */
  s2sz: 52,
  lpa2: true,
  sveVl: 15,
  numBps: 15,
  numWps: 15,
  pmuNumCtrs: 31,
  gicv3NumLrs: 15,
  /** At most 2^9 RECs a Realm. */
  maxRecsOrder: 9,
} as const

export const MAX_RECS = 2 ** FEATURE.maxRecsOrder

/** RMI and RSI are both version 1.0. */
export const ABI_VERSION = 0x10000

const fields: readonly (readonly [shift: bigint, value: number])[] = [
  [0n, FEATURE.s2sz],
  [8n, 1],
  [9n, 1],
  [10n, FEATURE.sveVl],
  [14n, FEATURE.numBps],
  [20n, FEATURE.numWps],
  [26n, 1],
  [27n, FEATURE.pmuNumCtrs],
  [32n, 1],
  [33n, 1],
  [34n, FEATURE.gicv3NumLrs],
  [38n, FEATURE.maxRecsOrder],
]
const REGISTER_0 = fields.reduce((register, [shift, value]) => register | (BigInt(value) << shift), 0n)

/** RMI_FEATURES: a feature register; all but the first read 0. */
export const featureRegister = (index: bigint): string => hex(index === 0n ? REGISTER_0 : 0n)

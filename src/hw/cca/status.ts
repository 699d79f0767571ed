import type { Status } from '../contract.ts'

/** Low byte of an RMI status in x0 (arm-cca.md 1). */
export const RMI_CODE = {
  RMI_SUCCESS: 0,
  RMI_ERROR_INPUT: 1,
  RMI_ERROR_REALM: 2,
  RMI_ERROR_REC: 3,
  RMI_ERROR_RTT: 4,
} as const
export type RmiName = keyof typeof RMI_CODE

/** RSI status in x0 (arm-cca.md 1). */
export const RSI_CODE = {
  RSI_SUCCESS: 0,
  RSI_ERROR_INPUT: 1,
  RSI_ERROR_STATE: 2,
  RSI_INCOMPLETE: 3,
  RSI_ERROR_UNKNOWN: 4,
} as const
export type RsiName = keyof typeof RSI_CODE

const INDEX_SHIFT = 8
const freeze = (name: string, code: number): Status => Object.freeze({ name, code })

/** Levels of ERROR_RTT are -1 to 3; x0 holds the index in bits 15:8. */
const indexed = (name: RmiName): readonly Status[] =>
  [-1, 0, 1, 2, 3].map((index) => freeze(name, RMI_CODE[name] | ((index & 0xff) << INDEX_SHIFT)))

const RTT_STATUSES = indexed('RMI_ERROR_RTT')
const REALM_STATUSES = indexed('RMI_ERROR_REALM')

export const SUCCESS = freeze('RMI_SUCCESS', RMI_CODE.RMI_SUCCESS)
export const ERROR_INPUT = freeze('RMI_ERROR_INPUT', RMI_CODE.RMI_ERROR_INPUT)
export const ERROR_REC = freeze('RMI_ERROR_REC', RMI_CODE.RMI_ERROR_REC)
/** `level`: where the walk stopped, -1 to 3. */
export const errorRtt = (level: number): Status => RTT_STATUSES[level + 1] as Status
/** `index` is 0 but from REC_ENTER, which says 1 of a Realm that is SYSTEM_OFF. */
export const errorRealm = (index: 0 | 1): Status => REALM_STATUSES[index + 1] as Status

const RSI_STATUSES = new Map(
  Object.entries(RSI_CODE).map(([name, code]) => [name as RsiName, freeze(name, code)] as const),
)
export const rsiStatus = (name: RsiName): Status => RSI_STATUSES.get(name) ?? freeze(name, RSI_CODE[name])

/** What isn't the RMM's own answer: a fault that the architecture takes before any of its code runs (arm-cca.md 2, 6). */
export const GPF = freeze('GPF', 0x28)
export const SEA = freeze('SEA', 0x10)
export const ADDRESS_SIZE_FAULT = freeze('ADDRESS_SIZE_FAULT', 0x3)
export const OK = freeze('OK', 0)
/** SMC_UNKNOWN: no such call for whoever made it. */
export const SMC_NOT_SUPPORTED = freeze('SMC_NOT_SUPPORTED', -1)

/** RIPAS, RMI and RSI alike (arm-cca.md 1). */
export const RIPAS = { EMPTY: 0, RAM: 1, DESTROYED: 2 } as const
export type RipasName = keyof typeof RIPAS
export type Ripas = (typeof RIPAS)[RipasName]

const RIPAS_NAMES: readonly RipasName[] = ['EMPTY', 'RAM', 'DESTROYED']
export const ripasName = (ripas: Ripas): RipasName => RIPAS_NAMES[ripas] as RipasName

/**
 * What a page's entry says, as one number, 0 where nothing was ever done: UNASSIGNED and EMPTY, or UNASSIGNED_NS in the
 * unprotected half (arm-cca.md 4). Bits 1:0 RIPAS, bit 2 ASSIGNED, bit 3 ASSIGNED_NS with the host's attributes above.
 */
export const ENTRY = {
  UNASSIGNED_EMPTY: 0,
  UNASSIGNED_RAM: 1,
  UNASSIGNED_DESTROYED: 2,
  ASSIGNED_EMPTY: 4,
  ASSIGNED_RAM: 5,
  ASSIGNED_DESTROYED: 6,
  UNASSIGNED_NS: 0,
} as const

export const ASSIGNED = 4
export const ASSIGNED_NS = 8
const RIPAS_MASK = 3

export const ripasOf = (entry: number): Ripas => (entry & RIPAS_MASK) as Ripas
/** ASSIGNED to a DATA granule. */
export const isData = (entry: number): boolean => (entry & ASSIGNED) !== 0
/** ASSIGNED_NS: host memory in the unprotected half. */
export const isHostMapping = (entry: number): boolean => (entry & ASSIGNED_NS) !== 0
export const withRipas = (entry: number, ripas: Ripas): number => (entry & ~RIPAS_MASK) | ripas

/** DATA_DESTROY (4.1): U/E of an EMPTY page, which taints nothing, U/D of any other. */
export const destroyedEntry = (entry: number): number =>
  ripasOf(entry) === RIPAS.EMPTY ? ENTRY.UNASSIGNED_EMPTY : ENTRY.UNASSIGNED_DESTROYED

/** The host's attributes of an unprotected mapping, as in its descriptor: MemAttr [4:2] and S2AP [7:6]. */
export const HOST_ATTRIBUTES = 0xdc
const ATTRIBUTE_SHIFT = 2
const HIGH_SHIFT = 16

/** `high`: bits 39:31 of the distance from page to frame, which a translation of 31 bits can't hold. */
export const hostEntry = (attributes: number, high: number): number =>
  ASSIGNED_NS | ((attributes & HOST_ATTRIBUTES) << ATTRIBUTE_SHIFT) | (high << HIGH_SHIFT)
export const attributesOf = (entry: number): number => (entry >>> ATTRIBUTE_SHIFT) & HOST_ATTRIBUTES
export const highOf = (entry: number): number => entry >>> HIGH_SHIFT

const S2AP_READ = 1 << 6
const S2AP_WRITE = 1 << 7
export const mayRead = (entry: number): boolean => (attributesOf(entry) & S2AP_READ) !== 0
export const mayWrite = (entry: number): boolean => (attributesOf(entry) & S2AP_WRITE) !== 0

const PROTECTED_NAMES: Readonly<Record<number, string>> = {
  [ENTRY.UNASSIGNED_EMPTY]: 'UNASSIGNED/EMPTY',
  [ENTRY.UNASSIGNED_RAM]: 'UNASSIGNED/RAM',
  [ENTRY.UNASSIGNED_DESTROYED]: 'UNASSIGNED/DESTROYED',
  [ENTRY.ASSIGNED_EMPTY]: 'ASSIGNED/EMPTY',
  [ENTRY.ASSIGNED_RAM]: 'ASSIGNED/RAM',
  [ENTRY.ASSIGNED_DESTROYED]: 'ASSIGNED/DESTROYED',
}

/** HIPAS and RIPAS in words. `isProtected`: which half the page is in. */
export function entryName(entry: number, isProtected: boolean): string {
  if (isProtected) return PROTECTED_NAMES[entry] as string
  return isHostMapping(entry) ? 'ASSIGNED_NS' : 'UNASSIGNED_NS'
}

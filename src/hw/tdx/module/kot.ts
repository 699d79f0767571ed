/** States of a Key Ownership Table entry (intel-tdx.md a.1). RESERVED is the module's own, for TDR pages and PAMT. */
export const KEY_STATE = { FREE: 0, ASSIGNED: 1, FLUSHED: 2, RESERVED: 3 } as const
export type KeyState = (typeof KEY_STATE)[keyof typeof KEY_STATE]

/** Key ids below are shared (MKTME), from here on private; the first of those is the module's global key. */
export const FIRST_PRIVATE_KEY = 64
export const KEYS = 128

/** Processor packages of a machine: KEY.CONFIG and CACHE.WB run once on each. */
export const PACKAGES = 2

/** Key Ownership Table: `states` and, for flushed keys, the packages whose caches still hold lines (a bit each). */
export type Kot = {
  readonly packages: number
  /** By HKID - FIRST_PRIVATE_KEY. */
  readonly states: KeyState[]
  readonly unwritten: number[]
}

export const createKot = (packages = PACKAGES): Kot => {
  const count = KEYS - FIRST_PRIVATE_KEY
  const states: KeyState[] = new Array(count).fill(KEY_STATE.FREE)
  states[0] = KEY_STATE.RESERVED
  return { packages, states, unwritten: new Array(count).fill(0) }
}

export const isPrivateKey = (hkid: number): boolean => hkid >= FIRST_PRIVATE_KEY && hkid < KEYS

/** Precondition for all that follow: the key is private. */
export const keyState = (kot: Kot, hkid: number): KeyState => kot.states[hkid - FIRST_PRIVATE_KEY] ?? KEY_STATE.RESERVED

export function assignKey(kot: Kot, hkid: number): void {
  kot.states[hkid - FIRST_PRIVATE_KEY] = KEY_STATE.ASSIGNED
}

/** All packages are to be written back (a.5 step 2). */
export function flushKey(kot: Kot, hkid: number): void {
  kot.states[hkid - FIRST_PRIVATE_KEY] = KEY_STATE.FLUSHED
  kot.unwritten[hkid - FIRST_PRIVATE_KEY] = 2 ** kot.packages - 1
}

export function freeKey(kot: Kot, hkid: number): void {
  kot.states[hkid - FIRST_PRIVATE_KEY] = KEY_STATE.FREE
}

export const isWrittenBack = (kot: Kot, hkid: number): boolean => kot.unwritten[hkid - FIRST_PRIVATE_KEY] === 0

export const hasFlushedKey = (kot: Kot): boolean => kot.states.includes(KEY_STATE.FLUSHED)

/** Writes one package's cache back for every flushed key (a.5 step 3). */
export function writeBack(kot: Kot, onPackage: number): void {
  for (const [index, state] of kot.states.entries())
    if (state === KEY_STATE.FLUSHED) kot.unwritten[index] = (kot.unwritten[index] ?? 0) & ~(1 << onPackage)
}

/** The lowest free key, or -1. */
export function freeKeyId(kot: Kot): number {
  const index = kot.states.indexOf(KEY_STATE.FREE)
  return index < 0 ? -1 : FIRST_PRIVATE_KEY + index
}

export const keysInUse = (kot: Kot): number =>
  kot.states.filter((state) => state === KEY_STATE.ASSIGNED || state === KEY_STATE.FLUSHED).length

/** Keys that TDs can have. */
export const keysInAll = (kot: Kot): number => kot.states.length - 1

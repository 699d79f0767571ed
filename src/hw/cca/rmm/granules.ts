import * as PageMap from '../../shared/page-map.ts'
import { PAGE_SIZE } from './geometry.ts'

/**
 * RMM states of a granule (arm-cca.md 2). UNDELEGATED says nothing of the PAS: the last three are UNDELEGATED too, in
 * Secure and Root PAS, and the RMM's own memory, which it doesn't track.
 */
export const GRANULE = {
  UNDELEGATED: 0,
  DELEGATED: 1,
  RD: 2,
  REC: 3,
  REC_AUX: 4,
  DATA: 5,
  RTT: 6,
  SECURE: 7,
  ROOT: 8,
  UNTRACKED: 9,
} as const
export type GranuleState = (typeof GRANULE)[keyof typeof GRANULE]

const NAMES = ['UNDELEGATED', 'DELEGATED', 'RD', 'REC', 'REC_AUX', 'DATA', 'RTT'] as const
export const granuleName = (state: number): string => NAMES[state] ?? (state === GRANULE.UNTRACKED ? 'none' : NAMES[0])

export type Pas = 'NS' | 'REALM' | 'SECURE' | 'ROOT'
/** The physical address space the granule protection table gives a granule (2): every state but UNDELEGATED is Realm's. */
export function pasOf(state: number): Pas {
  if (state === GRANULE.UNDELEGATED) return 'NS'
  if (state === GRANULE.SECURE) return 'SECURE'
  return state === GRANULE.ROOT ? 'ROOT' : 'REALM'
}

/**
 * Every granule of one machine as plain data, a value a run that agrees: `state | owner << 8`. `owner` is a small number
 * that stands for a Realm: `owners` has the frame of its RD, -1 where the number is free.
 */
export type Granules = {
  readonly frames: number
  /** First frame of the RMM's own memory, at the top. */
  readonly ownStart: number
  readonly words: PageMap.PageMap
  readonly owners: number[]
}

/** Book-keeping of a granule, 2 to 4 bytes in tf-rmm (10). */
const GRANULE_BYTES = 4

export function createGranules(frames: number): Granules {
  const ownStart = Math.max(0, frames - Math.ceil((frames * GRANULE_BYTES) / PAGE_SIZE))
  const granules: Granules = { frames, ownStart, words: PageMap.create(), owners: [-1] }
  PageMap.setRange(granules.words, ownStart, frames, GRANULE.UNTRACKED)
  return granules
}

export const metadataBytes = (granules: Granules): number => (granules.frames - granules.ownStart) * PAGE_SIZE

/** The state of a frame; UNTRACKED beyond memory. */
export const granuleState = (granules: Granules, frame: number): GranuleState =>
  frame < granules.frames ? ((PageMap.get(granules.words, frame) & 0xff) as GranuleState) : GRANULE.UNTRACKED

/** Whether the host's own accesses reach a frame: PAS Non-secure, in memory. */
export const isHostMemory = (granules: Granules, frame: number): boolean =>
  granuleState(granules, frame) === GRANULE.UNDELEGATED

/** Frame of the RD of the Realm that a granule belongs to, -1 for those without. Precondition: frame < frames. */
export const ownerFrame = (granules: Granules, frame: number): number =>
  granules.owners[PageMap.get(granules.words, frame) >>> 8] ?? -1

/** Whether frames [frame, frame + count) are all of one state without an owner: UNDELEGATED, DELEGATED. */
export const areAll = (granules: Granules, frame: number, count: number, state: GranuleState): boolean =>
  frame + count <= granules.frames &&
  (count === 1
    ? PageMap.get(granules.words, frame) === state
    : PageMap.isAll(granules.words, frame, frame + count, state))

/** The first of `count` frames that the host can't reach, or -1. */
export function firstGuarded(granules: Granules, frame: number, count: number): number {
  const end = frame + count
  const found = PageMap.nextNonZero(granules.words, frame, Math.min(end, granules.frames))
  return found < end ? found : -1
}

/** Gives frames a state. No transition is checked here: the table of arm-cca.md 2 is the commands' part. */
export function setGranules(
  granules: Granules,
  frame: number,
  count: number,
  state: GranuleState,
  owner: number,
): void {
  const word = state | (owner << 8)
  if (count === 1) PageMap.set(granules.words, frame, word)
  else PageMap.setRange(granules.words, frame, frame + count, word)
}

/** The lowest free owner number, now that of the Realm at `rd`. */
export function addOwner(granules: Granules, rd: number): number {
  const found = granules.owners.indexOf(-1, 1)
  const owner = found < 0 ? granules.owners.length : found
  granules.owners[owner] = rd
  return owner
}

export function removeOwner(granules: Granules, owner: number): void {
  granules.owners[owner] = -1
}

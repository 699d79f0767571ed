/**
 * Public states of a Secure EPT entry (intel-tdx.md c.1). FREE to MAPPED are leafs of the trees here; migration's and
 * nested VMs' states don't occur.
 */
export const STATE = {
  FREE: 0,
  BLOCKED: 1,
  PENDING: 2,
  PENDING_BLOCKED: 3,
  MAPPED: 4,
  NL_BLOCKED: 129,
  NL_MAPPED: 132,
} as const
export type StateName = keyof typeof STATE
export type EntryState = (typeof STATE)[StateName]

const NAMES = new Map<number, StateName>(Object.entries(STATE).map(([name, state]) => [state, name as StateName]))
export const stateName = (state: EntryState): StateName => NAMES.get(state) ?? 'FREE'

export const isLeafState = (state: EntryState): boolean => state >= STATE.BLOCKED && state <= STATE.MAPPED
export const isBlockedState = (state: EntryState): boolean =>
  state === STATE.BLOCKED || state === STATE.PENDING_BLOCKED || state === STATE.NL_BLOCKED

/** RANGE.BLOCK (c.3): the state it leads to, undefined where it isn't legal. */
export const BLOCK_TO: Readonly<Partial<Record<EntryState, EntryState>>> = {
  [STATE.MAPPED]: STATE.BLOCKED,
  [STATE.PENDING]: STATE.PENDING_BLOCKED,
  [STATE.NL_MAPPED]: STATE.NL_BLOCKED,
}

/** RANGE.UNBLOCK (c.3). DEMOTE and RELOCATE too leave a blocked leaf unblocked. */
export const UNBLOCK_TO: Readonly<Partial<Record<EntryState, EntryState>>> = {
  [STATE.BLOCKED]: STATE.MAPPED,
  [STATE.PENDING_BLOCKED]: STATE.PENDING,
  [STATE.NL_BLOCKED]: STATE.NL_MAPPED,
}

export const unblocked = (state: EntryState): EntryState => UNBLOCK_TO[state] ?? state

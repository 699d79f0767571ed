/** Key states of a TD, kept in its TDR (intel-tdx.md a.1). */
export const LIFECYCLE = { HKID_ASSIGNED: 0, KEYS_CONFIGURED: 1, BLOCKED: 2, TEARDOWN: 3 } as const
export type Lifecycle = (typeof LIFECYCLE)[keyof typeof LIFECYCLE]

const LIFECYCLE_NAMES = ['TD_HKID_ASSIGNED', 'TD_KEYS_CONFIGURED', 'TD_BLOCKED', 'TD_TEARDOWN'] as const
export const lifecycleName = (lifecycle: Lifecycle): string => LIFECYCLE_NAMES[lifecycle]

/** Operation states, kept in TDCS (a.2). Migration, which is not emulated, would lead to those from 3 on. */
export const OP_STATE = { UNINITIALIZED: 0, INITIALIZED: 1, RUNNABLE: 2 } as const
export type OpState = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10

const OP_STATE_NAMES = [
  'UNINITIALIZED',
  'INITIALIZED',
  'RUNNABLE',
  'LIVE_EXPORT',
  'PAUSED_EXPORT',
  'POST_EXPORT',
  'MEMORY_IMPORT',
  'STATE_IMPORT',
  'POST_IMPORT',
  'LIVE_IMPORT',
  'FAILED_IMPORT',
] as const
export const opStateName = (state: OpState): string => OP_STATE_NAMES[state]

/** Bits of the op states in which a vCPU may run, and in which TLB tracking is demanded (a.2, c.4). */
export const RUNNING = mask(2, 3, 9)

const BUILDING = mask(1)
const NOT_BEFORE_INIT = range(1, 10)
const CHANGING = mask(1, 2, 3, 4, 5, 8, 9)

/** In which op states each SEAMCALL is legal, a bit a state (a.3). */
export const ALLOWED = {
  'TDH.MNG.ADDCX': mask(0),
  'TDH.MNG.INIT': mask(0),
  'TDH.MEM.PAGE.ADD': BUILDING,
  'TDH.MR.EXTEND': BUILDING,
  'TDH.MR.FINALIZE': BUILDING,
  'TDH.VP.INIT': BUILDING,
  'TDH.VP.CREATE': mask(1, 7),
  'TDH.VP.ADDCX': mask(1, 7),
  'TDH.MEM.SEPT.ADD': mask(1, 2, 3, 6, 7, 8, 9),
  'TDH.MEM.PAGE.AUG': mask(1, 2, 3, 9),
  'TDH.MEM.RANGE.BLOCK': CHANGING,
  'TDH.MEM.RANGE.UNBLOCK': CHANGING,
  'TDH.MEM.PAGE.RELOCATE': CHANGING,
  'TDH.MEM.PAGE.PROMOTE': CHANGING,
  'TDH.MEM.PAGE.DEMOTE': CHANGING,
  'TDH.MEM.PAGE.REMOVE': mask(1, 2, 3, 4, 5, 8, 9, 10),
  'TDH.MEM.SEPT.REMOVE': NOT_BEFORE_INIT,
  'TDH.MEM.TRACK': range(1, 9),
  'TDH.MEM.SEPT.RD': NOT_BEFORE_INIT,
  'TDH.MEM.RD': NOT_BEFORE_INIT,
  'TDH.MEM.WR': mask(1, 2, 3, 6, 7, 8, 9, 10),
  'TDH.VP.ENTER': RUNNING,
} as const
export type Leaf = keyof typeof ALLOWED

export const isAllowed = (allowed: number, state: OpState): boolean => (allowed & (1 << state)) !== 0

function mask(...states: readonly OpState[]): number {
  return states.reduce<number>((bits, state) => bits | (1 << state), 0)
}

function range(from: number, to: number): number {
  return 2 ** (to + 1) - 2 ** from
}

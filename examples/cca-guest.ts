import { type Cast, call } from './cast.ts'
import { hex } from './client.ts'
import type { Call } from './replies.ts'

/** The highest bit of an IPA of 41 bits: an access with it is unprotected, and so shared. */
export const SHARED = 2 ** 40

/** What happens to pages that the host has destroyed: they stop the guest's request, or become what it asks for. */
export const NO_CHANGE_DESTROYED = 0
export const CHANGE_DESTROYED = 1

/** RSI_IPA_STATE_SET: the guest says what a range is to be to it. RAM is private, EMPTY gives it up. */
export const ipaStateSet = (
  cast: Cast,
  gpa: number,
  pages: number,
  ripas: 'RAM' | 'EMPTY',
  flags = CHANGE_DESTROYED,
): Promise<Call> => call(cast, 'RSI_IPA_STATE_SET', { base: hex(gpa), top: hex(gpa + pages * 4096), ripas, flags })

/** RSI_IPA_STATE_GET: what a page was promised to be. */
export const ripasOf = async (cast: Cast, gpa: number): Promise<string | undefined> =>
  (await call(cast, 'RSI_IPA_STATE_GET', { start: hex(gpa), end: hex(gpa + 4096) })).ripas

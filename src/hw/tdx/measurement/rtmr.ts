import { createHash } from 'node:crypto'

export const RTMR_COUNT = 4
export const RTMR_BYTES = 48

/** TDG.MR.RTMR.EXTEND: SHA-384(RTMR ‖ data), both of 48 bytes (intel-tdx.md e.2). */
export const extendRtmr = (rtmr: Uint8Array, data: Uint8Array): Buffer =>
  createHash('sha384').update(rtmr).update(data).digest()

/** The register after each digest of an event log in turn, from `start` or zero. EV_NO_ACTION events are not to be given. */
export function replayRtmr(digests: readonly Uint8Array[], start: Uint8Array = Buffer.alloc(RTMR_BYTES)): Buffer[] {
  let rtmr = start
  return digests.map((data) => {
    const next = extendRtmr(rtmr, data)
    rtmr = next
    return next
  })
}

import type { Host } from '../data.ts'
import { rsi } from './answer.ts'
import { PAGE_SIZE } from './geometry.ts'
import { answered, type GuestOutcome } from './guest.ts'
import { writeBytes } from './guest-memory.ts'
import { protectedPage } from './operands.ts'
import type { Realm } from './realm.ts'
import type { Rec } from './rec.ts'
import { INPUT_OUTCOME, openPage } from './rsi.ts'

/** What TOKEN_INIT says a token takes at most (arm-cca.md 8.1). */
export const MAX_TOKEN_BYTES = 4096
export const CHALLENGE_BYTES = 64

/** RSI_ATTESTATION_TOKEN_INIT (arm-cca.md 7): starts a token over 64 bytes of challenge, or starts again. */
export function tokenInit(host: Host, realm: Realm, rec: Rec, challenge: Uint8Array): GuestOutcome {
  rec.token = { token: host.token(realm, challenge), given: 0 }
  return answered(rsi('RSI_SUCCESS', { x1: MAX_TOKEN_BYTES }))
}

/** Where TOKEN_CONTINUE writes: `size` bytes at most, `offset` bytes into the page at `ipa`. */
export type TokenTarget = { readonly ipa: bigint; readonly offset: bigint; readonly size: bigint }

/**
 * RSI_ATTESTATION_TOKEN_CONTINUE (7): writes the next bytes, and says how many. INPUT for a page that isn't aligned,
 * protected and not EMPTY, or bytes that don't lie in it; STATE without INIT; INCOMPLETE while more remain.
 */
export function tokenContinue(host: Host, realm: Realm, rec: Rec, { ipa, offset, size }: TokenTarget): GuestOutcome {
  const page = BigInt(PAGE_SIZE)
  if (protectedPage(realm.rtt, ipa) < 0 || offset >= page || offset + size > page) return INPUT_OUTCOME
  const { token: operation } = rec
  if (operation === undefined) return answered(rsi('RSI_ERROR_STATE'))
  const target = openPage(host, realm, ipa, 'write')
  if (!('frame' in target)) return target
  const { token, given } = operation
  const bytes = token.subarray(given, given + Number(size))
  writeBytes(host, target.frame, Number(offset), bytes)
  operation.given = given + bytes.length
  const isComplete = operation.given === token.length
  if (isComplete) rec.token = undefined
  return answered(rsi(isComplete ? 'RSI_SUCCESS' : 'RSI_INCOMPLETE', { x1: bytes.length }))
}

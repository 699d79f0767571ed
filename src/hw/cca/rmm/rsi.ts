import { Buffer } from 'node:buffer'
import { hexOf } from '../../shared/hex.ts'
import type { Host } from '../data.ts'
import { digestBytes } from '../measurement/digest.ts'
import { extendRem, MAX_REM_VALUE_BYTES } from '../measurement/rem.ts'
import { rsi } from './answer.ts'
import { HOST_CALL_GPRS } from './enter.ts'
import { PAGE_SIZE } from './geometry.ts'
import { answered, type GuestOutcome } from './guest.ts'
import { reach, readPage } from './guest-memory.ts'
import { protectedPage } from './operands.ts'
import type { Realm } from './realm.ts'
import type { Rec } from './rec.ts'

export const INPUT_OUTCOME = answered(rsi('RSI_ERROR_INPUT'))

/** A structure of the Realm's: INPUT where the page is EMPTY, an abort that the host sees where it isn't mapped (7). */
export function openPage(
  host: Host,
  realm: Realm,
  ipa: bigint,
  kind: 'read' | 'write',
): { readonly frame: number } | GuestOutcome {
  const target = reach(host, realm, ipa, kind)
  return target.kind === 'sea' ? INPUT_OUTCOME : target
}

/** RSI_MEASUREMENT_READ (arm-cca.md 7): 0 is the RIM, 1 to 4 the REMs; 64 bytes. */
export function measurementRead(realm: Realm, index: bigint): GuestOutcome {
  const measurement = index === 0n ? realm.rim : realm.rems[Number(index) - 1]
  if (measurement === undefined) return INPUT_OUTCOME
  return answered(rsi('RSI_SUCCESS', { value: hexOf(measurement) }))
}

/** RSI_MEASUREMENT_EXTEND (7) with the first `size` of 64 bytes: INPUT for the RIM, an index beyond 4, more than 64. */
export function measurementExtend(realm: Realm, index: bigint, size: bigint, value: Uint8Array): GuestOutcome {
  const at = Number(index) - 1
  const rem = realm.rems[at]
  if (rem === undefined || size > BigInt(MAX_REM_VALUE_BYTES)) return INPUT_OUTCOME
  realm.rems[at] = extendRem(realm.hashAlgo, rem, value.subarray(0, Number(size)))
  return answered(rsi('RSI_SUCCESS'))
}

/** The RIM as text, as long as the Realm's digests are. */
export const rimText = (realm: Realm): string => hexOf(realm.rim.subarray(0, digestBytes(realm.hashAlgo)))

const CONFIG = { hashAlgo: 8, rpv: 0x200 } as const

/** RSI_REALM_CONFIG (7): INPUT where the page isn't aligned and protected; writes all of it. */
export function realmConfig(host: Host, realm: Realm, ipa: bigint): GuestOutcome {
  if (protectedPage(realm.rtt, ipa) < 0) return INPUT_OUTCOME
  const target = openPage(host, realm, ipa, 'write')
  if (!('frame' in target)) return target
  const config = Buffer.alloc(PAGE_SIZE)
  config.writeBigUInt64LE(BigInt(realm.s2sz), 0)
  config.writeUInt8(realm.hashAlgo, CONFIG.hashAlgo)
  config.set(realm.rpv, CONFIG.rpv)
  host.machine.write(target.frame, new Uint8Array(config))
  return answered(rsi('RSI_SUCCESS', { ipa_width: realm.s2sz, hash_algo: realm.hashAlgo, rpv: hexOf(realm.rpv) }))
}

const HOST_CALL_BYTES = 256n
const OFFSET = 0xfffn
const HOST_CALL_REGISTERS = 31

/** RSI_HOST_CALL (7): INPUT where the structure isn't aligned to 256, protected and not EMPTY; else an exit with what it holds. */
export function hostCall(host: Host, realm: Realm, rec: Rec, ipa: bigint): GuestOutcome {
  if (ipa % HOST_CALL_BYTES !== 0n || protectedPage(realm.rtt, ipa & ~OFFSET) < 0) return INPUT_OUTCOME
  const target = openPage(host, realm, ipa, 'write')
  if (!('frame' in target)) return target
  const structure = readPage(host, target.frame).subarray(Number(ipa & OFFSET))
  rec.hostCall = ipa
  return {
    kind: 'exit',
    exit: {
      reason: 'HOST_CALL',
      imm: structure.readUInt16LE(0),
      gprs: Array.from({ length: HOST_CALL_REGISTERS }, (_, index) =>
        structure.readBigUInt64LE(HOST_CALL_GPRS + 8 * index),
      ),
    },
  }
}

import { hash } from 'node:crypto'
import { digestBytes, type HashAlgo } from '../measurement/digest.ts'
import { type Cbor, encodeCbor, TAG, tagged } from './cbor.ts'
import { COMPONENT, PART, PLATFORM_CLAIM, PLATFORM_PROFILE, REALM_CLAIM, REALM_PROFILE } from './claims.ts'
import { coseKey, sign1 } from './cose.ts'
import type { Platform } from './platform.ts'

/** What a token says of a Realm. RIM and the four REMs are fields of 64 bytes, as is the personalization value. */
export type RealmInfo = {
  readonly hashAlgo: HashAlgo
  readonly rpv: Uint8Array
  readonly rim: Uint8Array
  readonly rems: readonly Uint8Array[]
}

export const CHALLENGE_BYTES = 64

/** tf-rmm's choice, also for a Realm that measures with SHA-512. */
const KEY_HASH = 'sha-256'

const textOf = (algo: HashAlgo): string => (algo === 0 ? 'sha-256' : 'sha-512')

/** The whole token: both parts, bound by the platform's challenge (arm-cca.md 8.1). */
export const buildToken = (platformPart: Uint8Array, realmPart: Uint8Array): Uint8Array =>
  encodeCbor(
    tagged(
      TAG.ccaToken,
      new Map([
        [PART.platform, platformPart],
        [PART.realm, realmPart],
      ]),
    ),
  )

/** The Realm part over a challenge of 64 bytes, signed with the RAK; claims in tf-rmm's order. */
export function realmPart(
  { hashAlgo, rpv, rim, rems }: RealmInfo,
  challenge: Uint8Array,
  { rak }: Platform,
): Uint8Array {
  if (challenge.length !== CHALLENGE_BYTES) throw new RangeError(`A challenge has ${CHALLENGE_BYTES} bytes`)
  const shown = (field: Uint8Array): Uint8Array => field.subarray(0, digestBytes(hashAlgo))
  const claims = new Map<number, Cbor>([
    [REALM_CLAIM.challenge, challenge],
    [REALM_CLAIM.personalizationValue, rpv],
    [REALM_CLAIM.publicKey, coseKey(rak.publicKey)],
    [REALM_CLAIM.hashAlgorithm, textOf(hashAlgo)],
    [REALM_CLAIM.publicKeyHashAlgorithm, KEY_HASH],
    [REALM_CLAIM.profile, REALM_PROFILE],
    [REALM_CLAIM.initialMeasurement, shown(rim)],
    [REALM_CLAIM.extensibleMeasurements, rems.map(shown)],
  ])
  return sign1(encodeCbor(claims), rak.privateKey)
}

/** The platform part, signed with the CPAK: the same for every Realm, as its challenge is the hash of the RAK. */
export function platformPart(machine: Platform): Uint8Array {
  const claims = new Map<number, Cbor>([
    [PLATFORM_CLAIM.profile, PLATFORM_PROFILE],
    [PLATFORM_CLAIM.challenge, hash('sha256', coseKey(machine.rak.publicKey), 'buffer')],
    [PLATFORM_CLAIM.implementationId, machine.implementationId],
    [PLATFORM_CLAIM.instanceId, machine.instanceId],
    [PLATFORM_CLAIM.configuration, machine.configuration],
    [PLATFORM_CLAIM.lifecycle, machine.lifecycle],
    [PLATFORM_CLAIM.hashAlgorithm, KEY_HASH],
    [PLATFORM_CLAIM.verificationService, machine.verificationService],
    [PLATFORM_CLAIM.softwareComponents, machine.components.map(componentMap)],
  ])
  return sign1(encodeCbor(claims), machine.cpak.privateKey)
}

const componentMap = ({ type, version, measurement, signer }: Platform['components'][number]) =>
  new Map<number, Cbor>([
    [COMPONENT.type, type],
    [COMPONENT.signer, signer],
    [COMPONENT.measurement, measurement],
    [COMPONENT.version, version],
    [COMPONENT.hashAlgorithm, KEY_HASH],
  ])

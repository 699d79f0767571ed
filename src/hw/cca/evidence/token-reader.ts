import type { PublicKey } from '../../shared/ecdsa.ts'
import { decodeCbor, TAG, untagged } from './cbor.ts'
import { type ClaimReader, claimReader, type Refused, refused } from './claim-reader.ts'
import { COMPONENT, PART, PLATFORM_CLAIM, PLATFORM_PROFILE, REALM_CLAIM, REALM_PROFILE } from './claims.ts'
import { readKey, readSign1, type Sign1 } from './cose.ts'

export type RealmClaims = {
  readonly challenge: Uint8Array
  readonly profile: string
  readonly personalizationValue: Uint8Array
  readonly hashAlgorithm: string
  /** The claim's own bytes, which the platform's challenge is the hash of, and the key in them. */
  readonly publicKeyBytes: Uint8Array
  readonly publicKey: PublicKey
  readonly initialMeasurement: Uint8Array
  readonly extensibleMeasurements: readonly Uint8Array[]
  readonly publicKeyHashAlgorithm: string
}
export type ComponentClaims = {
  readonly type: string
  readonly measurement: Uint8Array
  readonly version: string
  readonly signer: Uint8Array
  readonly hashAlgorithm: string
}
export type PlatformClaims = {
  readonly challenge: Uint8Array
  readonly profile: string
  readonly instanceId: Uint8Array
  readonly lifecycle: number
  readonly implementationId: Uint8Array
  readonly softwareComponents: readonly ComponentClaims[]
  readonly verificationService: string
  readonly configuration: Uint8Array
  readonly hashAlgorithm: string
}
export type Token = {
  readonly ok: true
  readonly platform: { readonly sign1: Sign1; readonly claims: PlatformClaims }
  readonly realm: { readonly sign1: Sign1; readonly claims: RealmClaims }
}

const WIDTH_OF: ReadonlyMap<string, number> = new Map([
  ['sha-256', 32],
  ['sha-384', 48],
  ['sha-512', 64],
])
const HASHES = [...WIDTH_OF.keys()]
const WIDTHS = [...WIDTH_OF.values()]
const REMS = 4

/** Takes a token apart (arm-cca.md 8.1), claims in any order. Signatures and the binding are for the caller to check. */
export function readToken(bytes: Uint8Array): Token | Refused {
  const parts = untagged(TAG.ccaToken, decodeCbor(bytes))
  if (!(parts instanceof Map)) return refused('token', 'It is no CBOR tag 399 over a map.')
  const platform = readPart('platform', parts.get(PART.platform), platformClaims)
  if (!platform.ok) return platform
  const realm = readPart('realm', parts.get(PART.realm), realmClaims)
  return realm.ok ? { ok: true, platform, realm } : realm
}

type Part<Claims> = { readonly ok: true; readonly sign1: Sign1; readonly claims: Claims }

function readPart<Claims>(name: string, bytes: unknown, read: (reader: ClaimReader) => Claims): Part<Claims> | Refused {
  const sign1 = bytes instanceof Uint8Array ? readSign1(bytes) : undefined
  if (sign1 === undefined) return refused(name, 'It is no COSE_Sign1 of ES384.')
  const reader = claimReader(name, decodeCbor(sign1.payload))
  const claims = read(reader)
  return reader.refusal ?? { ok: true, sign1, claims }
}

function realmClaims(reader: ClaimReader): RealmClaims {
  const hashAlgorithm = reader.text('hashAlgorithm', REALM_CLAIM.hashAlgorithm, HASHES)
  const width = [WIDTH_OF.get(hashAlgorithm) ?? 0]
  const publicKeyBytes = reader.bytes('publicKey', REALM_CLAIM.publicKey)
  const publicKey = readKey(publicKeyBytes)
  reader.expect('publicKey', publicKey !== undefined, 'It is no key on P-384.')
  const rems = reader.list('extensibleMeasurements', REALM_CLAIM.extensibleMeasurements)
  const areDigests = rems.every((rem) => rem instanceof Uint8Array && rem.length === width[0])
  reader.expect('extensibleMeasurements', rems.length === REMS && areDigests, 'They are not four digests.')
  return {
    challenge: reader.bytes('challenge', REALM_CLAIM.challenge, [64]),
    profile: reader.text('profile', REALM_CLAIM.profile, [REALM_PROFILE]),
    personalizationValue: reader.bytes('personalizationValue', REALM_CLAIM.personalizationValue, [64]),
    hashAlgorithm,
    publicKeyBytes,
    publicKey: publicKey ?? { qx: new Uint8Array(0), qy: new Uint8Array(0) },
    initialMeasurement: reader.bytes('initialMeasurement', REALM_CLAIM.initialMeasurement, width),
    extensibleMeasurements: rems.filter((rem) => rem instanceof Uint8Array),
    publicKeyHashAlgorithm: reader.text('publicKeyHashAlgorithm', REALM_CLAIM.publicKeyHashAlgorithm, HASHES),
  }
}

function platformClaims(reader: ClaimReader): PlatformClaims {
  const components = reader.list('softwareComponents', PLATFORM_CLAIM.softwareComponents)
  const read = components.map((component, index) => componentClaims(component, index, reader))
  const instanceId = reader.bytes('instanceId', PLATFORM_CLAIM.instanceId, [33])
  reader.expect('instanceId', instanceId[0] === 1, 'Its first byte is not 01.')
  return {
    challenge: reader.bytes('challenge', PLATFORM_CLAIM.challenge, WIDTHS),
    profile: reader.text('profile', PLATFORM_CLAIM.profile, [PLATFORM_PROFILE]),
    instanceId,
    lifecycle: reader.number('lifecycle', PLATFORM_CLAIM.lifecycle),
    implementationId: reader.bytes('implementationId', PLATFORM_CLAIM.implementationId, [32]),
    softwareComponents: read,
    verificationService: reader.has(PLATFORM_CLAIM.verificationService)
      ? reader.text('verificationService', PLATFORM_CLAIM.verificationService)
      : '',
    configuration: reader.bytes('configuration', PLATFORM_CLAIM.configuration),
    hashAlgorithm: reader.text('hashAlgorithm', PLATFORM_CLAIM.hashAlgorithm, HASHES),
  }
}

/** Type, version and hash algorithm may be left out. */
function componentClaims(component: unknown, index: number, platform: ClaimReader): ComponentClaims {
  const part = `softwareComponents[${index}]`
  const reader = claimReader(part, component)
  const optional = (field: string, key: number): string => (reader.has(key) ? reader.text(field, key) : '')
  const claims = {
    type: optional('type', COMPONENT.type),
    measurement: reader.bytes('measurement', COMPONENT.measurement, WIDTHS),
    version: optional('version', COMPONENT.version),
    signer: reader.bytes('signer', COMPONENT.signer, WIDTHS),
    hashAlgorithm: optional('hashAlgorithm', COMPONENT.hashAlgorithm),
  }
  const { refusal: { field, detail } = { field: '', detail: '' } } = reader.refusal ?? {}
  platform.expect(field, reader.refusal === undefined, detail)
  return claims
}

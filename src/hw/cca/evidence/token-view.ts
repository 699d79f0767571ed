import { hexOf, toHex } from '../../shared/hex.ts'
import type { Refused } from './claim-reader.ts'
import { readToken } from './token-reader.ts'

/** A token's claims as JSON: byte strings as plain hex, the lifecycle as a hex string with 0x. */
export function describeToken(
  bytes: Uint8Array,
): { readonly ok: true; readonly fields: Readonly<Record<string, unknown>> } | Refused {
  const token = readToken(bytes)
  if (!token.ok) return token
  const { realm, platform } = token
  return {
    ok: true,
    fields: {
      realm: {
        profile: realm.claims.profile,
        challenge: hexOf(realm.claims.challenge),
        personalizationValue: hexOf(realm.claims.personalizationValue),
        hashAlgorithm: realm.claims.hashAlgorithm,
        initialMeasurement: hexOf(realm.claims.initialMeasurement),
        extensibleMeasurements: realm.claims.extensibleMeasurements.map(hexOf),
        publicKey: hexOf(realm.claims.publicKeyBytes),
        publicKeyHashAlgorithm: realm.claims.publicKeyHashAlgorithm,
        signature: hexOf(realm.sign1.signature),
      },
      platform: {
        profile: platform.claims.profile,
        challenge: hexOf(platform.claims.challenge),
        instanceId: hexOf(platform.claims.instanceId),
        implementationId: hexOf(platform.claims.implementationId),
        lifecycle: toHex(platform.claims.lifecycle),
        configuration: hexOf(platform.claims.configuration),
        hashAlgorithm: platform.claims.hashAlgorithm,
        verificationService: platform.claims.verificationService,
        softwareComponents: platform.claims.softwareComponents.map(
          ({ type, version, measurement, signer, hashAlgorithm }) => ({
            type,
            version,
            measurement: hexOf(measurement),
            signer: hexOf(signer),
            hashAlgorithm,
          }),
        ),
        signature: hexOf(platform.sign1.signature),
      },
    },
  }
}

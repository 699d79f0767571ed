import {
  authorityConstraints,
  authorityUsage,
  ecPublicKeyInfo,
  endEntityConstraints,
  extension,
  type IssuedCertificate,
  signatureUsage,
} from '../../shared/certificate-writer.ts'
import { ecdsaAuthority, issueBy } from '../../shared/ecdsa-authority.ts'
import type { Platform } from './platform.ts'
import { SGX_EXTENSION_OID, sgxExtension } from './sgx-extension.ts'
import { SIMULATED_PLATFORM_CA_KEY, SIMULATED_ROOT_KEY } from './simulated-vendor-keys.ts'

export type PckChain = {
  readonly pck: IssuedCertificate
  readonly platformCa: IssuedCertificate
  readonly root: IssuedCertificate
}

const ROOT = 'gmemd SGX Root CA SIMULATED'
const PLATFORM_CA = 'gmemd SGX PCK Platform CA SIMULATED'
const PCK = 'gmemd SGX PCK Certificate SIMULATED'

/**
 * The chain of one emulated machine: PCK leaf, PCK Platform CA and Root CA in the vendor's shape, with names that say
 * what they are. The upper two are the same for every machine; their keys are public and prove nothing. There are no
 * CRL distribution points: nobody revokes these.
 */
export function pckChain(machine: Platform): PckChain {
  const root = ecdsaAuthority('p256', ROOT, SIMULATED_ROOT_KEY)
  const platformCa = ecdsaAuthority('p256', PLATFORM_CA, SIMULATED_PLATFORM_CA_KEY)
  const pckKey = ecPublicKeyInfo('p256', machine.pck.publicKey)
  return {
    root: issueBy(root, ROOT, root.publicKey, [authorityUsage(), authorityConstraints(1)]),
    platformCa: issueBy(root, PLATFORM_CA, platformCa.publicKey, [authorityUsage(), authorityConstraints(0)]),
    pck: issueBy(platformCa, PCK, pckKey, [
      signatureUsage(),
      endEntityConstraints(),
      extension(SGX_EXTENSION_OID, sgxExtension(machine)),
    ]),
  }
}

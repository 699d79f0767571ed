import {
  authorityConstraints,
  authorityUsage,
  ecPublicKeyInfo,
  endEntityConstraints,
  type IssuedCertificate,
  signatureUsage,
} from '../../shared/certificate-writer.ts'
import { ecdsaAuthority, issueBy } from '../../shared/ecdsa-authority.ts'
import type { Platform } from './platform.ts'
import { SIMULATED_ROOT_KEY } from './simulated-vendor-keys.ts'

export type CpakChain = { readonly cpak: IssuedCertificate; readonly root: IssuedCertificate }

const ROOT = 'gmemd CCA Root CA SIMULATED'
const CPAK = 'gmemd CCA CPAK SIMULATED'

/**
 * What vouches for one emulated machine's platform key. CCA itself has no certificates: a real verifier knows CPAKs by
 * their instance ID. The root is the same for every machine; its key is public and proves nothing.
 */
export function cpakChain({ cpak }: Platform): CpakChain {
  const root = ecdsaAuthority('p384', ROOT, SIMULATED_ROOT_KEY)
  return {
    root: issueBy(root, ROOT, root.publicKey, [authorityUsage(), authorityConstraints(0)]),
    cpak: issueBy(root, CPAK, ecPublicKeyInfo('p384', cpak.publicKey), [signatureUsage(), endEntityConstraints()]),
  }
}

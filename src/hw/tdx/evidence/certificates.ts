import { createPrivateKey } from 'node:crypto'
import {
  authorityConstraints,
  authorityKeyIdentifier,
  authorityUsage,
  ecPublicKeyInfo,
  endEntityConstraints,
  extension,
  type IssuedCertificate,
  issue,
  keyIdentifier,
  type Signer,
  signatureUsage,
  subjectKeyIdentifier,
} from '../../shared/certificate-writer.ts'
import * as der from '../../shared/der.ts'
import { p256 } from '../../shared/ecdsa.ts'
import type { Platform } from './platform.ts'
import { SGX_EXTENSION_OID, sgxExtension } from './sgx-extension.ts'
import { SIMULATED_PLATFORM_CA_KEY, SIMULATED_ROOT_KEY } from './simulated-vendor-keys.ts'

export type PckChain = {
  readonly pck: IssuedCertificate
  readonly platformCa: IssuedCertificate
  readonly root: IssuedCertificate
}

const ECDSA_WITH_SHA256 = der.sequence(der.oid('1.2.840.10045.4.3.2'))
const ROOT = 'gmemd SGX Root CA SIMULATED'
const PLATFORM_CA = 'gmemd SGX PCK Platform CA SIMULATED'
const PCK = 'gmemd SGX PCK Certificate SIMULATED'

/**
 * The chain of one emulated machine: PCK leaf, PCK Platform CA and Root CA in the vendor's shape, with names that say
 * what they are. The upper two are the same for every machine; their keys are public and prove nothing. There are no
 * CRL distribution points: nobody revokes these.
 */
export function pckChain(machine: Platform): PckChain {
  const root = authority(SIMULATED_ROOT_KEY)
  const platformCa = authority(SIMULATED_PLATFORM_CA_KEY)
  const pckKey = ecPublicKeyInfo('p256', machine.pck.publicKey)
  return {
    root: issueBy(root, ROOT, ROOT, root.publicKey, [authorityUsage(), authorityConstraints(1)]),
    platformCa: issueBy(root, ROOT, PLATFORM_CA, platformCa.publicKey, [authorityUsage(), authorityConstraints(0)]),
    pck: issueBy(platformCa, PLATFORM_CA, PCK, pckKey, [
      signatureUsage(),
      endEntityConstraints(),
      extension(SGX_EXTENSION_OID, sgxExtension(machine)),
    ]),
  }
}

type Authority = { readonly publicKey: Buffer; readonly signer: Signer }

function authority(pem: string): Authority {
  const { d = '' } = createPrivateKey(pem).export({ format: 'jwk' })
  const privateKey = Buffer.from(d, 'base64url')
  return {
    publicKey: ecPublicKeyInfo('p256', p256.publicKeyOf(privateKey)),
    signer: { algorithm: ECDSA_WITH_SHA256, sign: (tbs) => ecdsaSigValue(tbs, privateKey) },
  }
}

/** As Intel does, a certificate's serial number is its key's identifier. */
const issueBy = (
  issuer: Authority,
  issuerName: string,
  subject: string,
  publicKey: Buffer,
  extensions: readonly Buffer[],
): IssuedCertificate =>
  issue({
    serial: keyIdentifier(publicKey),
    issuer: issuerName,
    subject,
    publicKey,
    extensions: [authorityKeyIdentifier(issuer.publicKey), subjectKeyIdentifier(publicKey), ...extensions],
    signer: issuer.signer,
  })

/** Ecdsa-Sig-Value (RFC 5480): R and S as two integers. */
function ecdsaSigValue(message: Uint8Array, privateKey: Uint8Array): Buffer {
  const { r, s } = p256.sign(message, privateKey)
  return der.sequence(der.unsigned(r), der.unsigned(s))
}

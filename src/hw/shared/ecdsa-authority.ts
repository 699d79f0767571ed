import { createPrivateKey } from 'node:crypto'
import {
  authorityKeyIdentifier,
  ecPublicKeyInfo,
  type IssuedCertificate,
  issue,
  keyIdentifier,
  type Signer,
  subjectKeyIdentifier,
} from './certificate-writer.ts'
import * as der from './der.ts'
import { type Ecdsa, p256, p384 } from './ecdsa.ts'

/** Who issues certificates, by its common name; `publicKey` is its SubjectPublicKeyInfo. */
export type Authority = { readonly name: string; readonly publicKey: Buffer; readonly signer: Signer }

/** Each curve with the signature's OID: ecdsa-with-SHA256, ecdsa-with-SHA384. */
const CURVES = {
  p256: { ecdsa: p256, algorithm: '1.2.840.10045.4.3.2' },
  p384: { ecdsa: p384, algorithm: '1.2.840.10045.4.3.3' },
} as const

/** An authority from its private key, as PEM. */
export function ecdsaAuthority(curve: keyof typeof CURVES, name: string, pem: string): Authority {
  const { ecdsa, algorithm } = CURVES[curve]
  const { d = '' } = createPrivateKey(pem).export({ format: 'jwk' })
  const privateKey = Buffer.from(d, 'base64url')
  return {
    name,
    publicKey: ecPublicKeyInfo(curve, ecdsa.publicKeyOf(privateKey)),
    signer: {
      algorithm: der.sequence(der.oid(algorithm)),
      sign: (tbs) => ecdsaSigValue(ecdsa, tbs, privateKey),
    },
  }
}

/** A certificate whose serial number is its key's identifier, as Intel does it. */
export const issueBy = (
  issuer: Authority,
  subject: string,
  publicKey: Buffer,
  extensions: readonly Buffer[],
): IssuedCertificate =>
  issue({
    serial: keyIdentifier(publicKey),
    issuer: issuer.name,
    subject,
    publicKey,
    extensions: [authorityKeyIdentifier(issuer.publicKey), subjectKeyIdentifier(publicKey), ...extensions],
    signer: issuer.signer,
  })

/** Ecdsa-Sig-Value (RFC 5480): R and S as two integers. */
function ecdsaSigValue(ecdsa: Ecdsa, message: Uint8Array, privateKey: Uint8Array): Buffer {
  const { r, s } = ecdsa.sign(message, privateKey)
  return der.sequence(der.unsigned(r), der.unsigned(s))
}

import { hash } from 'node:crypto'
import * as der from './der.ts'
import { type PublicKey, uncompressed } from './ecdsa.ts'

/** `pem` ends with a line feed. */
export type IssuedCertificate = { readonly der: Buffer; readonly pem: string; readonly subject: string }

export type Issue = {
  /** Big-endian and unsigned, at most 20 bytes. */
  readonly serial: Uint8Array
  /** Common names; see {@link IssuedCertificate} `subject`. */
  readonly issuer: string
  readonly subject: string
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  readonly extensions: readonly Uint8Array[]
  readonly signer: Signer
}

/** An issuer's key: `algorithm` is the AlgorithmIdentifier (DER) of what `sign` gives. */
export type Signer = { readonly algorithm: Uint8Array; sign(tbs: Uint8Array): Uint8Array }

/** Fixed dates: evidence knows no clock. */
const NOT_BEFORE = '240101000000Z'
const NOT_AFTER = '491231235959Z'

const OID = {
  organization: '2.5.4.10',
  organizationalUnit: '2.5.4.11',
  commonName: '2.5.4.3',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  ecPublicKey: '1.2.840.10045.2.1',
  p256: '1.2.840.10045.3.1.7',
  p384: '1.3.132.0.34',
} as const

/** An X.509 v3 certificate of the emulated hardware. Both names say, beside their common name, that it is simulated. */
export function issue({ serial, issuer, subject, publicKey, extensions, signer }: Issue): IssuedCertificate {
  const tbs = der.sequence(
    der.explicit(0, der.integer(2)),
    der.unsigned(serial),
    signer.algorithm,
    name(issuer),
    der.sequence(der.utcTime(NOT_BEFORE), der.utcTime(NOT_AFTER)),
    name(subject),
    publicKey,
    der.explicit(3, der.sequence(...extensions)),
  )
  const bytes = der.sequence(tbs, signer.algorithm, der.bitString(signer.sign(tbs)))
  const lines = bytes.toString('base64').match(/.{1,64}/g) ?? []
  const pem = ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n')
  return { der: bytes, pem, subject }
}

/** SubjectPublicKeyInfo (RFC 5480), DER. */
export const ecPublicKeyInfo = (curve: 'p256' | 'p384', key: PublicKey): Buffer =>
  der.sequence(der.sequence(der.oid(OID.ecPublicKey), der.oid(OID[curve])), der.bitString(uncompressed(key)))

export const extension = (type: string, value: Uint8Array, critical = false): Buffer =>
  der.sequence(der.oid(type), ...(critical ? [der.boolean(true)] : []), der.octetString(value))

/** Both vendors name a key by the SHA-1 of its whole SubjectPublicKeyInfo: 20 bytes. */
export const keyIdentifier = (publicKey: Uint8Array): Buffer => hash('sha1', publicKey, 'buffer')

export const subjectKeyIdentifier = (publicKey: Uint8Array): Buffer =>
  extension(OID.subjectKeyIdentifier, der.octetString(keyIdentifier(publicKey)))

export const authorityKeyIdentifier = (issuerKey: Uint8Array): Buffer =>
  extension(OID.authorityKeyIdentifier, der.sequence(der.tagged(0x80, keyIdentifier(issuerKey))))

/** Of an authority below which `pathLength` more authorities may stand; any number when left out. */
export const authorityConstraints = (pathLength?: number): Buffer =>
  extension(
    OID.basicConstraints,
    der.sequence(der.boolean(true), ...(pathLength === undefined ? [] : [der.integer(pathLength)])),
    true,
  )

/** Of a certificate that is no authority. */
export const endEntityConstraints = (): Buffer => extension(OID.basicConstraints, der.sequence(), true)

export const authorityUsage = (): Buffer => extension(OID.keyUsage, KEY_CERT_SIGN_AND_CRL_SIGN, true)

/** Digital signature and non-repudiation. */
export const signatureUsage = (): Buffer => extension(OID.keyUsage, DIGITAL_SIGNATURE_AND_NON_REPUDIATION, true)

const DIGITAL_SIGNATURE_AND_NON_REPUDIATION = der.bitString(Buffer.from([0xc0]), 6)
const KEY_CERT_SIGN_AND_CRL_SIGN = der.bitString(Buffer.from([0x06]), 1)

function name(commonName: string): Buffer {
  const attribute = (type: string, value: string): Buffer => der.set(der.sequence(der.oid(type), der.utf8(value)))
  return der.sequence(
    attribute(OID.organizationalUnit, 'SIMULATED hardware, proves nothing'),
    attribute(OID.organization, 'gmemd'),
    attribute(OID.commonName, commonName),
  )
}

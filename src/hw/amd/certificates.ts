import { createPrivateKey, createPublicKey, hash, type KeyObject } from 'node:crypto'
import * as der from './der.ts'
import { uncompressed } from './p384.ts'
import { type PlatformIdentity, type ProductName, platform } from './platform-keys.ts'
import { signPss } from './rsa-pss.ts'
import { SIMULATED_ARK_KEY, SIMULATED_ASK_KEY } from './simulated-vendor-keys.ts'
import type { Tcb } from './tcb.ts'

export type Certificate = { readonly der: Buffer; readonly pem: string; readonly subject: string }
export type CertificateChain = { readonly ark: Certificate; readonly ask: Certificate; readonly vcek: Certificate }

/** Fixed dates: evidence knows no clock. */
const NOT_BEFORE = '240101000000Z'
const NOT_AFTER = '491231235959Z'

const OID = {
  rsassaPss: '1.2.840.113549.1.1.10',
  mgf1: '1.2.840.113549.1.1.8',
  sha384: '2.16.840.1.101.3.4.2.2',
  ecPublicKey: '1.2.840.10045.2.1',
  secp384r1: '1.3.132.0.34',
  organization: '2.5.4.10',
  organizationalUnit: '2.5.4.11',
  commonName: '2.5.4.3',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
} as const

/** AMD's own extensions (amd-sev-snp.md e); real certificates also carry four unused versions, 4 to 7, as zero. */
const AMD = '1.3.6.1.4.1.3704.1'
export const AMD_OID = {
  structVersion: `${AMD}.1`,
  productName: `${AMD}.2`,
  bootloader: `${AMD}.3.1`,
  tee: `${AMD}.3.2`,
  snp: `${AMD}.3.3`,
  spl4: `${AMD}.3.4`,
  spl5: `${AMD}.3.5`,
  spl6: `${AMD}.3.6`,
  spl7: `${AMD}.3.7`,
  microcode: `${AMD}.3.8`,
  fmc: `${AMD}.3.9`,
  hwId: `${AMD}.4`,
} as const

const KEY_CERT_SIGN_AND_CRL_SIGN = der.bitString(Buffer.from([0x06]), 1)

/**
 * The chain of one emulated machine: ARK, ASK and VCEK in the vendor's shape, with names that say what they are.
 * The upper two are the same for every machine of a product; their keys are public and prove nothing.
 */
export function certificateChain(seed: string, product: ProductName = 'Genoa', tcb?: Tcb): CertificateChain {
  return chainOf(platform(seed, product, tcb))
}

export function chainOf(machine: PlatformIdentity): CertificateChain {
  const arkKey = createPrivateKey(SIMULATED_ARK_KEY)
  const askKey = createPrivateKey(SIMULATED_ASK_KEY)
  const arkName = `ARK-gmemd-${machine.product} SIMULATED`
  const askName = `SEV-gmemd-${machine.product} SIMULATED`
  const ark = issue({
    serial: 1,
    issuer: arkName,
    subject: arkName,
    publicKey: spkiOf(arkKey),
    extensions: authority(spkiOf(arkKey)),
    key: arkKey,
  })
  const ask = issue({
    serial: 2,
    issuer: arkName,
    subject: askName,
    publicKey: spkiOf(askKey),
    extensions: authority(spkiOf(askKey), spkiOf(arkKey)),
    key: arkKey,
  })
  const vcek = issue({
    serial: 0,
    issuer: askName,
    subject: 'SEV-VCEK gmemd SIMULATED',
    publicKey: vcekSpki(machine),
    extensions: vcekExtensions(machine),
    key: askKey,
  })
  return { ark, ask, vcek }
}

type Issue = {
  readonly serial: number
  readonly issuer: string
  readonly subject: string
  readonly publicKey: Buffer
  readonly extensions: readonly Buffer[]
  readonly key: KeyObject
}

function issue({ serial, issuer, subject, publicKey, extensions, key }: Issue): Certificate {
  const tbs = der.sequence(
    der.explicit(0, der.integer(2)),
    der.integer(serial),
    PSS_SHA384,
    name(issuer),
    der.sequence(der.utcTime(NOT_BEFORE), der.utcTime(NOT_AFTER)),
    name(subject),
    publicKey,
    der.explicit(3, der.sequence(...extensions)),
  )
  const bytes = der.sequence(tbs, PSS_SHA384, der.bitString(signPss(tbs, key)))
  const lines = bytes.toString('base64').match(/.{1,64}/g) ?? []
  const pem = ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n')
  return { der: bytes, pem, subject }
}

const SHA384 = der.sequence(der.oid(OID.sha384), der.nothing())
const PSS_SHA384 = der.sequence(
  der.oid(OID.rsassaPss),
  der.sequence(
    der.explicit(0, SHA384),
    der.explicit(1, der.sequence(der.oid(OID.mgf1), SHA384)),
    der.explicit(2, der.integer(48)),
  ),
)

const name = (commonName: string): Buffer => {
  const attribute = (type: string, value: string): Buffer => der.set(der.sequence(der.oid(type), der.utf8(value)))
  return der.sequence(
    attribute(OID.organizationalUnit, 'SIMULATED hardware, proves nothing'),
    attribute(OID.organization, 'gmemd'),
    attribute(OID.commonName, commonName),
  )
}

const extension = (type: string, value: Uint8Array, critical = false): Buffer =>
  der.sequence(der.oid(type), ...(critical ? [der.boolean(true)] : []), der.octetString(value))

/** Extensions of a certificate authority; `issuer` is left out where it signs itself. */
function authority(subject: Buffer, issuer?: Buffer): Buffer[] {
  const constraints = issuer === undefined ? [der.boolean(true)] : [der.boolean(true), der.integer(0)]
  return [
    extension(OID.subjectKeyIdentifier, der.octetString(keyIdentifier(subject))),
    ...(issuer === undefined
      ? []
      : [extension(OID.authorityKeyIdentifier, der.sequence(der.tagged(0x80, keyIdentifier(issuer))))]),
    extension(OID.basicConstraints, der.sequence(...constraints), true),
    extension(OID.keyUsage, KEY_CERT_SIGN_AND_CRL_SIGN, true),
  ]
}

function vcekExtensions({ productName, reportedTcb, chipId, chipIdBytes }: PlatformIdentity): Buffer[] {
  const { fmc, bootloader, tee, snp, microcode } = reportedTcb
  const spl = (type: string, value: number): Buffer => extension(type, der.integer(value))
  return [
    spl(AMD_OID.structVersion, fmc === undefined ? 0 : 1),
    extension(AMD_OID.productName, der.ia5(productName)),
    ...(fmc === undefined ? [] : [spl(AMD_OID.fmc, fmc)]),
    spl(AMD_OID.bootloader, bootloader),
    spl(AMD_OID.tee, tee),
    spl(AMD_OID.snp, snp),
    ...(fmc === undefined ? [spl(AMD_OID.spl4, 0)] : []),
    ...[AMD_OID.spl5, AMD_OID.spl6, AMD_OID.spl7].map((type) => spl(type, 0)),
    spl(AMD_OID.microcode, microcode),
    // The chip id is the extension's bare value, not an OCTET STRING inside it.
    extension(AMD_OID.hwId, chipId.subarray(0, chipIdBytes)),
  ]
}

const spkiOf = (key: KeyObject): Buffer => createPublicKey(key).export({ type: 'spki', format: 'der' })
const keyIdentifier = (spki: Buffer): Buffer => hash('sha1', spki, 'buffer')
const vcekSpki = ({ vcekPublic }: PlatformIdentity): Buffer =>
  der.sequence(der.sequence(der.oid(OID.ecPublicKey), der.oid(OID.secp384r1)), der.bitString(uncompressed(vcekPublic)))

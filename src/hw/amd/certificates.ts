import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import {
  authorityConstraints,
  authorityKeyIdentifier,
  authorityUsage,
  ecPublicKeyInfo,
  extension,
  type IssuedCertificate,
  issue,
  type Signer,
  subjectKeyIdentifier,
} from '../shared/certificate-writer.ts'
import * as der from '../shared/der.ts'
import { type PlatformIdentity, type ProductName, platform } from './platform-keys.ts'
import { signPss } from './rsa-pss.ts'
import { SIMULATED_ARK_KEY, SIMULATED_ASK_KEY } from './simulated-vendor-keys.ts'
import type { Tcb } from './tcb.ts'

export type CertificateChain = {
  readonly ark: IssuedCertificate
  readonly ask: IssuedCertificate
  readonly vcek: IssuedCertificate
}

const OID = {
  rsassaPss: '1.2.840.113549.1.1.10',
  mgf1: '1.2.840.113549.1.1.8',
  sha384: '2.16.840.1.101.3.4.2.2',
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
    serial: Uint8Array.of(1),
    issuer: arkName,
    subject: arkName,
    publicKey: spkiOf(arkKey),
    extensions: authority(spkiOf(arkKey)),
    signer: pssSigner(arkKey),
  })
  const ask = issue({
    serial: Uint8Array.of(2),
    issuer: arkName,
    subject: askName,
    publicKey: spkiOf(askKey),
    extensions: authority(spkiOf(askKey), spkiOf(arkKey)),
    signer: pssSigner(arkKey),
  })
  const vcek = issue({
    serial: Uint8Array.of(0),
    issuer: askName,
    subject: 'SEV-VCEK gmemd SIMULATED',
    publicKey: ecPublicKeyInfo('p384', machine.vcekPublic),
    extensions: vcekExtensions(machine),
    signer: pssSigner(askKey),
  })
  return { ark, ask, vcek }
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

const pssSigner = (key: KeyObject): Signer => ({ algorithm: PSS_SHA384, sign: (tbs) => signPss(tbs, key) })

/** Extensions of a certificate authority; `issuer` is left out where it signs itself. */
const authority = (subject: Buffer, issuer?: Buffer): Buffer[] => [
  subjectKeyIdentifier(subject),
  ...(issuer === undefined ? [] : [authorityKeyIdentifier(issuer)]),
  authorityConstraints(issuer === undefined ? undefined : 0),
  authorityUsage(),
]

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

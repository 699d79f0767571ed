import { verify, type X509Certificate } from 'node:crypto'

/** An SEV-SNP attestation report: 1184 bytes, of which the first 672 are signed with ECDSA P-384 and SHA-384. */
const SIGNED = 0x2a0
const COMPONENT = 72
const BYTES = 48

export function parseReport(report: Buffer) {
  return {
    version: report.readUInt32LE(0),
    policy: report.readBigUInt64LE(8),
    reportData: report.subarray(0x50, 0x90),
    measurement: report.toString('hex', 0x90, 0xc0),
  }
}

/** R and S are little-endian numbers in 72 bytes each; node:crypto wants 48 big-endian bytes of each. */
export function isSignedBy(report: Buffer, certificate: X509Certificate): boolean {
  const [r, s] = [0, 1].map((index) => {
    const at = SIGNED + index * COMPONENT
    return Buffer.from(report.subarray(at, at + BYTES)).reverse()
  })
  if (r === undefined || s === undefined) return false
  const key = { key: certificate.publicKey, dsaEncoding: 'ieee-p1363' } as const
  return verify('sha384', report.subarray(0, SIGNED), key, Buffer.concat([r, s]))
}

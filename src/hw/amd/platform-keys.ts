import { hkdfSync } from 'node:crypto'
import { type PublicKey, p384 } from '../shared/ecdsa.ts'
import type { GuestIdentity } from './id-block.ts'
import { buildReport, type CpuId, type FirmwareVersion, signReport } from './report.ts'
import { encodeTcb, type Tcb, tcbLayout } from './tcb.ts'

export const PRODUCTS = ['Milan', 'Genoa', 'Turin'] as const
export type ProductName = (typeof PRODUCTS)[number]

type Product = {
  /** The certificate's product string. */
  readonly productName: string
  readonly cpuid: CpuId
  readonly firmware: FirmwareVersion
  readonly reportVersion: number
  readonly tcb: Tcb
  readonly chipIdBytes: number
  readonly platformInfo: bigint
  readonly mitVector: bigint
}

/**
 * Platforms as seen in the field (amd-sev-snp.md e): each firmware version with the report version it writes.
 * platform_info: SMT, ECC, alias check complete.
 */
const PRODUCT: Record<ProductName, Product> = {
  Milan: {
    productName: 'Milan-B0',
    cpuid: { familyExt: 25, model: 1, stepping: 1 },
    firmware: { major: 1, minor: 55, build: 29 },
    reportVersion: 3,
    tcb: { bootloader: 4, tee: 0, snp: 24, microcode: 219 },
    chipIdBytes: 64,
    platformInfo: 0x25n,
    mitVector: 0n,
  },
  Genoa: {
    productName: 'Genoa',
    cpuid: { familyExt: 25, model: 17, stepping: 1 },
    firmware: { major: 1, minor: 55, build: 49 },
    reportVersion: 5,
    tcb: { bootloader: 10, tee: 0, snp: 27, microcode: 88 },
    chipIdBytes: 64,
    platformInfo: 0x25n,
    mitVector: 0xbn,
  },
  Turin: {
    productName: 'Turin',
    cpuid: { familyExt: 26, model: 2, stepping: 1 },
    firmware: { major: 1, minor: 55, build: 65 },
    reportVersion: 5,
    tcb: { fmc: 1, bootloader: 1, tee: 1, snp: 4, microcode: 81 },
    chipIdBytes: 8,
    platformInfo: 0x25n,
    mitVector: 0x3fn,
  },
}

/** One emulated machine's identity: a pure function of the host's seed, the product and the reported TCB. */
export type PlatformIdentity = Product & {
  readonly product: ProductName
  readonly reportedTcb: Tcb
  /** 64 bytes as reports carry it; on Turin 8 bytes, then zeros. */
  readonly chipId: Uint8Array
  readonly vcekPrivate: Uint8Array
  readonly vcekPublic: PublicKey
}

/** The default platform is a Genoa with firmware 1.55.49, which writes version 5 reports. */
export function platform(seed: string, product: ProductName = 'Genoa', reportedTcb?: Tcb): PlatformIdentity {
  const traits = PRODUCT[product]
  const tcb = reportedTcb ?? traits.tcb
  const chipId = new Uint8Array(64)
  chipId.set(derive(seed, `chip id ${product}`, traits.chipIdBytes))
  // As on hardware, a chip has one VCEK for each TCB it reports.
  const tcbBytes = encodeTcb(tcb, tcbLayout(traits.cpuid.familyExt))
  const vcekPrivate = p384.scalarFrom(derive(seed, `vcek ${product} ${tcbBytes.toString('hex')}`, 72))
  return { ...traits, product, reportedTcb: tcb, chipId, vcekPrivate, vcekPublic: p384.publicKeyOf(vcekPrivate) }
}

/** Further bytes that a host's seed fixes: report ids, VM keys. */
export const derive = (seed: string, purpose: string, length: number): Buffer =>
  Buffer.from(hkdfSync('sha384', seed, 'gmemd simulated AMD platform v1', purpose, length))

export type GuestReportInputs = {
  readonly policy: bigint
  readonly measurement: Uint8Array
  /** 64 bytes that the guest asks to have signed. */
  readonly reportData: Uint8Array
  readonly hostData: Uint8Array
  /** 32 bytes, constant for a guest's life. */
  readonly reportId: Uint8Array
  readonly vmpl: number
  readonly identity: GuestIdentity
}

/** A guest's signed report. There is no migration agent, so report_id_ma is all ones (amd-sev-snp.md e). */
export function attest(machine: PlatformIdentity, guest: GuestReportInputs): Buffer {
  const { identity, ...fields } = guest
  const { reportedTcb: tcb, firmware } = machine
  const report = buildReport({
    ...fields,
    version: machine.reportVersion,
    guestSvn: identity.guestSvn,
    familyId: identity.familyId,
    imageId: identity.imageId,
    idKeyDigest: identity.idKeyDigest,
    authorKeyDigest: identity.authorKeyDigest,
    authorKeyEnabled: identity.authorKeyEnabled,
    signatureAlgo: 1,
    platformInfo: machine.platformInfo,
    signingKey: 'VCEK',
    maskChipKey: false,
    reportIdMa: new Uint8Array(32).fill(0xff),
    cpuid: machine.cpuid,
    chipId: machine.chipId,
    currentTcb: tcb,
    reportedTcb: tcb,
    committedTcb: tcb,
    launchTcb: tcb,
    currentVersion: firmware,
    committedVersion: firmware,
    launchMitVector: machine.mitVector,
    currentMitVector: machine.mitVector,
  })
  return signReport(report, machine.vcekPrivate)
}

import { extensionKey, readExtensions } from '../shared/certificate-reader.ts'
import * as der from '../shared/der.ts'
import { AMD_OID } from './certificates.ts'

/** What AMD's extensions of a VCEK or VLEK say: the TCB it was issued for, the chip and the product. */
export type EndorsementKeyExtensions = {
  readonly bootloader?: number
  readonly tee?: number
  readonly snp?: number
  readonly microcode?: number
  readonly fmc?: number
  readonly hwId?: string
  readonly productName?: string
}

const NUMBERS = ['bootloader', 'tee', 'snp', 'microcode', 'fmc'] as const

/** Reads AMD's extensions from a DER certificate (amd-sev-snp.md e), or undefined where it isn't one. */
export function readEndorsementKey(certificate: Uint8Array): EndorsementKeyExtensions | undefined {
  const extensions = readExtensions(certificate)
  if (extensions === undefined) return undefined
  const extensionValue = (oid: string): Buffer | undefined => extensions.get(extensionKey(oid))
  const found: { [name: string]: number | string } = {}
  for (const name of NUMBERS) {
    const element = integerIn(extensionValue(AMD_OID[name]))
    if (element !== undefined) found[name] = element
  }
  const hwId = extensionValue(AMD_OID.hwId)
  if (hwId !== undefined) found.hwId = hwId.toString('hex')
  const product = extensionValue(AMD_OID.productName)
  const text = product && der.readElement(product, 0)
  if (text !== undefined) found.productName = text.contents.toString('latin1')
  return found
}

function integerIn(value: Buffer | undefined): number | undefined {
  const element = value && der.readElement(value, 0)
  if (element === undefined || element.contents.length === 0 || element.contents.length > 5) return undefined
  return element.contents.readUIntBE(0, element.contents.length)
}

import { AMD_OID } from './certificates.ts'
import * as der from './der.ts'
import { view } from './hex.ts'

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

const EXTENSIONS_TAG = 0xa3
const NUMBERS = ['bootloader', 'tee', 'snp', 'microcode', 'fmc'] as const

/** Reads AMD's extensions from a DER certificate (amd-sev-snp.md e), or undefined where it isn't one. */
export function readEndorsementKey(certificate: Uint8Array): EndorsementKeyExtensions | undefined {
  const outer = der.readElement(view(certificate), 0)
  const tbs = outer && der.readElement(outer.contents, 0)
  const wrapped = tbs && der.readAll(tbs.contents)?.find(({ tag }) => tag === EXTENSIONS_TAG)
  const list = wrapped && der.readElement(wrapped.contents, 0)
  const extensions = list && der.readAll(list.contents)
  if (extensions === undefined) return undefined
  const values = new Map<string, Buffer>()
  for (const { contents } of extensions) {
    const parts = der.readAll(contents)
    const [type, value] = [parts?.[0], parts?.at(-1)]
    if (type === undefined || value === undefined) return undefined
    values.set(type.contents.toString('hex'), value.contents)
  }
  const extensionValue = (text: string): Buffer | undefined => values.get(der.oid(text).subarray(2).toString('hex'))
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

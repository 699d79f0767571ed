import { type ByteField, type ByteFields, readFields, writeFields } from './byte-fields.ts'

/** Which TDX module runs, by whom it is signed (zero: Intel), and its security version. */
export type SeamIdentity = { readonly seamAttributes: bigint } & ByteFields<Field>

type Field = 'teeTcbSvn' | 'mrseam' | 'mrsignerseam'

/** The same 120 bytes stand in TEE_TCB_INFO at 8 and at the start of a quote's body (intel-tdx.md e.3, e.4). */
export const SEAM_IDENTITY_BYTES = 120
const ATTRIBUTES_AT = 112
const FIELDS: readonly ByteField<Field>[] = [
  ['teeTcbSvn', 0, 16],
  ['mrseam', 16, 48],
  ['mrsignerseam', 64, 48],
]

export function writeSeamIdentity(target: Buffer, at: number, identity: SeamIdentity): void {
  writeFields(target, at, FIELDS, identity)
  target.writeBigUInt64LE(identity.seamAttributes, at + ATTRIBUTES_AT)
}

export const readSeamIdentity = (source: Buffer, at: number): SeamIdentity => ({
  ...readFields(source, at, FIELDS),
  seamAttributes: source.readBigUInt64LE(at + ATTRIBUTES_AT),
})

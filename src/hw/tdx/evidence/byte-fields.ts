/** A field of raw bytes in a fixed layout: offset and length in bytes. */
export type ByteField<Name extends string> = readonly [name: Name, offset: number, length: number]
export type ByteFields<Name extends string> = { readonly [name in Name]: Uint8Array }

/** Writes each field at `base` + its offset. A field of another length than the layout's is a bug: RangeError. */
export function writeFields<Name extends string>(
  target: Buffer,
  base: number,
  layout: readonly ByteField<Name>[],
  fields: ByteFields<Name>,
): void {
  for (const [name, offset, length] of layout) {
    const bytes = fields[name]
    if (bytes.length !== length) throw new RangeError(`${name} has ${bytes.length} bytes instead of ${length}`)
    target.set(bytes, base + offset)
  }
}

/** The inverse of {@link writeFields}: copies, so that the source may change afterwards. */
export const readFields = <Name extends string>(
  source: Uint8Array,
  base: number,
  layout: readonly ByteField<Name>[],
): ByteFields<Name> =>
  Object.fromEntries(
    layout.map(([name, offset, length]) => [
      name,
      Uint8Array.from(source.subarray(base + offset, base + offset + length)),
    ]),
  ) as ByteFields<Name>

import * as der from './der.ts'
import { view } from './hex.ts'

const EXTENSIONS_TAG = 0xa3

/** The extensions of a DER certificate, by OID in hex as DER encodes it; undefined where it isn't a certificate. */
export function readExtensions(certificate: Uint8Array): ReadonlyMap<string, Buffer> | undefined {
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
  return values
}

/** The key of {@link readExtensions} for an OID in its usual text. */
export const extensionKey = (oid: string): string => der.oid(oid).subarray(2).toString('hex')

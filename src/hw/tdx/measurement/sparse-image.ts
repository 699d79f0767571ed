import { type Refused, refuse } from '../../shared/refusal.ts'

export type SparseInputs = { readonly imageSize: number; readonly patches: readonly (readonly unknown[])[] }

const ENCODINGS: ReadonlyMap<unknown, RegExp> = new Map([
  ['hex', /^(?:[0-9a-fA-F]{2})*$/],
  ['base64', /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/],
])

/** `imageSize` zero bytes with patches over them, each `[offset, "hex" or "base64", data]`, in order. */
export function sparseImage({ imageSize, patches }: SparseInputs): { ok: true; image: Uint8Array } | Refused {
  const image = new Uint8Array(imageSize)
  for (const [index, [offset, encoding, data]] of patches.entries()) {
    const pattern = ENCODINGS.get(encoding)
    if (typeof offset !== 'number' || typeof data !== 'string' || !pattern?.test(data))
      return refuse('patch', 'A patch is [offset, "hex" or "base64", data].', `/patches/${index}`)
    const bytes = Buffer.from(data, encoding as 'hex' | 'base64')
    if (offset + bytes.length > imageSize)
      return refuse('patch-outside', `The patch ends beyond the image's ${imageSize} bytes.`, `/patches/${index}`)
    image.set(bytes, offset)
  }
  return { ok: true, image }
}

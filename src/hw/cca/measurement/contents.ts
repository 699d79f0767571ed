import { inflateSync } from 'node:zlib'
import { PAGE_BYTES } from './digest.ts'

/** Bytes as inputs give them, in the words of measure-schema.ts, with files already read. */
export type Contents =
  | Uint8Array
  | { readonly fill: number; readonly length?: number }
  | { readonly counter: number; readonly step?: number; readonly length?: number }
  | { readonly utf8: string }
  | { readonly hex: string }
  | { readonly zlib_base64: string }

/** Padded with zeros to whole pages, and one page at least; undefined where that would be more than `maxPages`, or is no zlib stream. */
export function contentsOf(contents: Contents, maxPages: number): Uint8Array | undefined {
  const bytes = bytesOf(contents, maxPages * PAGE_BYTES)
  if (bytes === undefined || bytes.length > maxPages * PAGE_BYTES) return undefined
  const padded = Math.max(1, Math.ceil(bytes.length / PAGE_BYTES)) * PAGE_BYTES
  if (padded === bytes.length) return bytes
  const pages = new Uint8Array(padded)
  pages.set(bytes)
  return pages
}

function bytesOf(contents: Contents, most: number): Uint8Array | undefined {
  if (contents instanceof Uint8Array) return contents
  if ('utf8' in contents) return Buffer.from(contents.utf8)
  if ('hex' in contents) return Buffer.from(contents.hex, 'hex')
  if ('zlib_base64' in contents) return inflated(contents.zlib_base64, most)
  const { length = PAGE_BYTES } = contents
  if (length > most) return undefined
  if ('fill' in contents) return new Uint8Array(length).fill(contents.fill)
  const bytes = new Uint8Array(length)
  const step = (contents.step ?? 1) % 256
  for (let index = 0, value = contents.counter % 256; index < length; index++, value = (value + step) % 256)
    bytes[index] = value
  return bytes
}

function inflated(base64: string, most: number): Uint8Array | undefined {
  try {
    return inflateSync(Buffer.from(base64, 'base64'), { maxOutputLength: most })
  } catch {
    return undefined // not zlib, cut off, or longer than asked for
  }
}

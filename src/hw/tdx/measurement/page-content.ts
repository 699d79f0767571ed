import { hash } from 'node:crypto'
import { PAGE_BYTES } from './blocks.ts'

/** What a page of an op holds, in the words of measure-schema.ts, with files already read. */
export type PageContent =
  | Uint8Array
  | { readonly fill: number }
  | { readonly counter: number }
  | { readonly seed: string }
  | { readonly hex: string }

const HASH_BYTES = 32
const ZERO_PAGE = new Uint8Array(PAGE_BYTES)

/** The 4096 bytes, or undefined where the content is longer than a page. None is a page of zeros. */
export function pageOf(content: PageContent | undefined): Uint8Array | undefined {
  if (content === undefined) return ZERO_PAGE
  if (content instanceof Uint8Array) return padded(content)
  if ('fill' in content) return new Uint8Array(PAGE_BYTES).fill(content.fill)
  if ('hex' in content) return padded(Buffer.from(content.hex, 'hex'))
  if ('seed' in content) return fromSeed(content.seed)
  const start = content.counter % 256
  return Uint8Array.from({ length: PAGE_BYTES }, (_, index) => (start + index) % 256)
}

function padded(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length > PAGE_BYTES) return undefined
  const page = new Uint8Array(PAGE_BYTES)
  page.set(bytes)
  return page
}

function fromSeed(text: string): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES)
  const input = Buffer.from(`${text}\0\0\0\0`)
  for (let at = 0; at < PAGE_BYTES; at += HASH_BYTES) {
    input.writeUInt32LE(at / HASH_BYTES, input.length - 4)
    page.set(hash('sha256', input, 'buffer'), at)
  }
  return page
}

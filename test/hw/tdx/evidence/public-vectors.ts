import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

/** One public sample: its bytes and its fields by name, hex in byte order and small integers as numbers. */
export type PublicVector = {
  readonly id: string
  readonly kind: 'quote' | 'tdreport'
  readonly bytes: Buffer
  readonly expect: Readonly<Record<string, string | number | boolean>>
}

type VectorFile = { vectors: (Omit<PublicVector, 'bytes'> & { input: { base64: string } })[] }

/** Other projects' binaries, never kept in this repository. */
const folder = path.join(import.meta.dirname, '..', '..', '..', '..', '..', 'shared', 'vectors')

export const NO_VECTORS = 'needs the shared vectors folder beside this repository, which is absent'

/** Real quotes and TDREPORTs; none where the shared vectors are not here. */
export const publicVectors: readonly PublicVector[] = ['tdx-quote-v4.json', 'tdx-quote-v5.json']
  .map((name) => path.join(folder, name))
  .filter((file) => existsSync(file))
  .flatMap((file) => (JSON.parse(readFileSync(file, 'utf8')) as VectorFile).vectors)
  .map(({ input, ...vector }) => ({ ...vector, bytes: Buffer.from(input.base64, 'base64') }))

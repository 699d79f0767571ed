import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

export type MrtdVector = {
  readonly id: string
  readonly kind: 'block' | 'mrtd-ops' | 'mrtd-image' | 'rtmr'
  readonly input: Readonly<Record<string, unknown>>
  readonly expect: Readonly<Record<string, unknown>>
}
type MrtdVectors = { readonly vectors: readonly MrtdVector[] }

const root = path.join(import.meta.dirname, '..', '..', '..', '..')
const read = (file: string): MrtdVectors => JSON.parse(readFileSync(file, 'utf8'))
const outside = path.join(root, '..', 'shared', 'vectors', 'tdx-mrtd.json')

/** Vectors kept in this repository, without contents that other projects made. */
export const mrtdVectors = read(path.join(root, 'test', 'vectors', 'tdx-mrtd.json')).vectors
const originals = existsSync(outside) ? read(outside).vectors : []

export const NO_VECTORS = 'needs the shared vectors folder beside this repository, which is absent'

/** A vector's inputs; undefined where a part of them is another project's and the shared vectors are not here. */
export function inputOf(vector: MrtdVector): MrtdVector['input'] | undefined {
  if (!JSON.stringify(vector.input).includes('"omitted"')) return vector.input
  return originals.find(({ id }) => id === vector.id)?.input
}

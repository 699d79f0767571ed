import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

export type Op = { readonly op: string } & Readonly<Record<string, unknown>>
export type RimVector = {
  readonly name: string
  readonly ops: readonly Op[]
  readonly expect: {
    readonly rim: string
    readonly rem?: readonly string[]
    readonly rim_after_each_op?: readonly string[]
  }
  readonly same_as?: string
  readonly differs_from?: string
}
/** A whole structure as the RMM hashes it. */
export type Layout = {
  readonly name: string
  readonly args?: Op
  readonly create?: Op
  readonly op?: Op
  readonly rim_before?: string
  readonly descriptor?: string
  readonly rim_after?: string
  readonly digest?: string
}
type RimVectors = { readonly vectors: readonly RimVector[]; readonly layouts: readonly Layout[] }

const root = path.join(import.meta.dirname, '..', '..', '..', '..')
const outside = path.join(root, '..', 'shared', 'vectors', 'cca-rim.json')
const read = (file: string): RimVectors => JSON.parse(readFileSync(file, 'utf8'))

export const NO_VECTORS = 'needs the shared vectors folder beside this repository, which is absent'

/** Kept in this repository: pages that other projects made are there by their digests only. */
export const { vectors: rimVectors, layouts } = read(path.join(root, 'test', 'vectors', 'cca-rim.json'))
/** The same with those pages; undefined where the shared vectors are not here. */
export const originals = existsSync(outside) ? read(outside).vectors : undefined

import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

/** Vectors of the launch digest, kept in this repository without other projects' binaries. */
export type LaunchVector = {
  name: string
  kind: string
  inputs: Record<string, unknown>
  expected: Record<string, unknown>
}
type Fixture = { sha256: string; base64?: string }
type LaunchVectors = { vectors: LaunchVector[]; fixtures: Record<string, Fixture> }

const read = (file: string): unknown => JSON.parse(readFileSync(file, 'utf8'))
const root = path.join(import.meta.dirname, '..', '..')
const outside = path.join(root, '..', 'shared', 'vectors')

export const launchVectors = read(path.join(root, 'test', 'vectors', 'snp-launch.json')) as LaunchVectors

const outsideFile = (name: string): unknown => {
  const file = path.join(outside, name)
  return existsSync(file) ? read(file) : undefined
}
const original = outsideFile('snp-launch.json') as LaunchVectors | undefined

/** A fixture's bytes, or undefined where they are another project's and the shared vectors are not here. */
export function fixture(name: string): Buffer | undefined {
  const base64 = launchVectors.fixtures[name]?.base64 ?? original?.fixtures[name]?.base64
  return base64 === undefined ? undefined : Buffer.from(base64, 'base64')
}

export const NO_VECTORS = 'needs the shared vectors folder beside this repository, which is absent'

export type ReportVector = {
  name: string
  kind: string
  inputs: {
    reportBase64: string
    /** Missing where the report is for parsing only, as is its public key. */
    certDerBase64?: string
    publicKey: { x: string; y: string }
    report: string
    cert: string
  }
  expected: {
    fields: Record<string, unknown>
    certExtensions: Record<string, unknown>
    signatureValid: boolean
    reportedTcbMatchesCert?: boolean
    chipIdMatchesCert?: boolean
    mutations: { offset: string; xor: string; what: string; signatureValid: boolean }[]
  }
}

/** Real reports, never kept in this repository; undefined where the shared vectors are not here. */
export const reportVectors = (outsideFile('snp-report.json') as { vectors: ReportVector[] } | undefined)?.vectors

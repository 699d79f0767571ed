import { type Step, shown, type Transcript } from './transcript.ts'

/** What every measurement answers: RIM and the four REMs in hex, as long as the hash. */
export type Measured = {
  readonly hashAlgorithm: 'sha-256' | 'sha-512'
  readonly rim: string
  readonly rem: readonly string[]
  readonly steps: readonly Step[]
}

export const resultOf = ({ algo, rim, rems, steps }: Transcript): Measured => ({
  hashAlgorithm: algo === 0 ? 'sha-256' : 'sha-512',
  rim: shown(algo, rim),
  rem: rems.map((rem) => shown(algo, rem)),
  steps,
})

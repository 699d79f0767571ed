import { tellCca } from './cca-story.ts'
import type { Gmemd } from './client.ts'
import { tellSevSnp } from './sev-snp-story.ts'
import { tellSwProtected } from './sw-protected-story.ts'
import { tellTdx } from './tdx-story.ts'

export type Story = {
  readonly tell: (gmemd: Gmemd, firmware: Buffer | undefined) => Promise<void>
  /** Whether it can launch a firmware image of yours. */
  readonly launches: boolean
}

/** By technology. */
export const STORIES: ReadonlyMap<string, Story> = new Map([
  ['sev-snp', { tell: tellSevSnp, launches: true }],
  ['tdx', { tell: tellTdx, launches: true }],
  ['cca', { tell: tellCca, launches: true }],
  ['sw-protected', { tell: tellSwProtected, launches: false }],
])

import { measurers as amdMeasurers } from './amd/measurers.ts'
import { backend as cca } from './cca/index.ts'
import { measurer as ccaMeasurer } from './cca/measurement/measure.ts'
import type { Backend, Measurer } from './contract.ts'
import { backend as sevSnp } from './sev-snp/index.ts'
import { backend as swProtected } from './sw-protected/index.ts'
import { backend as tdx } from './tdx/index.ts'
import { measurer as tdxMeasurer } from './tdx/measurement/measure.ts'

/** Every technology gmemd emulates: a new one is a folder beside this file and a line here. */
export const backends: ReadonlyMap<string, Backend> = new Map(
  [sevSnp, swProtected, tdx, cca].map((backend) => [backend.technology, backend]),
)

/** What can be measured without a VM. */
export const measurers: ReadonlyMap<string, Measurer> = new Map(
  [...amdMeasurers, ccaMeasurer, tdxMeasurer].map((measurer) => [measurer.technology, measurer]),
)

import { Type } from 'typebox'
import type { Backend } from '../contract.ts'
import { calls } from './calls.ts'
import { type SoftwareData, SoftwareHardware } from './hardware.ts'

const nothing = Type.Object({}, { additionalProperties: false })

/** KVM_X86_SW_PROTECTED_VM: KVM itself as the only trusted part. The smallest backend, and the one to copy. */
export const backend: Backend = {
  technology: 'sw-protected',
  title: 'KVM software-protected VM (x86): two stores, explicit conversion only, no hardware protection',
  properties: {
    mappable: false,
    movable: false,
    reclaimable: false,
    inPlace: false,
    contents: 'own-store',
    implicitConversion: false,
    accessKind: 'record',
    guestAccepts: false,
    hostTold: true,
    population: 'fallocate',
    launchDigest: null,
    populateErrno: 'EINVAL',
    pageSizes: ['4K', '2M', '1G'],
    initialState: 'private',
    keyName: null,
  },
  configSchema: Type.Object(
    {
      exitHypercall: Type.Optional(
        Type.Boolean({
          description: 'The VMM has enabled KVM_HC_MAP_GPA_RANGE exits (capability 201, bit 12).',
          default: true,
        }),
      ),
    },
    { additionalProperties: false },
  ),
  calls,
  launch: { update: nothing, finish: nothing, image: undefined },
  createData: (): SoftwareData => ({ exitEnabled: new Map() }),
  open: (data, machine) => new SoftwareHardware(data as SoftwareData, machine),
}

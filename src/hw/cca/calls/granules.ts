import { Type } from 'typebox'
import type { Call } from '../../contract.ts'
import { done, INPUT } from '../rmm/answer.ts'
import { ABI_VERSION, featureRegister } from '../rmm/features.ts'
import { hex } from '../rmm/geometry.ts'
import { granuleDelegate, granuleUndelegate } from '../rmm/granule-commands.ts'
import { addressArgument, addressValue, closed, defineHostCall, word } from './call-definition.ts'

const granule = Type.Object({ addr: addressArgument('the granule') }, closed)

const DELEGATE = defineHostCall({
  name: 'RMI_GRANULE_DELEGATE',
  summary: 'Gives a granule of host memory to the Realm world. Its contents are lost.',
  schema: granule,
  example: { addr: '0x8000000' },
  run: (host, { addr }) => granuleDelegate(host, addressValue(addr)),
})

const UNDELEGATE = defineHostCall({
  name: 'RMI_GRANULE_UNDELEGATE',
  summary: 'Takes a granule that nothing uses back from the Realm world. It is zero.',
  schema: granule,
  example: { addr: '0x8000000' },
  run: (host, { addr }) => granuleUndelegate(host, addressValue(addr)),
})

const VERSION = defineHostCall({
  name: 'RMI_VERSION',
  summary: 'Asks for a version of RMI, and says which there are.',
  schema: Type.Object({ req: word('The version, 1.0 is 0x10000.') }, closed),
  example: { req: '0x10000' },
  run: (_host, { req }) => {
    const versions = { lower: hex(ABI_VERSION), higher: hex(ABI_VERSION) }
    return addressValue(req) === BigInt(ABI_VERSION) ? done(versions) : { ...INPUT, outputs: versions }
  },
})

const FEATURES = defineHostCall({
  name: 'RMI_FEATURES',
  summary: 'Reads a feature register.',
  schema: Type.Object({ index: word('Which one; all but 0 are zero.') }, closed),
  example: { index: 0 },
  run: (_host, { index }) => done({ value: featureRegister(addressValue(index)) }),
})

export const GRANULE_CALLS: readonly Call[] = [VERSION, FEATURES, DELEGATE, UNDELEGATE]

import Type from 'typebox'
import { DecimalText } from './query.ts'

/** A name that a client gives to a thing of its own. */
export const Name = Type.String({
  minLength: 1,
  maxLength: 128,
  pattern: '^[^\\u0000-\\u001f\\u007f]*$',
  'x-expected': 'a text of 1 to 128 characters without control characters',
  examples: ['guest ram'],
})

export const HostName = Type.String({
  pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$',
  'x-expected': '1 to 64 letters, digits, dots, dashes and underscores, the first a letter or digit',
  examples: ['sev-snp'],
})

/** An id that gmemd gave. Any text is well-formed: an unknown one is a 404. */
const id = (example: string) => Type.String({ minLength: 1, examples: [example] })

export const VmId = id('vm-9')
export const MemfileId = id('memfile-10')
export const TechnologyName = id('sw-protected')

export const HostParams = Type.Object({ host: id('sw-protected') })
export const VmParams = Type.Object({ vm: VmId })
export const MemfileParams = Type.Object({ memfile: MemfileId })
export const SlotParams = Type.Object({ vm: VmId, slot: DecimalText })
export const VcpuParams = Type.Object({ vm: VmId, vcpu: DecimalText })
export const ExitParams = Type.Object({ vm: VmId, exit: id('exit-12') })
export const MappingParams = Type.Object({ vm: VmId, mapping: id('mapping-13') })
export const PinParams = Type.Object({ vm: VmId, pin: id('pin-14') })
export const TechnologyParams = Type.Object({ technology: TechnologyName })

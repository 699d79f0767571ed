import { Type } from 'typebox'
import type { Call, Status } from '../contract.ts'
import { addressValue, HexAddress } from '../shared/address-schema.ts'
import { begin } from '../shared/conversion-request.ts'
import type { SoftwareHardware } from './hardware.ts'
import { entryOf, refuse, statusOf } from './hypercall.ts'

const GPA_LIMIT = 2n ** 52n
/** VMCALL where there is no hypervisor below. */
const UNDEFINED_OPCODE: Status = { name: '#UD', code: 6 }

/** The only call of a software-protected VM: the guest asks KVM, and KVM asks the VMM. */
export const calls: readonly Call[] = [
  {
    name: 'MAP_GPA_RANGE',
    by: 'guest',
    summary: 'KVM_HC_MAP_GPA_RANGE (12): ask the VMM to make a range private (bit 4 of attributes) or shared',
    schema: Type.Object(
      {
        gpa: HexAddress,
        pages: HexAddress,
        attributes: HexAddress,
        cpl: Type.Optional(Type.Integer({ minimum: 0, maximum: 3 })),
      },
      { additionalProperties: false },
    ),
    example: { gpa: '0x100000', pages: 1, attributes: 16 },
    run(hardware, args, guest) {
      if (guest.by === 'host') return { kind: 'done', status: UNDEFINED_OPCODE }
      const call = {
        gpa: addressValue(args.gpa as string | number),
        pages: addressValue(args.pages as string | number),
        attributes: addressValue(args.attributes as string | number),
        cpl: typeof args.cpl === 'number' ? args.cpl : 0,
      }
      const refused = refuse(call, (hardware as SoftwareHardware).exitEnabled(guest.vm))
      if (refused !== undefined) return { kind: 'done', status: refused, outputs: { rax: refused.code } }
      if (call.gpa + call.pages * 4096n > GPA_LIMIT)
        return { kind: 'done', status: statusOf(-22), outputs: { rax: -22 } }
      return { kind: 'request', request: begin([entryOf(call)]) }
    },
  },
]

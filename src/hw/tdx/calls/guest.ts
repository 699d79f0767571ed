import { Type } from 'typebox'
import type { Call } from '../../contract.ts'
import { hex } from '../module/geometry.ts'
import { mrReport, rtmrExtend } from '../module/guest-measure.ts'
import { answered, pageAccept } from '../module/guest-memory.ts'
import { VM_FIELDS, type VmField, veInfoGet, vmRead, vmWrite, vpInfo } from '../module/guest-vp.ts'
import { tripleFault } from '../module/vp.ts'
import {
  addressValue,
  closed,
  defineTdcall,
  gpaArgument,
  gpaWord,
  levelArgument,
  optionalWord,
  word,
} from './call-definition.ts'

const nothing = Type.Object({}, closed)

const PAGE_ACCEPT = defineTdcall({
  name: 'TDG.MEM.PAGE.ACCEPT',
  summary: 'Accepts a pending page, which is zero then; where there is none, the TD exits.',
  schema: Type.Object({ gpa: gpaArgument, level: levelArgument }, closed),
  example: { gpa: '0x80000000' },
  run: (host, td, vcpu, { gpa, level }) => pageAccept(host, td, vcpu, gpaWord(gpa, level)),
})

const VP_INFO = defineTdcall({
  name: 'TDG.VP.INFO',
  summary: 'Says how wide guest physical addresses are, the attributes, and the vCPUs.',
  schema: nothing,
  example: {},
  run: (_host, td, vcpu) => answered(vpInfo(td, vcpu)),
})

const VEINFO_GET = defineTdcall({
  name: 'TDG.VP.VEINFO.GET',
  summary: 'Says why the last #VE came, once.',
  schema: nothing,
  example: {},
  run: (_host, _td, vcpu) => answered(veInfoGet(vcpu)),
})

const RTMR_EXTEND = defineTdcall({
  name: 'TDG.MR.RTMR.EXTEND',
  summary: 'Extends a run-time measurement register with 48 bytes of private memory.',
  schema: Type.Object(
    {
      gpa: gpaArgument,
      index: Type.Integer({ minimum: 0, maximum: 0xffff, description: 'Which register, RDX.' }),
    },
    closed,
  ),
  example: { gpa: '0x80000000', index: 2 },
  run: (host, td, vcpu, { gpa, index }) => rtmrExtend(host, td, vcpu, gpaWord(gpa), index),
})

const MR_REPORT = defineTdcall({
  name: 'TDG.MR.REPORT',
  summary: 'Writes a TDREPORT over 64 bytes of report data into private memory.',
  schema: Type.Object(
    {
      gpa: gpaArgument,
      reportData: word('Guest physical address of the 64 bytes, RDX.'),
      subtype: optionalWord('R8; 0 by default.'),
    },
    closed,
  ),
  example: { gpa: '0x80000000', reportData: '0x80000400' },
  run: (host, td, vcpu, { gpa, reportData, subtype = 0 }) =>
    mrReport(host, td, vcpu, gpaWord(gpa), addressValue(reportData), addressValue(subtype)),
})

const field = Type.Enum(Object.keys(VM_FIELDS) as VmField[], {
  description: `The TDCS field whose id RDX holds: ${Object.entries(VM_FIELDS)
    .map(([name, id]) => `${name} ${hex(id)}`)
    .join(', ')}.`,
})

const VM_RD = defineTdcall({
  name: 'TDG.VM.RD',
  summary: "Reads a field of the TD's own record.",
  schema: Type.Object({ field }, closed),
  example: { field: 'TD_CTLS' },
  run: (_host, td, _vcpu, args) => answered(vmRead(td, args.field)),
})

const VM_WR = defineTdcall({
  name: 'TDG.VM.WR',
  summary: "Writes bits of a field of the TD's own record.",
  schema: Type.Object({ field, value: word('The bits, R8.'), mask: word('Which bits are written, R9.') }, closed),
  example: { field: 'TD_CTLS', value: '0x1', mask: '0x1' },
  run: (_host, td, _vcpu, { field: name, value, mask }) =>
    answered(vmWrite(td, name, addressValue(value), addressValue(mask))),
})

const TRIPLE_FAULT = defineTdcall({
  name: 'TRIPLE_FAULT',
  summary: "The vCPU's guest faults beyond recovery: VP.ENTER answers so, and the vCPU is disabled. No TDCALL.",
  schema: nothing,
  example: {},
  run: (_host, td, vcpu) => answered(tripleFault(td, vcpu)),
})

/** All guest calls but TDG.VP.VMCALL, which needs KVM's answer: see vmcall.ts. */
export const GUEST_CALLS: readonly Call[] = [
  PAGE_ACCEPT,
  VP_INFO,
  VEINFO_GET,
  RTMR_EXTEND,
  MR_REPORT,
  VM_RD,
  VM_WR,
  TRIPLE_FAULT,
]

import { Type } from 'typebox'
import type { Call } from '../contract.ts'
import { addressOf } from '../shared/address-schema.ts'
import {
  answer,
  defineCall,
  frameOf,
  gpaArgument,
  hpaArgument,
  isLarge,
  NO_INSTRUCTION,
  NOT_HOST,
  offsetInPage,
  pageSizeArgument,
  permissionsArgument,
  vmplArgument,
} from './call-definition.ts'
import { GP, INACTIVE_PVALIDATE, pvalidate, rmpadjust, rmpquery } from './instructions-guest.ts'
import { hasAssignedSubpages, psmash, rmpUpdate } from './instructions-host.ts'
import { gfnOf, markOf, rawEntry } from './rmp.ts'
import { ASSIGNED, asidOf, IMMUTABLE, LARGE } from './states.ts'
import { INSN, instructionStatus } from './status.ts'

const FAIL_INPUT = answer(instructionStatus(INSN.FAIL_INPUT))
const closed = { additionalProperties: false } as const

const RMPUPDATE = defineCall({
  name: 'RMPUPDATE',
  by: 'host',
  summary: 'Writes the RMP entry of a host page.',
  schema: Type.Object(
    {
      hpa: hpaArgument,
      gpa: Type.Optional(gpaArgument),
      assigned: Type.Boolean({ description: 'The page belongs to a guest or to the firmware.' }),
      pageSize: pageSizeArgument,
      immutable: Type.Optional(Type.Boolean({ default: false })),
      asid: Type.Optional(
        Type.Integer({ minimum: 0, maximum: 0xffffffff, default: 0, description: 'ASID of the owner.' }),
      ),
      reserved: Type.Optional(Type.Integer({ minimum: 0, maximum: 0xff, default: 0, description: 'Must be zero.' })),
    },
    closed,
  ),
  example: { hpa: '0x200000', gpa: '0x80000000', assigned: true, pageSize: '2M', immutable: false, asid: 1 },
  wrongSide: NOT_HOST,
  run(host, args) {
    const { hpa, gpa = 0, assigned, pageSize, immutable = false, asid = 0, reserved = 0 } = args
    if (reserved !== 0 || offsetInPage(hpa) !== 0 || offsetInPage(gpa) !== 0) return FAIL_INPUT
    const update = { assigned, large: isLarge(pageSize), immutable, asid, gfn: frameOf(gpa) }
    return answer(instructionStatus(rmpUpdate(host, frameOf(hpa), update)))
  },
})

const PSMASH = defineCall({
  name: 'PSMASH',
  by: 'host',
  summary: 'Splits a 2M RMP entry into 512 entries of 4K.',
  schema: Type.Object({ hpa: hpaArgument }, closed),
  example: { hpa: '0x200000' },
  wrongSide: NOT_HOST,
  run: (host, { hpa }) =>
    offsetInPage(hpa) === 0 ? answer(instructionStatus(psmash(host.rmp, frameOf(hpa)))) : FAIL_INPUT,
})

const RMPREAD = defineCall({
  name: 'RMPREAD',
  by: 'host',
  summary: 'Reads the RMP entry of a host page in its architectural form.',
  schema: Type.Object({ hpa: hpaArgument }, closed),
  example: { hpa: '0x200000' },
  wrongSide: NOT_HOST,
  run(host, { hpa }) {
    const frame = frameOf(hpa)
    if (frame >= host.rmp.frames) return FAIL_INPUT
    const entry = rawEntry(host.rmp, frame)
    const asid = asidOf(entry)
    const inner = entry === ASSIGNED
    const mark = inner ? 0 : markOf(host.rmp, frame)
    return {
      kind: 'done',
      status: instructionStatus(INSN.SUCCESS),
      outputs: {
        gpa: asid === 0 ? (mark === 0 ? '0x0' : addressOf(mark & 0x7fffffff)) : addressOf(gfnOf(host.rmp, frame)),
        assigned: (entry & ASSIGNED) !== 0,
        pageSize: entry & LARGE ? '2M' : '4K',
        subpagesAssigned: hasAssignedSubpages(host.rmp, frame),
        immutable: (entry & IMMUTABLE) !== 0,
        asid,
      },
    }
  },
})

const PVALIDATE = defineCall({
  name: 'PVALIDATE',
  by: 'guest',
  summary: 'Validates a private page, or rescinds its validation.',
  schema: Type.Object(
    {
      gpa: gpaArgument,
      pageSize: pageSizeArgument,
      validate: Type.Optional(Type.Boolean({ default: true, description: 'True validates, false rescinds.' })),
      vmpl: Type.Optional(vmplArgument('Privilege level it is executed at; only VMPL0 may.')),
    },
    closed,
  ),
  example: { gpa: '0x80000000', pageSize: '2M', validate: true },
  wrongSide: INACTIVE_PVALIDATE,
  run: (host, { gpa, pageSize, validate = true, vmpl = 0 }, guest) =>
    vmpl === 0 ? pvalidate(host, guest, frameOfRequest(gpa, pageSize), isLarge(pageSize), validate) : GP,
})

/** The low 12 bits of a 4K request are ignored; in a 2M request they make it unaligned (b.5 step 2). */
const frameOfRequest = (gpa: string | number, pageSize: '4K' | '2M' | undefined): number =>
  isLarge(pageSize) && offsetInPage(gpa) !== 0 ? frameOf(gpa) + 0.5 : frameOf(gpa)

const RMPADJUST = defineCall({
  name: 'RMPADJUST',
  by: 'guest',
  summary: 'Sets what a less privileged VMPL may do with a page, and the VMSA mark.',
  schema: Type.Object(
    {
      gpa: gpaArgument,
      pageSize: pageSizeArgument,
      vmpl: Type.Optional(vmplArgument('Privilege level it is executed at.')),
      targetVmpl: vmplArgument('The level whose permissions are set.'),
      permissions: permissionsArgument('b0 read, b1 write, b2 execute user, b3 execute supervisor, b4 shadow stack.'),
      vmsa: Type.Optional(Type.Boolean({ default: false, description: 'The page becomes a VMSA.' })),
    },
    closed,
  ),
  example: { gpa: '0x80000000', targetVmpl: 1, permissions: 3 },
  wrongSide: NO_INSTRUCTION,
  run: (host, { gpa, pageSize, vmpl = 0, targetVmpl, permissions, vmsa = false }, guest) =>
    rmpadjust(host, guest, frameOfRequest(gpa, pageSize), {
      large: isLarge(pageSize),
      vmpl,
      target: targetVmpl,
      permissions,
      vmsa,
    }),
})

const RMPQUERY = defineCall({
  name: 'RMPQUERY',
  by: 'guest',
  summary: 'Reads what a VMPL may do with a page.',
  schema: Type.Object(
    {
      gpa: gpaArgument,
      vmpl: Type.Optional(vmplArgument('Privilege level it is executed at.')),
      targetVmpl: vmplArgument('The level asked about; not above one’s own.'),
    },
    closed,
  ),
  example: { gpa: '0x80000000', targetVmpl: 1 },
  wrongSide: NO_INSTRUCTION,
  run: (host, { gpa, vmpl = 0, targetVmpl }, guest) => rmpquery(host, guest, frameOf(gpa), vmpl, targetVmpl),
})

export const INSTRUCTION_CALLS: readonly Call[] = [RMPUPDATE, PSMASH, RMPREAD, PVALIDATE, RMPADJUST, RMPQUERY]

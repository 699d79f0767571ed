import { Type } from 'typebox'
import type { Call, Status } from '../contract.ts'
import {
  defineCall,
  frameOf,
  gpaArgument,
  isLarge,
  NO_INSTRUCTION,
  offsetInPage,
  pageSizeArgument,
} from './call-definition.ts'
import { MAX_PSC_ENTRIES, type PscEntry, type PscRequest, startRequest } from './psc.ts'
import { BLOCK } from './rmp.ts'
import { MSR_PSC_ERROR, PSC } from './status.ts'

const closed = { additionalProperties: false } as const
const u16 = (description: string) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: 0xffff, default: 0, description }))
const operation = Type.Integer({
  minimum: 0,
  maximum: 15,
  description: '1 private, 2 shared, 3 PSMASH hint, 4 UNSMASH hint.',
})

/** Entries the guest left out are zero: an operation KVM passes over. */
const ZERO_ENTRY: PscEntry = { gfn: 0, pages: 1, large: false, operation: 0, curPage: 0 }

const SNP_PAGE_STATE_CHANGE = defineCall({
  name: 'SNP_PAGE_STATE_CHANGE',
  by: 'guest',
  summary: 'The NAE event with its exact header and entries.',
  schema: Type.Object(
    {
      curEntry: u16('Index of the entry to begin with.'),
      endEntry: u16('Index of the last entry, inclusive.'),
      entries: Type.Array(
        Type.Object(
          {
            curPage: Type.Optional(
              Type.Integer({ minimum: 0, maximum: 0xfff, default: 0, description: '4K pages done.' }),
            ),
            gpa: gpaArgument,
            operation,
            pageSize: pageSizeArgument,
          },
          closed,
        ),
        { maxItems: MAX_PSC_ENTRIES },
      ),
    },
    closed,
  ),
  example: { curEntry: 0, endEntry: 0, entries: [{ gpa: '0x80000000', operation: 1, pageSize: '2M' }] },
  wrongSide: NO_INSTRUCTION,
  run(_host, { curEntry = 0, endEntry = 0, entries }) {
    if (endEntry >= MAX_PSC_ENTRIES) return { kind: 'done', status: PSC.INVALID_HDR, outputs: { curEntry, endEntry } }
    const given = entries.map(
      (entry): PscEntry => ({
        gfn: frameOf(entry.gpa),
        pages: 1,
        large: isLarge(entry.pageSize),
        operation: entry.operation,
        curPage: entry.curPage ?? 0,
      }),
    )
    const request = startRequest(
      Array.from({ length: Math.max(0, endEntry + 1 - curEntry) }, (_, index) => given[curEntry + index] ?? ZERO_ENTRY),
    )
    return { kind: 'request', request }
  },
  outputs: (request, { curEntry = 0, endEntry = 0 }) => pscOutputs(request as PscRequest, curEntry, endEntry),
})

/** The structure as the guest finds it afterwards (amd-sev-snp.md c.2). */
function pscOutputs(request: PscRequest, curEntry: number, endEntry: number): Readonly<Record<string, unknown>> {
  const failure = request.statuses.find((status) => status !== undefined && status.code !== 0)
  return {
    swExitInfo2: `0x${(failure?.code ?? 0).toString(16)}`,
    status: failure ?? PSC.DONE,
    curEntry: curEntry + request.completed,
    endEntry,
    curPages: request.entries.map(({ large, curPage }, index) =>
      index < request.completed ? (large ? BLOCK : 1) : curPage,
    ),
  }
}

const GHCB_MSR_PSC = defineCall({
  name: 'GHCB_MSR_PSC',
  by: 'guest',
  summary: 'A page-state change of one 4K page through the GHCB MSR.',
  schema: Type.Object({ gpa: gpaArgument, operation }, closed),
  example: { gpa: '0x80000000', operation: 1 },
  wrongSide: NO_INSTRUCTION,
  run(_host, { gpa, operation }) {
    // KVM knows private and shared here; a reserved bit in the address is part of the operation's field.
    if ((operation !== 1 && operation !== 2) || offsetInPage(gpa) !== 0)
      return { kind: 'done', status: MSR_PSC_ERROR, outputs: { response: msrResponse(MSR_PSC_ERROR) } }
    const request = startRequest([{ gfn: frameOf(gpa), pages: 1, large: false, operation, curPage: 0 }])
    return { kind: 'request', request }
  },
  outputs: (request) => ({ response: msrResponse(msrStatus(request as PscRequest)) }),
})

const msrStatus = (request: PscRequest): Status => (request.failed ? MSR_PSC_ERROR : PSC.DONE)
/** Bits 11:0 are 015, 63:32 the error (amd-sev-snp.md c.1). */
const msrResponse = ({ code }: Status): string => `0x${((BigInt(code) << 32n) | 0x15n).toString(16)}`

export const PAGE_STATE_CALLS: readonly Call[] = [SNP_PAGE_STATE_CHANGE, GHCB_MSR_PSC]

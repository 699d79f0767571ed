import { Type } from 'typebox'
import type { Call } from '../../contract.ts'
import type { Host } from '../data.ts'
import type { Answer } from '../module/answer.ts'
import { mrExtend } from '../module/mem-content.ts'
import { type PageCall, pageAdd, pageAug, pageRelocate, pageRemove } from '../module/mem-page.ts'
import { memTrack, rangeBlock, rangeUnblock } from '../module/mem-range.ts'
import { pageDemote, pagePromote, septAdd, septRead, septRemove } from '../module/mem-sept.ts'
import type { MemoryCall } from '../module/operands.ts'
import {
  addressValue,
  closed,
  defineSeamcall,
  gpaArgument,
  gpaWord,
  levelArgument,
  pageArgument,
  tdrArgument,
  tdrWord,
} from './call-definition.ts'

const place = { gpa: gpaArgument, level: levelArgument, tdr: tdrArgument }
const placeSchema = Type.Object(place, closed)
const pageSchema = Type.Object({ ...place, page: pageArgument('the free page, R8') }, closed)

type Definition<Operands> = {
  readonly name: string
  readonly summary: string
  readonly example: Readonly<Record<string, unknown>>
  run(host: Host, operands: Operands): Answer
}

/** A call that takes a place in a TD: RCX and RDX. */
const placeCall = ({ run, ...definition }: Definition<MemoryCall>): Call =>
  defineSeamcall({
    ...definition,
    schema: placeSchema,
    run: (host, { gpa, level, tdr }, guest) => run(host, { gpa: gpaWord(gpa, level), tdr: tdrWord(host, guest, tdr) }),
  })

/** A call that takes a place in a TD and a free page: RCX, RDX and R8. */
const pageCall = ({ run, ...definition }: Definition<PageCall>): Call =>
  defineSeamcall({
    ...definition,
    schema: pageSchema,
    run: (host, { gpa, level, tdr, page }, guest) =>
      run(host, { gpa: gpaWord(gpa, level), tdr: tdrWord(host, guest, tdr), page: addressValue(page) }),
  })

const PAGE_ADD = defineSeamcall({
  name: 'TDH.MEM.PAGE.ADD',
  summary: 'Copies a page into a new private page of a TD that is being built, and measures its address.',
  schema: Type.Object(
    { ...place, page: pageArgument('the free page, R8'), source: pageArgument('the page to copy, R9') },
    closed,
  ),
  example: { gpa: '0x80000000', page: '0x8020000', source: '0x8021000' },
  run: (host, { gpa, level, tdr, page, source }, guest) =>
    pageAdd(host, {
      gpa: gpaWord(gpa, level),
      tdr: tdrWord(host, guest, tdr),
      page: addressValue(page),
      source: addressValue(source),
    }),
})

const PAGE_AUG = pageCall({
  name: 'TDH.MEM.PAGE.AUG',
  summary: 'Gives a TD a free page, 4K or 2M, that its guest must accept.',
  example: { gpa: '0x80000000', page: '0x8020000' },
  run: pageAug,
})

const PAGE_REMOVE = placeCall({
  name: 'TDH.MEM.PAGE.REMOVE',
  summary: 'Takes a page from a TD; in a running one only when blocked and tracked.',
  example: { gpa: '0x80000000' },
  run: pageRemove,
})

const PAGE_RELOCATE = pageCall({
  name: 'TDH.MEM.PAGE.RELOCATE',
  summary: "Moves a TD's 4K page to another host page, with its content.",
  example: { gpa: '0x80000000', page: '0x8022000' },
  run: pageRelocate,
})

const PAGE_PROMOTE = placeCall({
  name: 'TDH.MEM.PAGE.PROMOTE',
  summary: 'Merges 512 contiguous pages of equal state into one of the next size.',
  example: { gpa: '0x80000000', level: 1 },
  run: pagePromote,
})

const PAGE_DEMOTE = pageCall({
  name: 'TDH.MEM.PAGE.DEMOTE',
  summary: 'Splits a 2M or 1G page into 512 of the next smaller size, under a new table.',
  example: { gpa: '0x80000000', level: 1, page: '0x8023000' },
  run: pageDemote,
})

const RANGE_BLOCK = placeCall({
  name: 'TDH.MEM.RANGE.BLOCK',
  summary: 'Blocks new translations through a page or a table of pages.',
  example: { gpa: '0x80000000' },
  run: rangeBlock,
})

const RANGE_UNBLOCK = placeCall({
  name: 'TDH.MEM.RANGE.UNBLOCK',
  summary: 'Ends the blocking of a page or a table of pages.',
  example: { gpa: '0x80000000' },
  run: rangeUnblock,
})

const TRACK = defineSeamcall({
  name: 'TDH.MEM.TRACK',
  summary: "Begins a TD's next TLB epoch.",
  schema: Type.Object({ tdr: tdrArgument }, closed),
  example: {},
  run: (host, { tdr }, guest) => memTrack(host, tdrWord(host, guest, tdr)),
})

const ALLOW_EXISTING = 1n

const SEPT_ADD = defineSeamcall({
  name: 'TDH.MEM.SEPT.ADD',
  summary: 'Adds a Secure EPT table under the entry of a level, from the highest down; the root is there.',
  schema: Type.Object(
    {
      ...place,
      page: pageArgument('the free page, R8'),
      version: Type.Optional(Type.Union([Type.Literal(0), Type.Literal(1)], { default: 0 })),
      allowExisting: Type.Optional(
        Type.Boolean({ default: false, description: 'RDX bit 0, of version 1: a table that is there is no error.' }),
      ),
    },
    closed,
  ),
  example: { gpa: '0x0', level: 3, page: '0x8024000' },
  run(host, { gpa, level, tdr, page, version = 0, allowExisting = false }, guest) {
    const own = tdrWord(host, guest, tdr)
    return septAdd(host, {
      gpa: gpaWord(gpa, level),
      tdr: allowExisting && version === 0 ? own | ALLOW_EXISTING : own,
      page: addressValue(page),
      allowExisting: allowExisting && version === 1,
    })
  },
})

const SEPT_REMOVE = placeCall({
  name: 'TDH.MEM.SEPT.REMOVE',
  summary: 'Takes away an empty Secure EPT table.',
  example: { gpa: '0x80000000', level: 1 },
  run: septRemove,
})

const SEPT_RD = placeCall({
  name: 'TDH.MEM.SEPT.RD',
  summary: 'Reads a Secure EPT entry as software is shown it.',
  example: { gpa: '0x80000000' },
  run: septRead,
})

const MR_EXTEND = defineSeamcall({
  name: 'TDH.MR.EXTEND',
  summary: 'Measures 256 bytes of a page of a TD that is being built.',
  schema: Type.Object({ gpa: gpaArgument, tdr: tdrArgument }, closed),
  example: { gpa: '0x80000000' },
  run: (host, { gpa, tdr }, guest) => mrExtend(host, { gpa: gpaWord(gpa), tdr: tdrWord(host, guest, tdr) }),
})

export const MEMORY_CALLS: readonly Call[] = [
  PAGE_ADD,
  PAGE_AUG,
  PAGE_REMOVE,
  PAGE_RELOCATE,
  PAGE_PROMOTE,
  PAGE_DEMOTE,
  RANGE_BLOCK,
  RANGE_UNBLOCK,
  TRACK,
  SEPT_ADD,
  SEPT_REMOVE,
  SEPT_RD,
  MR_EXTEND,
]

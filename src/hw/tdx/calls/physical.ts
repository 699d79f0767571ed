import { Type } from 'typebox'
import type { Call } from '../../contract.ts'
import { memRead, memWrite } from '../module/mem-content.ts'
import { cacheWriteBack, pageReadMetadata, pageReclaim, pageWbinvd } from '../module/teardown.ts'
import {
  addressValue,
  closed,
  defineSeamcall,
  gpaArgument,
  gpaWord,
  packageArgument,
  pageArgument,
  tdrArgument,
  tdrWord,
  word,
} from './call-definition.ts'

const MEM_RD = defineSeamcall({
  name: 'TDH.MEM.RD',
  summary: "Reads 8 bytes of a debug TD's page.",
  schema: Type.Object({ gpa: gpaArgument, tdr: tdrArgument }, closed),
  example: { gpa: '0x80000000' },
  run: (host, { gpa, tdr }, guest) => memRead(host, { gpa: gpaWord(gpa), tdr: tdrWord(host, guest, tdr) }),
})

const MEM_WR = defineSeamcall({
  name: 'TDH.MEM.WR',
  summary: "Writes 8 bytes of a debug TD's page.",
  schema: Type.Object({ gpa: gpaArgument, tdr: tdrArgument, value: word('The 8 bytes, R8.') }, closed),
  example: { gpa: '0x80000000', value: '0x1' },
  run: (host, { gpa, tdr, value }, guest) =>
    memWrite(host, { gpa: gpaWord(gpa), tdr: tdrWord(host, guest, tdr), value: addressValue(value) }),
})

const CACHE_WB = defineSeamcall({
  name: 'TDH.PHYMEM.CACHE.WB',
  summary: "Writes back a package's caches for all flushed keys.",
  schema: Type.Object(
    {
      command: Type.Optional(
        Type.Integer({ minimum: 0, maximum: 0xffff, default: 0, description: 'RCX: 0 start, 1 resume.' }),
      ),
      package: packageArgument,
    },
    closed,
  ),
  example: {},
  run: (host, { command = 0, package: onPackage = 0 }) => cacheWriteBack(host, BigInt(command), onPackage),
})

const onePage = Type.Object({ page: pageArgument('the page, RCX') }, closed)

const PAGE_RECLAIM = defineSeamcall({
  name: 'TDH.PHYMEM.PAGE.RECLAIM',
  summary: 'Takes back a page of a TD that is torn down.',
  schema: onePage,
  example: { page: '0x8001000' },
  run: (host, { page }) => pageReclaim(host, addressValue(page)),
})

const PAGE_RDMD = defineSeamcall({
  name: 'TDH.PHYMEM.PAGE.RDMD',
  summary: "Reads a page's type, owner, size and blocking epoch.",
  schema: onePage,
  example: { page: '0x8000000' },
  run: (host, { page }) => pageReadMetadata(host, addressValue(page)),
})

const PAGE_WBINVD = defineSeamcall({
  name: 'TDH.PHYMEM.PAGE.WBINVD',
  summary: "Writes back a free page's lines under the key in its address.",
  schema: Type.Object({ page: pageArgument('the page with the key id in its upper bits, RCX') }, closed),
  example: { page: '0x8022000' },
  run: (host, { page }) => pageWbinvd(host, addressValue(page)),
})

export const PHYSICAL_CALLS: readonly Call[] = [MEM_RD, MEM_WR, CACHE_WB, PAGE_RECLAIM, PAGE_RDMD, PAGE_WBINVD]

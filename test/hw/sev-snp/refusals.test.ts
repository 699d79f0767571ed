import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgePolicy } from '../../../src/hw/sev-snp/firmware-guest.ts'
import { type Bench, codeOf, createBench, FRAME, FRAMES, fingerprint, GFN, hpa, mapPrivate } from './fake-machine.ts'
import { bringTo } from './page-states.ts'

type Args = Readonly<Record<string, unknown>>
type Row = {
  readonly section: string
  readonly what: string
  readonly call: string
  readonly args: Args | ((bench: Bench) => Args)
  readonly code: number
  readonly given?: (bench: Bench) => void
}
const OTHER = FRAME + 0x200
const METADATA = FRAME + 0x400
const page = { hpa: hpa(FRAME) }
const guestPage = { ...page, gpa: hpa(GFN), assigned: true, asid: 1 }
const state =
  (...pages: [name: Parameters<typeof bringTo>[1], frame: number, size?: '4K' | '2M'][]) =>
  (bench: Bench): void => {
    for (const [name, frame, size] of pages) bringTo(bench, name, frame, GFN + frame - FRAME, size)
  }
const own = (bench: Bench): number => bench.data.rmp.ownStart
const metadata = `0x${(METADATA * 4096 + 64).toString(16)}`
const swap = { ...page, destination: hpa(OTHER), metadata }
const swapPages = state(['Metadata', METADATA], ['Firmware', OTHER], ['Pre-Swap', FRAME])
const contextOf = (bench: Bench): string => hpa(bench.data.vms.get('vm-1')?.context ?? 0)
/** A second guest context in state INIT. */
const NEW_CONTEXT = FRAME + 0x600
const newContext = state(['Context', NEW_CONTEXT])
const gctx = hpa(NEW_CONTEXT)

/** Where two rules apply, the row says which wins. */
const ROWS: readonly Row[] = [
  // RMPUPDATE, in the order of b.4
  { section: 'b.4', what: 'no entry', call: 'RMPUPDATE', args: { ...guestPage, hpa: hpa(FRAMES) }, code: 1 },
  {
    section: 'b.4',
    what: 'the RMP itself, although immutable',
    call: 'RMPUPDATE',
    args: (bench) => ({ ...guestPage, hpa: hpa(own(bench)) }),
    code: 1,
  },
  { section: 'b.4', what: 'reserved bits', call: 'RMPUPDATE', args: { ...guestPage, reserved: 1 }, code: 1 },
  {
    section: 'b.4',
    what: '2M with unaligned SPA',
    call: 'RMPUPDATE',
    args: { ...guestPage, hpa: hpa(FRAME + 1), pageSize: '2M' },
    code: 1,
  },
  {
    section: 'b.4',
    what: '2M with unaligned GPA',
    call: 'RMPUPDATE',
    args: { ...guestPage, gpa: hpa(GFN + 1), pageSize: '2M' },
    code: 1,
  },
  { section: 'b.4', what: 'ASID above maximum', call: 'RMPUPDATE', args: { ...guestPage, asid: 510 }, code: 1 },
  {
    section: 'b.4',
    what: 'not assigned with ASID',
    call: 'RMPUPDATE',
    args: { ...page, assigned: false, asid: 1 },
    code: 1,
  },
  {
    section: 'b.4',
    what: 'not assigned but immutable',
    call: 'RMPUPDATE',
    args: { ...page, assigned: false, immutable: true },
    code: 1,
  },
  {
    section: 'b.4',
    what: 'input before permission',
    call: 'RMPUPDATE',
    args: { ...guestPage, asid: 510 },
    code: 1,
    given: state(['HV-Fixed', FRAME]),
  },
  ...(['HV-Fixed', 'Firmware', 'Context', 'Metadata', 'Pre-Guest', 'Pre-Swap', 'Firmware-IOMMU'] as const).map(
    (name): Row => ({
      section: 'b.4',
      what: `old entry ${name}`,
      call: 'RMPUPDATE',
      args: guestPage,
      code: 2,
      given: state([name, FRAME]),
    }),
  ),
  {
    section: 'b.4',
    what: 'permission before overlap',
    call: 'RMPUPDATE',
    args: guestPage,
    code: 2,
    given: state(['Pre-Guest', FRAME, '2M']),
  },
  {
    section: 'b.4',
    what: '2M over an assigned 4K',
    call: 'RMPUPDATE',
    args: { ...guestPage, pageSize: '2M' },
    code: 4,
    given: state(['Guest-Invalid', FRAME + 300]),
  },
  {
    section: 'b.4',
    what: 'release of 2M over an assigned 4K',
    call: 'RMPUPDATE',
    args: { ...page, assigned: false, pageSize: '2M' },
    code: 4,
    given: state(['Guest-Valid', FRAME + 511]),
  },
  {
    section: 'b.4',
    what: '4K at the first entry of a 2M page',
    call: 'RMPUPDATE',
    args: guestPage,
    code: 4,
    given: state(['Guest-Invalid', FRAME, '2M']),
  },
  {
    section: 'b.4',
    what: '4K inside a 2M page',
    call: 'RMPUPDATE',
    args: { ...page, hpa: hpa(FRAME + 9), assigned: false },
    code: 4,
    given: state(['Guest-Valid', FRAME, '2M']),
  },
  {
    section: 'g AMDSEV#245',
    what: '2M over an HV-Fixed page',
    call: 'RMPUPDATE',
    args: { ...guestPage, pageSize: '2M' },
    code: 2,
    given: state(['HV-Fixed', FRAME + 5]),
  },
  // PSMASH
  { section: 'b.4', what: 'unaligned', call: 'PSMASH', args: { hpa: hpa(FRAME + 1) }, code: 1 },
  { section: 'b.4', what: 'outside', call: 'PSMASH', args: { hpa: hpa(FRAMES) }, code: 1 },
  { section: 'b.4', what: '4K already', call: 'PSMASH', args: page, code: 7, given: state(['Guest-Valid', FRAME]) },
  { section: 'b.4', what: 'hypervisor-owned', call: 'PSMASH', args: page, code: 7 },
  {
    section: 'b.4',
    what: 'immutable 2M',
    call: 'PSMASH',
    args: page,
    code: 7,
    given: state(['Pre-Guest', FRAME, '2M']),
  },
  { section: 'b.4', what: 'no entry', call: 'RMPREAD', args: { hpa: hpa(FRAMES) }, code: 1 },
  // PVALIDATE and RMPADJUST
  {
    section: 'b.5',
    what: 'not VMPL0, before anything',
    call: 'PVALIDATE',
    args: { gpa: hpa(GFN + 1), pageSize: '2M', vmpl: 1 },
    code: 13,
  },
  {
    section: 'b.5',
    what: '2M unaligned, before the mapping',
    call: 'PVALIDATE',
    args: { gpa: hpa(GFN + 1), pageSize: '2M' },
    code: 1,
  },
  {
    section: 'b.5',
    what: '2M on 4K',
    call: 'PVALIDATE',
    args: { gpa: hpa(GFN), pageSize: '2M' },
    code: 6,
    given: (bench) => {
      state(['Guest-Invalid', FRAME])(bench)
      mapPrivate(bench, GFN, FRAME)
    },
  },
  {
    section: 'b.5',
    what: '2M on a nested 4K mapping',
    call: 'PVALIDATE',
    args: { gpa: hpa(GFN), pageSize: '2M' },
    code: 6,
    given: (bench) => {
      state(['Guest-Invalid', FRAME, '2M'])(bench)
      bench.mappings.set(GFN, { frame: FRAME, span: 1, private: true })
    },
  },
  {
    section: 'b.5',
    what: 'target VMPL not above own',
    call: 'RMPADJUST',
    args: { gpa: hpa(GFN), targetVmpl: 1, vmpl: 1, permissions: 0 },
    code: 2,
  },
  {
    section: 'b.5',
    what: 'unvalidated page',
    call: 'RMPADJUST',
    args: { gpa: hpa(GFN), targetVmpl: 1, permissions: 1 },
    code: 0x404,
    given: (bench) => {
      state(['Guest-Invalid', FRAME])(bench)
      mapPrivate(bench, GFN, FRAME)
    },
  },
  {
    section: 'b.5',
    what: 'more than own permissions',
    call: 'RMPADJUST',
    args: { gpa: hpa(GFN), targetVmpl: 2, vmpl: 1, permissions: 1 },
    code: 2,
    given: (bench) => {
      state(['Guest-Valid', FRAME])(bench)
      mapPrivate(bench, GFN, FRAME)
    },
  },
  // b.6, alignment first
  ...(['SNP_GCTX_CREATE', 'SNP_PAGE_RECLAIM', 'SNP_PAGE_MD_INIT', 'SNP_PAGE_UNSMASH'] as const).map(
    (call): Row => ({
      section: 'b.6',
      what: 'reserved bits first',
      call,
      args: { hpa: `0x${(FRAME * 4096 + 8).toString(16)}` },
      code: 0x16,
    }),
  ),
  { section: 'b.6', what: 'page not Firmware', call: 'SNP_GCTX_CREATE', args: page, code: 0x1a },
  {
    section: 'b.6',
    what: 'page of 2M',
    call: 'SNP_GCTX_CREATE',
    args: page,
    code: 0x19,
    given: state(['Firmware', FRAME, '2M']),
  },
  {
    section: 'b.6',
    what: 'not a context, before page state',
    call: 'SNP_LAUNCH_UPDATE',
    args: { ...page, gctx, pageType: 1 },
    code: 0x10,
  },
  {
    section: 'b.6',
    what: 'not Pre-Guest, before type',
    call: 'SNP_LAUNCH_UPDATE',
    args: { ...page, pageType: 0 },
    code: 0x1a,
  },
  {
    section: 'b.6',
    what: 'size differs',
    call: 'SNP_LAUNCH_UPDATE',
    args: { ...page, pageSize: '2M', pageType: 0 },
    code: 0x19,
    given: state(['Pre-Guest', FRAME]),
  },
  ...[2, 5, 6].map(
    (pageType): Row => ({
      section: 'b.6',
      what: `type ${pageType} of 2M`,
      call: 'SNP_LAUNCH_UPDATE',
      args: { ...page, pageSize: '2M', pageType },
      code: 0x19,
      given: state(['Pre-Guest', FRAME, '2M']),
    }),
  ),
  ...[0, 7].map(
    (pageType): Row => ({
      section: 'b.6',
      what: `type ${pageType}, before guest state`,
      call: 'SNP_LAUNCH_UPDATE',
      args: { ...page, gctx, pageType },
      code: 0x16,
      given: (bench) => {
        newContext(bench)
        state(['Pre-Guest', FRAME])(bench)
      },
    }),
  ),
  {
    section: 'b.6',
    what: 'guest not LAUNCH, before inactive',
    call: 'SNP_LAUNCH_UPDATE',
    args: { ...page, gctx, pageType: 1 },
    code: 2,
    given: (bench) => {
      newContext(bench)
      state(['Pre-Guest', FRAME])(bench)
    },
  },
  {
    section: 'b.6',
    what: 'inactive, before owner',
    call: 'SNP_LAUNCH_UPDATE',
    args: { ...page, gctx, pageType: 1 },
    code: 8,
    given: (bench) => {
      newContext(bench)
      state(['Pre-Guest', FRAME])(bench)
      bench.host('SNP_LAUNCH_START', { gctx, policy: '0x30000' })
    },
  },
  {
    section: 'b.6',
    what: 'other owner',
    call: 'SNP_LAUNCH_UPDATE',
    args: { ...page, gctx, pageType: 1 },
    code: 0x1c,
    given: (bench) => {
      newContext(bench)
      state(['Pre-Guest', FRAME])(bench)
      bench.host('SNP_LAUNCH_START', { gctx, policy: '0x30000' })
      bench.host('SNP_ACTIVATE', { gctx, asid: 9 })
    },
  },
  { section: 'b.6', what: 'guest INIT', call: 'SNP_ACTIVATE', args: { gctx, asid: 9 }, code: 2, given: newContext },
  ...(
    [
      ['pages counted, before the ASID', 301, 3],
      ['ASID 0', 0, 0xd],
      ['ASID too high', 233, 0xd],
      ['pages counted, before the owner', 1, 3],
    ] as const
  ).map(
    ([what, asid, code]): Row => ({
      section: 'b.6',
      what,
      call: 'SNP_ACTIVATE',
      args: { gctx, asid },
      code,
      given: (bench) => {
        newContext(bench)
        bench.host('SNP_LAUNCH_START', { gctx, policy: '0x30000' })
        bringTo(bench, 'Guest-Invalid', FRAME, GFN)
        bench.host('RMPUPDATE', { ...guestPage, hpa: hpa(FRAME + 1), asid: 301 })
      },
    }),
  ),
  {
    section: 'b.6',
    what: 'ASID of another guest',
    call: 'SNP_ACTIVATE',
    args: { gctx, asid: 1 },
    code: 0xc,
    given: (bench) => {
      newContext(bench)
      bench.host('SNP_LAUNCH_START', { gctx, policy: '0x30000' })
    },
  },
  { section: 'b.6', what: 'already active', call: 'SNP_ACTIVATE', args: { asid: 9 }, code: 0x12 },
  { section: 'b.6', what: 'not a context', call: 'SNP_DECOMMISSION', args: { gctx }, code: 0x10 },
  { section: 'b.6', what: 'started already', call: 'SNP_LAUNCH_START', args: { policy: '0x30000' }, code: 2 },
  {
    section: 'd.1',
    what: 'policy refused',
    call: 'SNP_LAUNCH_START',
    args: { gctx, policy: '0x10000' },
    code: 7,
    given: newContext,
  },
  // RECLAIM, UNSMASH, SET_STATE, MD_INIT, MOVE
  {
    section: 'b.6',
    what: 'size differs',
    call: 'SNP_PAGE_RECLAIM',
    args: { ...page, pageSize: '2M' },
    code: 0x19,
    given: state(['Pre-Guest', FRAME]),
  },
  {
    section: 'b.6',
    what: 'not immutable: nothing to do',
    call: 'SNP_PAGE_RECLAIM',
    args: page,
    code: 0,
    given: state(['Guest-Valid', FRAME]),
  },
  ...(['Context', 'HV-Fixed', 'Firmware-IOMMU'] as const).map(
    (name): Row => ({
      section: 'b.6',
      what: name,
      call: 'SNP_PAGE_RECLAIM',
      args: page,
      code: 0x1a,
      given: state([name, FRAME]),
    }),
  ),
  { section: 'b.6', what: 'unaligned', call: 'SNP_PAGE_UNSMASH', args: { hpa: hpa(FRAME + 1) }, code: 0x16 },
  {
    section: 'b.6',
    what: 'not immutable',
    call: 'SNP_PAGE_UNSMASH',
    args: page,
    code: 0x1a,
    given: state(['Guest-Valid', FRAME]),
  },
  { section: 'b.6', what: 'the RMP', call: 'SNP_PAGE_UNSMASH', args: (bench) => ({ hpa: hpa(own(bench)) }), code: 9 },
  {
    section: 'b.6',
    what: 'length not 16, before all',
    call: 'SNP_PAGE_SET_STATE',
    args: { ranges: [{ ...page, pages: 1 }], length: 8 },
    code: 4,
  },
  {
    section: 'b.6',
    what: 'one of two not Firmware',
    call: 'SNP_PAGE_SET_STATE',
    args: {
      ranges: [
        { ...page, pages: 1 },
        { hpa: hpa(OTHER), pages: 1 },
      ],
    },
    code: 0x1a,
    given: state(['Firmware', FRAME]),
  },
  {
    section: 'b.6',
    what: 'the RMP',
    call: 'SNP_PAGE_SET_STATE',
    args: (bench) => ({ ranges: [{ hpa: hpa(own(bench)), pages: 1 }] }),
    code: 9,
  },
  {
    section: 'b.6',
    what: 'not Firmware, before guest state',
    call: 'SNP_PAGE_MD_INIT',
    args: { ...page, gctx },
    code: 0x1a,
    given: newContext,
  },
  {
    section: 'b.6',
    what: 'guest INIT',
    call: 'SNP_PAGE_MD_INIT',
    args: { ...page, gctx },
    code: 2,
    given: (bench) => {
      newContext(bench)
      state(['Firmware', FRAME])(bench)
    },
  },
  {
    section: 'b.6',
    what: 'sizes differ, before states',
    call: 'SNP_PAGE_MOVE',
    args: { ...page, destination: hpa(OTHER) },
    code: 0x19,
    given: state(['Pre-Guest', FRAME], ['Pre-Guest', OTHER, '2M']),
  },
  {
    section: 'b.6',
    what: 'source Guest-Valid',
    call: 'SNP_PAGE_MOVE',
    args: { ...page, destination: hpa(OTHER) },
    code: 0x1a,
    given: state(['Guest-Valid', FRAME], ['Pre-Guest', OTHER]),
  },
  {
    section: 'b.6',
    what: 'target of another guest',
    call: 'SNP_PAGE_MOVE',
    args: { ...page, destination: hpa(OTHER) },
    code: 0x1c,
    given: (bench) => {
      state(['Pre-Guest', FRAME])(bench)
      bench.host('RMPUPDATE', { ...guestPage, hpa: hpa(OTHER), asid: 2, immutable: true })
    },
  },
  // Swaps
  {
    section: 'b.6',
    what: 'not a context, before the entry',
    call: 'SNP_PAGE_SWAP_OUT',
    args: { ...swap, gctx, metadata: '0x20' },
    code: 0x10,
  },
  {
    section: 'b.6',
    what: 'entry unaligned',
    call: 'SNP_PAGE_SWAP_OUT',
    args: { ...swap, metadata: `0x${(METADATA * 4096 + 32).toString(16)}` },
    code: 0x16,
    given: swapPages,
  },
  {
    section: 'b.6',
    what: 'entry inside the source',
    call: 'SNP_PAGE_SWAP_OUT',
    args: { ...swap, metadata: hpa(FRAME) },
    code: 0x16,
    given: swapPages,
  },
  {
    section: 'b.6',
    what: 'entry not in a metadata page',
    call: 'SNP_PAGE_SWAP_OUT',
    args: swap,
    code: 0x1a,
    given: state(['Firmware', OTHER], ['Pre-Swap', FRAME]),
  },
  {
    section: 'b.6',
    what: "another guest's metadata",
    call: 'SNP_PAGE_SWAP_OUT',
    args: { ...swap, gctx },
    code: 0x1c,
    given: (bench) => {
      swapPages(bench)
      newContext(bench)
    },
  },
  {
    section: 'b.6',
    what: 'source Guest-Valid',
    call: 'SNP_PAGE_SWAP_OUT',
    args: swap,
    code: 0x1a,
    given: state(['Metadata', METADATA], ['Firmware', OTHER], ['Guest-Valid', FRAME]),
  },
  {
    section: 'b.6',
    what: 'size, before states',
    call: 'SNP_PAGE_SWAP_OUT',
    args: swap,
    code: 0x19,
    given: state(['Metadata', METADATA], ['Guest-Valid', FRAME, '2M']),
  },
  {
    section: 'b.6',
    what: 'no valid entry',
    call: 'SNP_PAGE_SWAP_IN',
    args: swap,
    code: 0x1b,
    given: state(['Metadata', METADATA], ['Pre-Guest', OTHER]),
  },
  // Debugging: the policy after states and owner
  {
    section: 'b.6',
    what: 'target not Firmware, before policy',
    call: 'SNP_DBG_DECRYPT',
    args: { ...page, destination: hpa(OTHER) },
    code: 0x1a,
    given: state(['Guest-Valid', FRAME]),
  },
  {
    section: 'b.6',
    what: 'policy without DEBUG',
    call: 'SNP_DBG_DECRYPT',
    args: { ...page, destination: hpa(OTHER) },
    code: 7,
    given: state(['Guest-Valid', FRAME], ['Firmware', OTHER]),
  },
  {
    section: 'b.6',
    what: 'target Guest-Valid',
    call: 'SNP_DBG_ENCRYPT',
    args: { ...page, destination: hpa(OTHER) },
    code: 0x1a,
    given: state(['Guest-Valid', OTHER]),
  },
  {
    section: 'b.6',
    what: 'policy without DEBUG',
    call: 'SNP_DBG_ENCRYPT',
    args: { ...page, destination: hpa(OTHER) },
    code: 7,
    given: state(['Pre-Guest', OTHER]),
  },
  {
    section: 'd.8',
    what: 'finish of a guest in INIT',
    call: 'SNP_LAUNCH_FINISH',
    args: { gctx },
    code: 2,
    given: newContext,
  },
  { section: 'b.6', what: 'no context', call: 'SNP_GUEST_STATUS', args: { gctx }, code: 0x10 },
]

for (const { section, what, call, args, code, given } of ROWS)
  test(`${section}: ${call} → ${code.toString(16)}: ${what}`, () => {
    const bench = createBench()
    given?.(bench)
    const before = fingerprint(bench)
    const values = typeof args === 'function' ? args(bench) : args
    const isGuest = ['PVALIDATE', 'RMPADJUST', 'RMPQUERY'].includes(call)
    assert.equal(codeOf(isGuest ? bench.asGuest(call, values) : bench.host(call, values)), code)
    assert.equal(fingerprint(bench), before, 'no footprint')
  })

test('d.1: what the firmware says of a policy', () => {
  const refused = ['0x0', '0x10000', '0x20000', '0x30138', '0x30200', '0x230000', '0x2030000', '0x8000000000030000']
  for (const policy of refused) assert.equal(judgePolicy(BigInt(policy)), 7, policy)
  const accepted = ['0x30000', '0x30137', '0x300ff', '0xb0000', '0x130000', '0x70000']
  for (const policy of accepted) assert.equal(judgePolicy(BigInt(policy)), 0, policy)
})

test('b.6: a context page is found by its own address', () => {
  const bench = createBench()
  const status = bench.host('SNP_GUEST_STATUS', { gctx: contextOf(bench) })
  assert.equal(codeOf(status), 0)
  assert.deepEqual(status.kind === 'done' && status.outputs?.state, { name: 'LAUNCH', code: 1 })
})

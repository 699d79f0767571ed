import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PAGE_STATES, STATE_FIELDS, stateOf, withAsid } from '../../../src/hw/sev-snp/states.ts'
import { TRANSITIONS, type Transition } from '../../../src/hw/sev-snp/transitions.ts'
import { type Bench, codeOf, createBench, FRAME, GFN, hpa, mapPrivate } from './fake-machine.ts'
import { bringTo, stateOfFrame } from './page-states.ts'

const OTHER = FRAME + 0x200
const METADATA = FRAME + 0x400
const asidOf = (bench: Bench): number => bench.data.vms.get('vm-1')?.asid ?? 0
const at = { hpa: hpa(FRAME) }

/** How each row is done: prepares, performs, and says which frame must have changed. */
function perform(bench: Bench, row: Transition, from: (typeof row.from)[number]): number {
  const guest = { ...at, gpa: hpa(GFN), assigned: true, asid: asidOf(bench) }
  const run = (name: string, args: Readonly<Record<string, unknown>>): void =>
    assert.equal(codeOf(bench.host(name, args)), 0, `${name} ${JSON.stringify(args)}`)
  const begin = (size: '4K' | '2M' = '4K') => bringTo(bench, from, FRAME, GFN, size)
  const swap = (out: boolean, type = 'data') => ({
    ...(out ? { hpa: hpa(FRAME), destination: hpa(OTHER) } : { hpa: hpa(OTHER), destination: hpa(FRAME) }),
    metadata: `0x${(METADATA * 4096 + 64).toString(16)}`,
    pageType: type,
  })
  /** A page in `state` goes out, so that FRAME, in its place, can take it in. */
  const swappedOut = (state: 'Pre-Swap' | 'Pre-Guest' | 'Metadata') => {
    bringTo(bench, 'Metadata', METADATA, 0)
    bringTo(bench, 'Firmware', OTHER, 0)
    bringTo(bench, state, FRAME + 1, GFN + 1)
    run('SNP_PAGE_SWAP_OUT', { ...swap(true, state === 'Metadata' ? 'metadata' : 'data'), hpa: hpa(FRAME + 1) })
  }
  switch (`${row.by} ${row.to}${row.note === undefined ? '' : ` ${row.note}`}`) {
    case 'RMPUPDATE Guest-Invalid assigned, asid, gpa, size':
      begin()
      run('RMPUPDATE', guest)
      return FRAME
    case 'RMPUPDATE Pre-Guest the same with immutable':
    case 'RMPUPDATE Pre-Guest only immutable set':
    case 'RMPUPDATE Pre-Swap only immutable set':
      begin()
      run('RMPUPDATE', { ...guest, immutable: true })
      return FRAME
    case 'RMPUPDATE Firmware assigned, asid 0, immutable, gpa 0':
      begin()
      run('RMPUPDATE', { ...at, assigned: true, immutable: true })
      return FRAME
    case 'RMPUPDATE Hypervisor assigned=0':
      begin()
      run('RMPUPDATE', { ...at, assigned: false })
      return FRAME
    case 'RMPUPDATE Guest-Invalid gpa, asid or size changes':
      begin()
      run('RMPUPDATE', { ...guest, gpa: hpa(GFN + 7) })
      return FRAME
    case 'SNP_PAGE_RECLAIM Reclaim':
    case 'SNP_PAGE_RECLAIM Guest-Invalid':
    case 'SNP_PAGE_RECLAIM Guest-Valid':
      begin()
      run('SNP_PAGE_RECLAIM', at)
      return FRAME
    case 'SNP_PAGE_SET_STATE HV-Fixed':
      begin()
      run('SNP_PAGE_SET_STATE', { ranges: [{ ...at, pages: 1 }] })
      return FRAME
    case 'SNP_GCTX_CREATE Context 4K only; zeroed':
      begin()
      run('SNP_GCTX_CREATE', at)
      return FRAME
    case 'SNP_PAGE_MD_INIT Metadata':
      begin()
      run('SNP_PAGE_MD_INIT', at)
      return FRAME
    case 'SNP_DECOMMISSION Firmware':
      begin()
      run('SNP_DECOMMISSION', { gctx: hpa(FRAME) })
      return FRAME
    case 'SNP_LAUNCH_UPDATE Guest-Valid':
      begin()
      run('SNP_LAUNCH_UPDATE', { ...at, pageType: 1 })
      return FRAME
    case 'SNP_PAGE_SWAP_IN Metadata of a metadata page':
      swappedOut('Metadata')
      begin()
      run('SNP_PAGE_SWAP_IN', swap(false, 'metadata'))
      return FRAME
    case 'SNP_PAGE_SWAP_IN Pre-Swap the entry says validated':
      swappedOut('Pre-Swap')
      begin()
      run('SNP_PAGE_SWAP_IN', swap(false))
      return FRAME
    case 'SNP_PAGE_SWAP_IN Pre-Guest the entry says not validated':
      swappedOut('Pre-Guest')
      begin()
      run('SNP_PAGE_SWAP_IN', swap(false))
      return FRAME
    case 'SNP_PAGE_SWAP_OUT Firmware of a metadata page':
    case 'SNP_PAGE_SWAP_OUT Pre-Guest source':
      bringTo(bench, 'Metadata', METADATA, 0)
      bringTo(bench, 'Firmware', OTHER, 0)
      begin()
      run('SNP_PAGE_SWAP_OUT', swap(true, from === 'Metadata' ? 'metadata' : 'data'))
      return FRAME
    case 'SNP_PAGE_MOVE Metadata target':
      bringTo(bench, 'Metadata', OTHER, 0)
      begin()
      run('SNP_PAGE_MOVE', { hpa: hpa(OTHER), destination: hpa(FRAME) })
      assert.equal(stateOfFrame(bench, OTHER), 'Firmware')
      return FRAME
    case 'SNP_PAGE_MOVE Firmware source':
      bringTo(bench, 'Firmware', OTHER, 0)
      begin()
      run('SNP_PAGE_MOVE', { hpa: hpa(FRAME), destination: hpa(OTHER) })
      return FRAME
    case 'SNP_PAGE_MOVE Guest-Valid target, source Pre-Swap':
      bringTo(bench, 'Pre-Swap', OTHER, GFN + 0x200)
      begin()
      run('SNP_PAGE_MOVE', { hpa: hpa(OTHER), destination: hpa(FRAME) })
      return FRAME
    case 'SNP_PAGE_MOVE Guest-Invalid source; target, source Pre-Guest':
      bringTo(bench, 'Pre-Guest', OTHER, GFN + 0x200)
      begin()
      run('SNP_PAGE_MOVE', { hpa: hpa(FRAME), destination: hpa(OTHER) })
      assert.equal(stateOfFrame(bench, OTHER), 'Guest-Invalid')
      return FRAME
    case 'SNP_PAGE_MOVE Guest-Invalid source':
      bringTo(bench, 'Pre-Guest', OTHER, GFN + 0x200)
      begin()
      run('SNP_PAGE_MOVE', { hpa: hpa(FRAME), destination: hpa(OTHER) })
      return FRAME
    case 'PVALIDATE Guest-Valid validate=1, VMPL0':
      begin()
      mapPrivate(bench, GFN, FRAME)
      assert.equal(codeOf(bench.asGuest('PVALIDATE', { gpa: hpa(GFN) })), 0)
      return FRAME
    case 'PVALIDATE Guest-Invalid validate=0':
      begin()
      assert.equal(codeOf(bench.asGuest('PVALIDATE', { gpa: hpa(GFN), validate: false })), 0)
      return FRAME
    case `PSMASH ${from} 2M to 512 × 4K`:
      begin('2M')
      run('PSMASH', at)
      assert.equal(stateOfFrame(bench, FRAME + 511), row.to)
      return FRAME
    case `SNP_PAGE_UNSMASH ${from} 512 × 4K to 2M`:
      for (let index = 0; index < 512; index++) bringTo(bench, from, FRAME + index, GFN + index)
      run('SNP_PAGE_UNSMASH', at)
      assert.equal(stateOfFrame(bench, FRAME + 511), 'Reclaim')
      return FRAME
    default:
      throw new Error(`no test for ${JSON.stringify(row)}`)
  }
}

for (const row of TRANSITIONS)
  for (const from of row.from)
    test(`b.3: ${from} → ${row.to} by ${row.by}${row.note === undefined ? '' : ` (${row.note})`}`, () => {
      const bench = createBench()
      const frame = perform(bench, row, from)
      assert.equal(stateOfFrame(bench, frame), row.to)
    })

test('b.2: the state function is the table of fields, and every other combination is Invalid', () => {
  const marks = { none: 0, iommu: 1, metadata: 0x80000123 } as const
  for (let bits = 0; bits < 8; bits++)
    for (const asid of [0, 7])
      for (const vmsa of [0, 1] as const)
        for (const mark of ['none', 'iommu', 'metadata'] as const) {
          const matching = Object.entries(STATE_FIELDS).filter(
            ([, fields]) =>
              fields.assigned === (bits & 1) &&
              fields.validated === ((bits >> 1) & 1) &&
              fields.immutable === ((bits >> 2) & 1) &&
              fields.asid === asid > 0 &&
              (fields.mark === undefined || fields.mark === mark) &&
              (fields.vmsa === undefined || fields.vmsa === vmsa),
          )
          const state = stateOf(withAsid(bits | (vmsa << 4), asid), marks[mark])
          assert.ok(matching.length <= 1)
          assert.equal(state, matching[0]?.[0] ?? 'Invalid')
          assert.ok(PAGE_STATES.includes(state))
        }
})

test('b.2, b.3: every state but Default is the source or the target of some transition', () => {
  const named = new Set(TRANSITIONS.flatMap(({ from, to }) => [...from, to]))
  for (const state of Object.keys(STATE_FIELDS))
    if (state !== 'Firmware-IOMMU') assert.ok(named.has(state as (typeof PAGE_STATES)[number]), state)
})

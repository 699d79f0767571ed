import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ConversionExit, GuestRequest, RequestEntry } from '../../../src/hw/contract.ts'
import { backend } from '../../../src/hw/sev-snp/index.ts'
import type { PscRequest } from '../../../src/hw/sev-snp/psc.ts'
import { type Bench, createBench, FRAME, fingerprint, GFN, hpa, mapPrivate, VM } from './fake-machine.ts'
import { bringTo, stateOfFrame } from './page-states.ts'

type Shown = readonly [gfn: number, pages: number, span: number, isPrivate: boolean]
const show = ({ gfn, pages, span = 0, private: isPrivate }: ConversionExit): Shown => [gfn, pages, span, isPrivate]

/** Serves a request; the n-th exit gets `answers[n]`, 0 by default. */
function serve(bench: Bench, entries: readonly RequestEntry[], answers: readonly number[] = []) {
  const { hardware, guest } = bench
  const request = hardware.beginRequest(guest, entries)
  const exits: Shown[] = []
  for (let exit = hardware.nextExit(guest, request); exit !== undefined; exit = hardware.nextExit(guest, request)) {
    hardware.completeExit(guest, request, answers[exits.length] ?? 0)
    exits.push(show(exit))
  }
  return { exits, completed: request.completed, codes: request.statuses.map((status) => status?.code) }
}
const entry = (gfn: number, operation: RequestEntry['operation'] = 'private', span = 1, pages = 1): RequestEntry => ({
  gfn,
  pages,
  span,
  operation,
})
const GENERIC = 0x10000000000
const INVALID_HDR = 0x100000001
const INVALID_ENTRY = 0x100000002

test('c.2: adjacent entries of one operation and size become one exit', () => {
  const bench = createBench()
  const { exits, completed, codes } = serve(bench, [
    entry(10),
    entry(11),
    entry(12, 'shared'),
    entry(14, 'shared'),
    entry(512, 'shared', 512),
    entry(1024, 'shared', 512),
    entry(1536, 'shared'),
  ])
  assert.deepEqual(exits, [
    [10, 2, 1, true],
    [12, 1, 1, false],
    [14, 1, 1, false],
    [512, 1024, 512, false],
    [1536, 1, 1, false],
  ])
  assert.equal(completed, 7)
  assert.deepEqual(new Set(codes), new Set([0]))
})

test('c.2: 253 entries pass, 254 are INVALID_HDR with nothing done', () => {
  const bench = createBench()
  const many = Array.from({ length: 254 }, (_, index) => entry(index))
  assert.deepEqual(serve(bench, many.slice(1)).exits, [[1, 253, 1, true]])
  const refused = serve(bench, many)
  assert.deepEqual([refused.exits, refused.completed], [[], 0])
  assert.equal(refused.codes[0], INVALID_HDR)
})

test('c.2: a failure stops at the first entry of its exit; entries before stay done, after it untouched', () => {
  const bench = createBench()
  const entries = [entry(1), entry(5), entry(6), entry(9)]
  const { codes, completed, exits } = serve(bench, entries, [0, -22])
  assert.deepEqual(codes, [0, GENERIC, undefined, undefined])
  assert.equal(completed, 1)
  assert.equal(exits.length, 2)
})

test('c.2: an unaligned 2M entry is INVALID_ENTRY when its turn comes', () => {
  const bench = createBench()
  const { codes, exits } = serve(bench, [entry(512, 'private', 512), entry(513, 'private', 512), entry(9)])
  assert.deepEqual(codes, [0, INVALID_ENTRY, undefined])
  assert.deepEqual(exits, [[512, 512, 512, true]])
})

test('a large range goes in requests of 253 entries, by arithmetic', () => {
  const bench = createBench()
  assert.deepEqual(serve(bench, [entry(0, 'private', 262144, 1)]).exits, [
    [0, 253 * 512, 512, true],
    [253 * 512, 253 * 512, 512, true],
    [506 * 512, 6 * 512, 512, true],
  ])
  const half = serve(bench, [entry(0, 'private', 262144, 1)], [0, -5])
  assert.deepEqual([half.codes, half.completed], [[GENERIC], 0])
  const start = process.hrtime.bigint()
  assert.equal(serve(bench, [entry(0, 'private', 262144, 1024)]).exits.length, Math.ceil((512 * 1024) / 253))
  assert.ok(process.hrtime.bigint() - start < 500_000_000n)
})

test('the pages asked for are those of the exits, whatever the entries', () => {
  const entries = fc.array(
    fc.record({
      gfn: fc.integer({ min: 0, max: 4 }).map((block) => block * 512),
      pages: fc.integer({ min: 1, max: 600 }),
      span: fc.constantFrom(1, 512, 262144),
      operation: fc.constantFrom('private', 'shared', 'psmash', 'unsmash'),
    }),
    { maxLength: 8 },
  )
  fc.assert(
    fc.property(entries, (asked) => {
      const bench = createBench({ config: { pageStateHints: 'kvm' } })
      const { exits, completed, codes } = serve(bench, asked as RequestEntry[])
      assert.equal(completed, asked.length)
      assert.ok(codes.every((code) => code === 0))
      const flat = (list: readonly Shown[]): Shown[] => {
        const merged: Shown[] = []
        for (const [gfn, pages, span, isPrivate] of list) {
          const last = merged.at(-1)
          const joins = last !== undefined && last[0] + last[1] === gfn && last[2] === span && last[3] === isPrivate
          if (joins) merged[merged.length - 1] = [last[0], last[1] + pages, span, isPrivate]
          else merged.push([gfn, pages, span, isPrivate])
        }
        return merged
      }
      const wanted = asked
        .filter(({ operation }) => operation === 'private' || operation === 'shared')
        .map(
          ({ gfn, pages, span, operation }): Shown => [gfn, pages * span, Math.min(span, 512), operation === 'private'],
        )
      assert.deepEqual(flat(exits), flat(wanted))
      for (const [, pages, span] of exits) assert.ok(pages / span <= 253)
    }),
    { numRuns: 500 },
  )
})

test('a request is plain data: it goes on after a copy', () => {
  const { hardware, guest } = createBench()
  const first = hardware.beginRequest(guest, [entry(1), entry(7)])
  hardware.nextExit(guest, first)
  const copy = structuredClone(first)
  hardware.completeExit(guest, copy, 0)
  assert.deepEqual(hardware.nextExit(guest, copy)?.gfn, 7)
  hardware.completeExit(guest, copy, 0)
  assert.equal(hardware.nextExit(guest, copy), undefined)
  assert.equal(copy.completed, 2)
})

const outputsOf = (name: string, request: GuestRequest, args: Readonly<Record<string, unknown>> = {}) =>
  backend.calls.find((call) => call.name === name)?.outputs?.(request, args)

const raw = (bench: Bench, args: Readonly<Record<string, unknown>>, ret = 0) => {
  const result = bench.asGuest('SNP_PAGE_STATE_CHANGE', args)
  if (result.kind !== 'request') return { exits: [], outputs: result.kind === 'done' ? result.status : undefined }
  const exits: Shown[] = []
  const { hardware, guest } = bench
  for (let exit = hardware.nextExit(guest, result.request); exit; exit = hardware.nextExit(guest, result.request)) {
    hardware.completeExit(guest, result.request, ret)
    exits.push(show(exit))
  }
  return { exits, outputs: outputsOf('SNP_PAGE_STATE_CHANGE', result.request, args) }
}

test('c.2: the raw structure: inclusive end, partial 2M entries alone as 4K, done entries skipped, unknown ones passed', () => {
  const bench = createBench()
  const large = { gpa: hpa(512), operation: 1, pageSize: '2M' }
  const { exits, outputs } = raw(bench, {
    curEntry: 1,
    endEntry: 4,
    entries: [
      { ...large, gpa: '0x0' },
      { ...large, curPage: 3 },
      { ...large, gpa: hpa(1024), curPage: 512 },
      { ...large, operation: 9 },
    ],
  })
  assert.deepEqual(exits, [[515, 509, 1, true]])
  assert.deepEqual(outputs, {
    swExitInfo2: '0x0',
    status: { name: 'SUCCESS', code: 0 },
    curEntry: 5,
    endEntry: 4,
    curPages: [512, 512, 512, 1],
  })
  assert.deepEqual(raw(bench, { endEntry: 253, entries: [] }).outputs, { name: 'INVALID_HDR', code: INVALID_HDR })
  const failed = raw(bench, { endEntry: 1, entries: [{ ...large, curPage: 513 }, large] })
  assert.deepEqual(failed.outputs, {
    swExitInfo2: '0x100000002',
    status: { name: 'INVALID_ENTRY', code: INVALID_ENTRY },
    curEntry: 0,
    endEntry: 1,
    curPages: [513, 0],
  })
  const generic = raw(bench, { endEntry: 0, entries: [large] }, -1).outputs as { swExitInfo2: string }
  assert.equal(generic.swExitInfo2, '0x10000000000')
})

test('c.1: the MSR protocol converts one 4K page and answers 015 with the error above', () => {
  const { asGuest, hardware, guest } = createBench()
  const shared = asGuest('GHCB_MSR_PSC', { gpa: hpa(7), operation: 2 })
  assert.ok(shared.kind === 'request')
  const exit = hardware.nextExit(guest, shared.request)
  assert.deepEqual(exit && show(exit), [7, 1, 1, false])
  hardware.completeExit(guest, shared.request, 0)
  assert.deepEqual(outputsOf('GHCB_MSR_PSC', shared.request), { response: '0x15' })
  const refused = asGuest('GHCB_MSR_PSC', { gpa: hpa(7), operation: 3 })
  assert.deepEqual(refused.kind === 'done' && refused.outputs, { response: '0x100000015' })
  const failed = asGuest('GHCB_MSR_PSC', { gpa: hpa(7), operation: 1 })
  assert.ok(failed.kind === 'request')
  hardware.nextExit(guest, failed.request)
  hardware.completeExit(guest, failed.request, -14)
  assert.deepEqual(outputsOf('GHCB_MSR_PSC', failed.request), { response: '0x100000015' })
})

test('c.2: hints do nothing under KVM, and are followed with pageStateHints "honour"', () => {
  for (const pageStateHints of ['kvm', 'honour'] as const) {
    const bench = createBench({ config: { pageStateHints } })
    bringTo(bench, 'Guest-Valid', FRAME, GFN, '2M')
    const secret = new Uint8Array(4096).fill(7)
    bench.machine.write(FRAME + 5, secret)
    const before = fingerprint(bench)
    const smash = serve(bench, [entry(GFN, 'psmash', 512)])
    assert.deepEqual([smash.exits, smash.codes], [[], [0]])
    if (pageStateHints === 'kvm') {
      assert.equal(fingerprint(bench), before)
      continue
    }
    assert.equal(bench.hardware.mappingSpan(FRAME), 1)
    assert.equal(stateOfFrame(bench, FRAME + 511), 'Guest-Valid')
    mapPrivate(bench, GFN, FRAME, 512)
    assert.deepEqual(serve(bench, [entry(GFN, 'unsmash', 512)]).codes, [0])
    assert.equal(fingerprint(bench), before, 'back as it was, contents too')
    assert.deepEqual(
      bench.machine.events.map(({ name }) => name),
      ['PSMASH', 'RMPUPDATE', 'SNP_PAGE_UNSMASH', 'SNP_PAGE_RECLAIM'],
    )
  }
})

test('c.2: an unsmash hint for entries that differ succeeds, changes nothing and says why', () => {
  const bench = createBench()
  for (let index = 0; index < 512; index++) bringTo(bench, 'Guest-Invalid', FRAME + index, GFN + index)
  bringTo(bench, 'Guest-Valid', FRAME + 512, GFN + 512)
  mapPrivate(bench, GFN, FRAME, 512)
  bench.asGuest('PVALIDATE', { gpa: hpa(GFN + 9) })
  const before = fingerprint(bench)
  assert.deepEqual(serve(bench, [entry(GFN, 'unsmash', 512)]).codes, [0])
  assert.equal(fingerprint(bench), before)
  assert.deepEqual(bench.machine.events, [{ name: 'UNSMASH_SKIPPED', gfn: GFN, detail: 'the 512 entries differ' }])
})

test('the request of a VM says where it stands', () => {
  const { hardware, guest } = createBench()
  const request = hardware.beginRequest(guest, [entry(0, 'private', 512, 300)]) as PscRequest
  hardware.nextExit(guest, request)
  assert.deepEqual([request.inflight, request.done, guest.vm], [253, 0, VM])
  hardware.completeExit(guest, request, 0)
  assert.deepEqual([request.inflight, request.done, request.completed], [0, 253, 0])
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { entryOf, gfnOf } from '../../../src/hw/sev-snp/rmp.ts'
import { ASSIGNED, asidOf, IMMUTABLE, LARGE, permissionsOf, VALIDATED, VMSA } from '../../../src/hw/sev-snp/states.ts'
import { type Bench, createBench, hpa, mapPrivate, VM, vmOptions } from './fake-machine.ts'
import { NaiveRmp } from './naive-rmp.ts'

const RUNS = 2000
const PAGES = 2048
const BASE = 0x100000

type Step =
  | {
      readonly op: 'update'
      frame: number
      gfn: number
      large: boolean
      immutable: boolean
      assigned: boolean
      asid: number
    }
  | { readonly op: 'psmash' | 'unsmash'; frame: number }
  | { readonly op: 'pvalidate'; frame: number; shift: number; large: boolean; validate: boolean }
  | { readonly op: 'reclaim'; frame: number; large: boolean }
  | { readonly op: 'assign' | 'release'; frame: number; count: number; shift: number; span: number }

/** Borders of blocks, their neighbours, and anything between. */
const frames = fc.oneof(
  fc.constantFrom(0, 1, 511, 512, 513, 1023, 1024, 1536, 2047),
  fc.integer({ min: 0, max: PAGES - 1 }),
)
const shifts = fc.constantFrom(0, 0, 0, 512, 1)
const counts = fc.oneof(fc.constantFrom(1, 2, 511, 512, 513, 1024), fc.integer({ min: 1, max: PAGES }))
const blocks = fc.constantFrom(0, 0, 512, 512, 7, 1024)
const yes = fc.boolean()

const steps: fc.Arbitrary<Step> = fc.oneof(
  fc
    .tuple(
      fc.oneof(blocks, frames),
      shifts,
      yes,
      yes,
      fc.constantFrom(true, true, false),
      fc.constantFrom(0, 1, 1, 1, 2),
    )
    .map(([frame, shift, large, immutable, assigned, asid]) => ({
      op: 'update' as const,
      frame,
      gfn: asid === 0 ? 0 : BASE + frame + shift,
      large,
      immutable: immutable && assigned,
      assigned,
      asid: assigned ? asid : 0,
    })),
  fc.tuple(fc.constantFrom('psmash', 'unsmash'), blocks).map(([op, frame]) => ({ op, frame }) as Step),
  fc
    .tuple(fc.oneof(blocks, frames), shifts, yes, yes)
    .map(([frame, shift, large, validate]) => ({ op: 'pvalidate' as const, frame, shift, large, validate })),
  fc.tuple(fc.oneof(blocks, frames), yes).map(([frame, large]) => ({ op: 'reclaim' as const, frame, large })),
  fc
    .tuple(fc.constantFrom('assign', 'assign', 'release'), frames, counts, shifts, fc.constantFrom(1, 512, 262144))
    .map(([op, frame, count, shift, span]) => ({
      op: op as 'assign',
      frame,
      count: Math.min(count, PAGES - frame),
      shift,
      span,
    })),
)

function compare(bench: Bench, naive: NaiveRmp): void {
  const { rmp } = bench.data
  const counters = [0, 0, 0]
  for (let frame = 0; frame < PAGES; frame++) {
    const entry = entryOf(rmp, frame)
    const asid = asidOf(entry)
    const wanted = naive.at(frame)
    if (
      ((entry & ASSIGNED) !== 0) !== wanted.assigned ||
      ((entry & VALIDATED) !== 0) !== wanted.validated ||
      ((entry & IMMUTABLE) !== 0) !== wanted.immutable ||
      ((entry & LARGE) !== 0) !== wanted.large ||
      ((entry & VMSA) !== 0) !== wanted.vmsa ||
      asid !== wanted.asid ||
      (asid !== 0 && gfnOf(rmp, frame) !== wanted.gfn) ||
      wanted.permissions.some((permissions, index) => permissionsOf(entry, index + 1) !== permissions)
    )
      assert.deepEqual({ frame, entry, gfn: gfnOf(rmp, frame) }, { frame, ...wanted })
    counters[asid] = (counters[asid] ?? 0) + 1
  }
  assert.equal(rmp.counters[1], counters[1])
  assert.equal(rmp.counters[2], counters[2])
}

function apply(bench: Bench, naive: NaiveRmp, step: Step): void {
  const code = (result: ReturnType<Bench['host']>): number =>
    result.kind === 'fault'
      ? result.mended
        ? -3
        : -2
      : result.kind === 'done'
        ? result.outputs?.carry === true
          ? -1
          : Number(result.status.code)
        : Number.NaN
  switch (step.op) {
    case 'update': {
      const { frame, gfn, large, immutable, assigned, asid } = step
      const args = { hpa: hpa(frame), gpa: hpa(gfn), pageSize: large ? '2M' : '4K', immutable, assigned, asid }
      const real = code(bench.host('RMPUPDATE', args))
      assert.equal(real, naive.update(frame, assigned, large, immutable, asid, gfn))
      return
    }
    case 'psmash':
      assert.equal(code(bench.host('PSMASH', { hpa: hpa(step.frame) })), naive.psmash(step.frame))
      return
    case 'unsmash':
      assert.equal(code(bench.host('SNP_PAGE_UNSMASH', { hpa: hpa(step.frame) })), naive.unsmash(step.frame))
      return
    case 'pvalidate': {
      const { frame, shift, large, validate } = step
      const gfn = BASE + frame + shift
      mapPrivate(bench, gfn, frame)
      const args = { gpa: hpa(gfn), pageSize: large ? '2M' : '4K', validate }
      assert.equal(code(bench.asGuest('PVALIDATE', args)), naive.pvalidate(1, gfn, frame, large, validate))
      return
    }
    case 'reclaim': {
      const { frame, large } = step
      // Entries without ASID are firmware's, which the model doesn't know.
      if (naive.at(frame).immutable && naive.at(frame).asid === 0) return
      const real = code(bench.host('SNP_PAGE_RECLAIM', { hpa: hpa(frame), pageSize: large ? '2M' : '4K' }))
      assert.equal(real, naive.reclaim(frame, large))
      return
    }
    case 'assign': {
      const gfn = BASE + step.frame + step.shift
      assert.ok(bench.hardware.assign(VM, gfn, step.frame, step.count, step.span).ok)
      naive.assign(1, gfn, step.frame, step.count, step.span)
      return
    }
    case 'release': {
      const before = naive.smashes
      const events = bench.machine.events.filter(({ name }) => name === 'PSMASH').length
      bench.hardware.release(VM, BASE + step.frame, step.frame, step.count)
      naive.release(step.frame, step.count)
      const smashes = bench.machine.events.filter(({ name }) => name === 'PSMASH').length - events
      assert.equal(smashes, naive.smashes - before)
    }
  }
}

test('the RMP agrees with a table of one object a page after any short sequence (b.4, b.5, b.6, b.7)', () => {
  fc.assert(
    fc.property(fc.array(steps, { minLength: 1, maxLength: 12 }), (sequence) => {
      const bench = createBench()
      const naive = new NaiveRmp(PAGES)
      for (const step of sequence) apply(bench, naive, step)
      compare(bench, naive)
    }),
    { numRuns: RUNS },
  )
})

test('one range is its pieces: assign, release and describe', () => {
  fc.assert(
    fc.property(
      fc.array(steps, { maxLength: 4 }),
      frames,
      counts,
      fc.array(fc.integer({ min: 1, max: PAGES }), { maxLength: 5 }),
      fc.boolean(),
      (prepare, frame, count, cuts, isRelease) => {
        const whole = createBench()
        const pieces = createBench()
        for (const bench of [whole, pieces]) {
          const naive = new NaiveRmp(PAGES)
          for (const step of prepare) apply(bench, naive, step)
        }
        const end = Math.min(PAGES, frame + count)
        const borders = [...new Set([frame, ...cuts.filter((cut) => cut > frame && cut < end), end])].toSorted(
          (a, b) => a - b,
        )
        const change = (bench: Bench, from: number, to: number): void => {
          if (isRelease) bench.hardware.release(VM, BASE + from, from, to - from)
          else assert.ok(bench.hardware.assign(VM, BASE + from, from, to - from, 1).ok)
        }
        change(whole, frame, end)
        for (const [index, border] of borders.slice(0, -1).entries()) change(pieces, border, borders[index + 1] ?? end)
        assert.deepEqual(described(pieces), described(whole))
        assert.deepEqual(pieces.data.rmp.counters, whole.data.rmp.counters)
      },
    ),
    { numRuns: 300 },
  )
})

function described(bench: Bench): unknown[] {
  const pages: unknown[] = []
  bench.hardware.describe(VM, BASE, 0, PAGES, (count, state) => {
    for (let index = 0; index < count; index++) pages.push(state)
  })
  return pages
}

test('data survives structured clone and goes on alike', () => {
  const bench = createBench()
  bench.hardware.assign(VM, BASE, 0, 1024, 512)
  const copy = createBench()
  const data = structuredClone(bench.data)
  assert.deepEqual(data, bench.data)
  const naive = new NaiveRmp(PAGES)
  naive.assign(1, BASE, 0, 1024, 512)
  compare({ ...copy, data }, naive)
  assert.ok(bench.hardware.createVm(vmOptions('vm-2')).ok)
})

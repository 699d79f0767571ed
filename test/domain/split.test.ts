import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { PrivacyModel } from '../../src/domain/state.ts'
import { PAGE, TestHost } from '../support/domain.ts'

/** How often each equivalence is tried; the nightly run sets more. */
const CASES = Number(process.env.GMEMD_SPLIT_CASES ?? 200)
const PAGES = 1300

type Range = { readonly first: number; readonly pages: number }
type Operation = 'fallocate' | 'punch' | 'private' | 'shared' | 'attribute' | 'no-attribute'

/** A range of a memfile or of guest memory, and borders that cut it, in the order in which its pieces are done. */
const cut = fc
  .record({
    first: fc.nat(PAGES - 2),
    length: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: PAGES })),
    cuts: fc.uniqueArray(fc.nat(PAGES), { maxLength: 12 }),
    seed: fc.array(fc.nat(1000), { minLength: 14, maxLength: 14 }),
  })
  .map(({ first, length, cuts, seed }) => {
    const whole: Range = { first, pages: Math.min(length, PAGES - first) }
    const end = first + whole.pages
    const borders = [first, ...cuts.filter((at) => at > first && at < end).sort((a, b) => a - b), end]
    const pieces = borders.slice(1).map((border, index): Range & { order: number } => {
      const from = borders[index] ?? first
      return { first: from, pages: border - from, order: seed[index] ?? 0 }
    })
    pieces.sort((a, b) => a.order - b.order)
    return { whole, pieces }
  })

/** Earlier history, so that the range meets holes, pages and both kinds. */
const history = fc.array(
  fc.record({
    operation: fc.constantFrom<Operation>('fallocate', 'punch', 'private', 'shared', 'attribute', 'no-attribute'),
    first: fc.nat(PAGES - 60),
    pages: fc.integer({ min: 1, max: 60 }),
  }),
  { maxLength: 8 },
)

class Machine {
  readonly t = new TestHost({ pages: 4 * PAGES })
  readonly vm: string
  readonly memfile: string

  constructor(privacy: PrivacyModel) {
    this.vm = this.t.vm({ privacy })
    this.memfile = this.t.memfile(PAGES, this.vm)
    // Two slots that meet, a hole in the file between them, and the second at another place than its file offset.
    this.t.slot(this.vm, 0, 0, 500 * PAGE, { memfile: this.memfile })
    this.t.slot(this.vm, 1, 500 * PAGE, 700 * PAGE, { memfile: this.memfile, memfileOffset: 600 * PAGE })
    this.t.slot(this.vm, 2, 1200 * PAGE, 100 * PAGE)
    for (const gfn of [0, 30, 499, 500, 511, 512, 777]) this.t.hostWrite(this.vm, gfn * PAGE, gfn & 0xff, 16)
  }

  do(operation: Operation, { first, pages }: Range): void {
    const { t, vm, memfile } = this
    const range = { gpa: first * PAGE, length: pages * PAGE }
    if (operation === 'fallocate') t.fallocate(memfile, range.gpa, range.length)
    else if (operation === 'punch') t.punch(memfile, range.gpa, range.length)
    else if (operation === 'private' || operation === 'shared') {
      t.pageStates(vm, [{ gpa: range.gpa, pages, operation }])
    } else t.apply({ type: 'attributes.set', vm, ...range, private: operation === 'attribute' })
  }

  /** All that can be seen of it; frame numbers cannot. */
  visible(): unknown {
    const { t, vm } = this
    const bytes = []
    for (let gfn = 0; gfn < 1300; gfn += 13) bytes.push(t.access(vm, 'read', gfn * PAGE, 16).data)
    return [runsAndFree(t, vm), t.host.state.memfiles.get(this.memfile)?.allocated, bytes, runsAndFree(t, vm)]
  }
}

const runsAndFree = (t: TestHost, vm: string): unknown => [t.runs(vm, 0, PAGES + 100), t.free()]

const TABLE: readonly (readonly [PrivacyModel, Operation])[] = [
  ['populated', 'fallocate'],
  ['populated', 'punch'],
  ['populated', 'private'],
  ['populated', 'shared'],
  ['attributes', 'fallocate'],
  ['attributes', 'punch'],
  ['attributes', 'private'],
  ['attributes', 'shared'],
  ['attributes', 'attribute'],
  ['attributes', 'no-attribute'],
]

describe('one range is its pieces, in any order (G3)', () => {
  for (const [privacy, operation] of TABLE) {
    it(`${operation}, ${privacy}`, () => {
      fc.assert(
        fc.property(history, cut, (earlier, { whole, pieces }) => {
          // A conversion to private stops where there is no memfile, so its range must have one.
          const limit = operation === 'private' ? 1200 : PAGES
          const [one, many] = [new Machine(privacy), new Machine(privacy)]
          for (const machine of [one, many]) for (const step of earlier) machine.do(step.operation, step)
          const clip = ({ first, pages }: Range): Range => ({ first, pages: Math.min(pages, limit - first) })
          if (clip(whole).pages > 0) one.do(operation, clip(whole))
          for (const piece of pieces) if (clip(piece).pages > 0) many.do(operation, clip(piece))
          assert.deepEqual(many.visible(), one.visible())
        }),
        { numRuns: CASES },
      )
    })
  }
})

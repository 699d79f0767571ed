import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import v8 from 'node:v8'
import fc from 'fast-check'
import * as framePool from '../../src/domain/frame-pool.ts'

const BLOCK = 512
const GIB = 262144

type Step =
  | { kind: 'one' }
  | { kind: 'some'; count: number; alignment: framePool.FrameAlignment }
  | { kind: 'free'; which: number; from: number; to: number }
  | { kind: 'claim'; start: number; count: number }
  | { kind: 'aligned'; count: number }

const small = fc.oneof(
  fc.integer({ min: 1, max: 40 }),
  fc.integer({ min: 1, max: 3000 }),
  fc.constantFrom(511, 512, 513),
)
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.constant<Step>({ kind: 'one' }),
  small.map((count): Step => ({ kind: 'some', count, alignment: 1 })),
  fc.integer({ min: 1, max: 4 }).map((blocks): Step => ({ kind: 'some', count: blocks * BLOCK, alignment: 512 })),
  fc.record({ kind: fc.constant('free' as const), which: fc.nat(), from: fc.nat(), to: fc.nat() }),
  fc.record({ kind: fc.constant('claim' as const), start: fc.nat(6000), count: small }),
  fc.integer({ min: 0, max: 9 }).map((bits): Step => ({ kind: 'aligned', count: 2 ** bits })),
)

/** The pool beside a model: the set of frames that are free, and the runs that were handed out. */
class Twin {
  readonly pool: framePool.FramePool
  readonly model = new Set<number>()
  readonly held: framePool.FrameRun[] = []

  constructor(frames: number, reserved: number) {
    this.pool = framePool.create(frames, reserved)
    for (let frame = reserved; frame < frames; frame++) this.model.add(frame)
  }

  hand(runs: readonly framePool.FrameRun[]): void {
    for (const run of runs) {
      for (let frame = run.start; frame < run.start + run.count; frame++) {
        assert.ok(this.model.delete(frame), `frame ${frame} was handed out twice`)
      }
      this.held.push(run)
    }
  }

  run(step: Step): void {
    if (step.kind === 'one') this.one()
    else if (step.kind === 'some') this.some(step.count, step.alignment)
    else if (step.kind === 'claim') this.claim(step.start, step.count)
    else if (step.kind === 'aligned') this.aligned(step.count)
    else if (this.held.length > 0) this.free(step.which % this.held.length, step.from, step.to)
    assert.equal(framePool.freeFrames(this.pool), this.model.size)
  }

  one(): void {
    const frame = framePool.allocateOne(this.pool)
    if (frame >= 0) this.hand([{ start: frame, count: 1 }])
    else assert.equal(this.model.size, 0)
  }

  some(count: number, alignment: framePool.FrameAlignment): void {
    const before = structuredClone(this.pool)
    const runs = framePool.allocate(this.pool, count, alignment)
    if (!runs) {
      assert.deepEqual(this.pool, before, 'a refusal changes nothing')
      assert.ok(alignment === 1 ? this.model.size < count : this.wholeFrames() < count)
      return
    }
    let previous = -1
    for (const run of runs) {
      assert.ok(run.count > 0 && run.start > previous, 'runs ascend, with a gap between them')
      assert.equal(run.start % alignment, 0)
      assert.equal(run.count % alignment, 0)
      previous = run.start + run.count
    }
    assert.equal(
      runs.reduce((sum, run) => sum + run.count, 0),
      count,
    )
    this.hand(runs)
  }

  claim(start: number, count: number): void {
    let possible = true
    for (let frame = start; frame < start + count; frame++) if (!this.model.has(frame)) possible = false
    assert.equal(framePool.claim(this.pool, start, count), possible)
    if (possible) this.hand([{ start, count }])
  }

  aligned(count: number): void {
    const before = structuredClone(this.pool)
    const start = framePool.allocateAligned(this.pool, count)
    if (start >= 0) {
      assert.equal(start % count, 0)
      this.hand([{ start, count }])
      return
    }
    assert.deepEqual(this.pool, before, 'a refusal changes nothing')
    for (let frame = 0; frame < this.pool.frames; frame += count) {
      let free = 0
      while (free < count && this.model.has(frame + free)) free++
      assert.ok(free < count, `there was a place at ${frame}`)
    }
  }

  free(which: number, a: number, b: number): void {
    const run = this.held[which] as framePool.FrameRun
    const from = Math.min(a % run.count, b % run.count)
    const to = Math.max(a % run.count, b % run.count) + 1
    const rest = [
      { start: run.start, count: from },
      { start: run.start + to, count: run.count - to },
    ]
    this.held.splice(which, 1, ...rest.filter((piece) => piece.count > 0))
    framePool.free(this.pool, run.start + from, to - from)
    for (let frame = run.start + from; frame < run.start + to; frame++) this.model.add(frame)
  }

  wholeFrames(): number {
    let whole = 0
    for (let block = 0; (block + 1) * BLOCK <= this.pool.frames; block++) {
      let frame = block * BLOCK
      while (frame < (block + 1) * BLOCK && this.model.has(frame)) frame++
      if (frame === (block + 1) * BLOCK) whole += BLOCK
    }
    return whole
  }

  check(): void {
    for (let frame = 0; frame < this.pool.frames; frame++) {
      if (framePool.isFree(this.pool, frame) !== this.model.has(frame)) assert.fail(`frame ${frame} differs`)
    }
    assert.equal(framePool.freeBlocks(this.pool) * BLOCK, this.wholeFrames())
  }
}

describe('frame pool', () => {
  it('does what a set of free frames does', () => {
    const size = fc.record({ frames: fc.integer({ min: 1, max: 6000 }), reserved: fc.integer({ min: 0, max: 1500 }) })
    fc.assert(
      fc.property(size, fc.array(step, { maxLength: 60 }), ({ frames, reserved }, steps) => {
        const twin = new Twin(frames, Math.min(reserved, frames))
        for (const each of steps) twin.run(each)
        twin.check()
        while (twin.held.length > 0) twin.free(0, 0, Number.MAX_SAFE_INTEGER)
        twin.check()
      }),
    )
  })

  it('decides the same again, also after a checkpoint is read back', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.array(step, { maxLength: 40 }), (before, after) => {
        const [a, b] = [new Twin(5000, 77), new Twin(5000, 77)]
        for (const twin of [a, b]) for (const each of before) twin.run(each)
        assert.deepEqual(a.pool, b.pool)
        const c = Object.assign(new Twin(5000, 77), { pool: v8.deserialize(v8.serialize(a.pool)) })
        c.model.clear()
        for (const frame of a.model) c.model.add(frame)
        c.held.push(...a.held)
        for (const twin of [a, c]) for (const each of after) twin.run(each)
        assert.deepEqual(c.held, a.held)
        c.check()
      }),
      { numRuns: 50 },
    )
  })

  it('hands out 2^31 frames, contiguous as long as it can', () => {
    const pool = framePool.create(2 ** 31, 1)
    assert.equal(framePool.freeFrames(pool), 2 ** 31 - 1)
    assert.ok(!framePool.isFree(pool, 0))
    assert.ok(framePool.isFree(pool, 2 ** 31 - 1))
    assert.deepEqual(framePool.allocate(pool, GIB, 262144), [{ start: GIB, count: GIB }])
    assert.deepEqual(framePool.allocate(pool, GIB, 1), [{ start: 2 * GIB, count: GIB }])
    const rest = framePool.allocate(pool, framePool.freeFrames(pool), 1)
    assert.deepEqual(rest, [
      { start: 1, count: GIB - 1 },
      { start: 3 * GIB, count: 2 ** 31 - 3 * GIB },
    ])
    assert.equal(framePool.allocateOne(pool), -1)
    framePool.free(pool, 2 ** 31 - 1, 1)
    assert.equal(framePool.allocateOne(pool), 2 ** 31 - 1)
  })

  it('takes single frames from blocks that are partly used', () => {
    const pool = framePool.create(8 * BLOCK)
    const frames = Array.from({ length: 700 }, () => framePool.allocateOne(pool))
    assert.equal(framePool.freeBlocks(pool), 6)
    framePool.free(pool, 3, 1)
    assert.equal(framePool.allocateOne(pool), 3)
    for (const frame of frames) framePool.free(pool, frame, 1)
    assert.equal(framePool.freeBlocks(pool), 8)
    assert.deepEqual(framePool.allocate(pool, 8 * BLOCK, 512), [{ start: 0, count: 8 * BLOCK }])
  })

  it('puts a few frames in one place where a partly used block has one', () => {
    const pool = framePool.create(4 * BLOCK)
    framePool.allocateOne(pool)
    assert.deepEqual(framePool.allocate(pool, 100, 1), [{ start: 1, count: 100 }])
    assert.deepEqual(framePool.allocate(pool, 500, 1), [{ start: 512, count: 500 }])
    assert.equal(framePool.freeBlocks(pool), 2)
  })

  it('puts an aligned run into a partly used block, and breaks a whole one only where it must', () => {
    const pool = framePool.create(3 * BLOCK, 1)
    assert.equal(framePool.allocateAligned(pool, 4), 4)
    assert.equal(framePool.allocateAligned(pool, 256), 256)
    assert.equal(framePool.freeBlocks(pool), 2)
    assert.equal(framePool.allocateAligned(pool, 512), 512)
    assert.equal(framePool.allocateAligned(pool, 256), 1024, 'no place of 256 is left in the first block')
    for (let count = 0; count < 40; count++) framePool.claim(pool, 1280 + 2 * count, 1)
    assert.equal(framePool.allocateAligned(pool, 128), 1408)
    assert.equal(framePool.allocateAligned(pool, 512), -1)
  })

  it('refuses large pages when no large page is whole, and takes nothing', () => {
    const pool = framePool.create(4 * BLOCK)
    for (let block = 0; block < 4; block++) assert.ok(framePool.claim(pool, block * BLOCK + 9, 1))
    assert.equal(framePool.allocate(pool, BLOCK, 512), undefined)
    assert.equal(framePool.freeFrames(pool), 4 * 511)
    const runs = framePool.allocate(pool, 4 * 511, 1)
    assert.deepEqual(runs?.length, 5)
    assert.equal(framePool.freeFrames(pool), 0)
    assert.equal(framePool.allocate(pool, 1, 1), undefined)
  })

  it('aligns to 1 GiB, over several runs if it must', () => {
    const pool = framePool.create(5 * GIB)
    framePool.claim(pool, 2 * GIB + 5, 1)
    assert.equal(framePool.allocate(pool, 5 * GIB, 262144), undefined)
    assert.deepEqual(framePool.allocate(pool, 3 * GIB, 262144), [
      { start: 0, count: 2 * GIB },
      { start: 3 * GIB, count: GIB },
    ])
  })

  it('finds whole blocks that came back below where single frames are taken', () => {
    const pool = framePool.create(6 * BLOCK)
    assert.ok(framePool.allocate(pool, 4 * BLOCK, 512))
    assert.equal(framePool.allocateOne(pool), 4 * BLOCK)
    framePool.free(pool, 0, 3 * BLOCK)
    assert.equal(framePool.freeBlocks(pool), 4)
    assert.deepEqual(framePool.allocate(pool, 3 * BLOCK, 512), [{ start: 0, count: 3 * BLOCK }])
  })

  it('goes on with the other partly used blocks when any of them is used up or whole again', () => {
    const order = [0, 1, 2, 3]
    for (const gone of order) {
      for (const whole of [false, true]) {
        const pool = framePool.create(4 * BLOCK)
        for (const block of order) assert.ok(framePool.claim(pool, block * BLOCK, 500))
        // A record that was used before, at the head of the list.
        assert.ok(framePool.claim(pool, 500, 12))
        framePool.free(pool, 500, 12)
        if (whole) framePool.free(pool, gone * BLOCK, 500)
        else assert.ok(framePool.claim(pool, gone * BLOCK + 500, 12))
        const left = Array.from({ length: 36 }, () => framePool.allocateOne(pool)).sort((a, b) => a - b)
        const expected = order
          .filter((block) => block !== gone)
          .flatMap((block) => Array.from({ length: 12 }, (_, index) => block * BLOCK + 500 + index))
        assert.deepEqual(left, expected)
        assert.equal(framePool.freeFrames(pool), whole ? BLOCK : 0)
      }
    }
  })

  it('throws when frames are freed that are not in use', () => {
    const pool = framePool.create(2 * BLOCK + 10)
    const before = structuredClone(pool)
    assert.throws(() => framePool.free(pool, 0, 1), /not all in use/)
    framePool.claim(pool, 100, 50)
    for (const [start, count] of [
      [99, 2],
      [100, 51],
      [0, 2 * BLOCK],
      [149, 1 + BLOCK],
      [2 * BLOCK + 9, 2],
    ] as const) {
      assert.throws(() => framePool.free(pool, start, count), /not all in use/)
    }
    framePool.free(pool, 100, 50)
    assert.equal(framePool.freeFrames(pool), before.free)
    assert.equal(framePool.freeBlocks(pool), 2)
    framePool.claim(pool, 0, 2 * BLOCK)
    framePool.free(pool, BLOCK + 5, 1)
    assert.throws(() => framePool.free(pool, 0, 2 * BLOCK), /not all in use/)
  })
})

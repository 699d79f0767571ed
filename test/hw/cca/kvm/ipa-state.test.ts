import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hex, PAGE, pageStatesCommand } from '../../../support/domain.ts'
import {
  comply,
  delegated,
  exitsOf,
  filledPages,
  GFN,
  GPA,
  granuleAt,
  must,
  newHost,
  outcome,
  PAR,
  PRIVACIES,
  pageStates,
  type RealmBench,
  reach,
  realmIn,
  request,
  resume,
  rsi,
  running,
  spare,
  stateOf,
  stateSet,
  states,
  statuses,
  type Value,
} from './realm-host.ts'

const PRIVATE = { private: true } as const
const done = (answer: Value): unknown[] => [(answer.status as Value).name, answer.x1, answer.response]
const exitOf = ({ reason, gpa, length, flags, private: isPrivate, errno, number }: Value): unknown[] => [
  reason,
  number,
  gpa,
  length,
  flags,
  isPrivate,
  errno,
]
const zeros = (length: number): Buffer => Buffer.alloc(length)

for (const privacy of PRIVACIES) {
  /** The guest asks, in one way or the other; the VMM has complied with every exit of it. */
  const ways: [string, (bench: RealmBench, gpa: number, pages: number, to: 'private' | 'shared') => void][] = [
    [
      'page-states',
      (bench, gpa, pages, to) => assert.deepEqual(statuses(request(bench, gpa, pages, to)), ['RSI_SUCCESS']),
    ],
    [
      'RSI_IPA_STATE_SET',
      (bench, gpa, pages, to) => {
        const answer = stateSet(bench, gpa, pages, to === 'private' ? 'RAM' : 'EMPTY')
        assert.deepEqual(done(answer), ['RSI_SUCCESS', hex(gpa + pages * PAGE), 'ACCEPT'])
      },
    ],
    [
      'page-states, manual',
      (bench, gpa, pages, to) => {
        const asked = request(bench, gpa, pages, to)
        assert.deepEqual(statuses(asked), ['NOT_PROCESSED'])
        comply(bench, gpa, pages, to === 'private')
        assert.deepEqual(statuses(resume(bench.t, bench.vm)), ['RSI_SUCCESS'])
      },
    ],
    [
      'RSI_IPA_STATE_SET, manual',
      (bench, gpa, pages, to) => {
        const answer = stateSet(bench, gpa, pages, to === 'private' ? 'RAM' : 'EMPTY')
        assert.equal(answer.status.name, 'PENDING')
        comply(bench, gpa, pages, to === 'private')
        assert.deepEqual(done(resume(bench.t, bench.vm)), ['RSI_SUCCESS', hex(gpa + pages * PAGE), 'ACCEPT'])
      },
    ],
  ]
  for (const [way, convert] of ways) {
    const conversion = way.endsWith('manual') ? 'manual' : 'auto'
    const world = (pages?: number) => running({ privacy, conversion }, pages)

    describe(`conversion by ${way}, ${privacy} (arm-cca.md 7)`, () => {
      it('arm-cca.md 7: private → shared: EMPTY, the page gone and wiped; the alias is ordinary memory, zero', () => {
        const bench = world()
        const { t, vm } = bench
        filledPages(bench, 4)
        const held = delegated(t)
        convert(bench, GPA + PAGE, 2, 'shared')
        assert.deepEqual(states(bench, GPA, 4), ['A/R', 'U/E', 'U/E', 'A/R'])
        assert.equal(delegated(t), held - 2)
        assert.deepEqual(t.read(vm, GPA + PAR + PAGE, PAGE), zeros(PAGE), 'contents do not survive')
        assert.equal(outcome(reach(bench, 'read', GPA + PAGE, PRIVATE)), 'guest-fault SEA')
        assert.equal(t.kinds(vm, GFN, 4), 'PssP')
        assert.equal(t.read(vm, GPA + 3 * PAGE, 1, PRIVATE)[0], 0x5e)
      })

      it('arm-cca.md 7: shared → private: RAM, and the touch maps a zero page; the shared bytes are not in it', () => {
        const bench = world()
        const { t, vm } = bench
        filledPages(bench, 2)
        convert(bench, GPA, 2, 'shared')
        t.write(vm, GPA + PAR, 0x33, 2 * PAGE)
        convert(bench, GPA, 2, 'private')
        assert.equal(stateOf(bench, GPA + PAGE), privacy === 'populated' ? 'A/R' : 'U/R')
        assert.deepEqual(t.read(vm, GPA, 2 * PAGE, PRIVATE), zeros(2 * PAGE))
        assert.equal(stateOf(bench, GPA + PAGE), 'A/R')
      })

      it('arm-cca.md 7: what the host had destroyed becomes RAM again, for the guest gives CHANGE_DESTROYED', () => {
        const bench = world()
        const { t, vm, memfile } = bench
        filledPages(bench, 3)
        t.punch(memfile, PAGE, PAGE)
        assert.deepEqual(states(bench, GPA, 3), ['A/R', 'U/D', 'A/R'])
        convert(bench, GPA, 3, 'private')
        assert.deepEqual(states(bench, GPA, 3), ['A/R', privacy === 'populated' ? 'A/R' : 'U/R', 'A/R'])
        assert.deepEqual(
          [0, 1, 2].map((page) => t.read(vm, GPA + page * PAGE, 1, PRIVATE)[0]),
          [0x5e, 0, 0x5e],
          'the page that is RAM already keeps its contents',
        )
      })

      it('arm-cca.md 5: over entries of 2 MiB: tables only where the range ends inside one', () => {
        const bench = world(2048)
        const { t, vm } = bench
        convert(bench, GPA + 100 * PAGE, 1500, 'shared')
        assert.equal(stateOf(bench, GPA + 600 * PAGE), 'U/E at 2')
        assert.deepEqual(
          [99, 100, 1599, 1600].map((page) => stateOf(bench, GPA + page * PAGE)),
          ['U/R', 'U/E', 'U/E', 'U/R'],
        )
        convert(bench, GPA, 2048, 'private')
        for (const page of [100, 600, 1599]) t.read(vm, GPA + page * PAGE, 1, PRIVATE)
      })
    })
  }

  describe(`what the VMM hears, ${privacy} (arm-cca.md 7, 9)`, () => {
    for (const [to, isPrivate] of [
      ['private', true],
      ['shared', false],
    ] as const) {
      it(`arm-cca.md 7, 9: ${to}: one KVM_EXIT_MEMORY_FAULT over the whole range, with the private flag or without`, () => {
        const bench = running({ privacy, conversion: 'manual', vcpus: 2 }, 2048)
        const { t, vm } = bench
        const asked = request(bench, GPA + PAGE, 1700, to)
        const expected = [
          'KVM_EXIT_MEMORY_FAULT',
          39,
          hex(GPA + PAGE),
          1700 * PAGE,
          isPrivate ? 8 : 0,
          isPrivate,
          'EFAULT',
        ]
        assert.deepEqual(exitOf(asked.waiting as Value), expected)
        assert.equal((asked.waiting as Value).hypercall, undefined)
        assert.deepEqual(exitsOf(t, vm).length, 1)
        resume(t, vm)
        const raw = stateSet(bench, GPA + PAGE, 1700, isPrivate ? 'RAM' : 'EMPTY')
        assert.deepEqual(exitOf(raw.waiting as Value), expected)
        assert.equal(t.refused(pageStatesCommand(vm, [{ gpa: GPA, operation: to }])).code, 'vcpu-waiting')
        t.ok(pageStatesCommand(vm, [{ gpa: GPA, operation: to }], 1))
      })
    }

    it('arm-cca.md 9: a range that is of this kind already is told of as well: the RMM asks every time', () => {
      const bench = running({ privacy })
      for (const to of ['private', 'private', 'shared', 'shared'] as const)
        assert.equal((request(bench, GPA, 2, to).exits as unknown[]).length, 1, to)
    })

    it('arm-cca.md 7: several entries: one exit each, in order; the first that fails ends it', () => {
      const bench = running({ privacy })
      const value = pageStates(bench, [
        { gpa: GPA, pages: 2, operation: 'shared' },
        { gpa: GPA + 2 ** 33, pages: 1, operation: 'private' },
        { gpa: GPA + 4 * PAGE, operation: 'shared' },
      ])
      assert.deepEqual(
        [value.completed, statuses(value), (value.exits as unknown[]).length],
        [1, ['RSI_SUCCESS', 'RSI_REJECT', 'NOT_PROCESSED'], 2],
      )
      assert.deepEqual(states(bench, GPA, 5), ['U/E', 'U/E', 'U/R', 'U/R', 'U/R'])
    })

    it('arm-cca.md 7: RAM that the VMM refuses: RSI_REJECT, and nothing has changed', () => {
      const bench = running({ privacy, conversion: 'manual' })
      const { t, vm } = bench
      stateSet(bench, GPA, 2, 'EMPTY')
      resume(t, vm)
      for (const ret of [-14, -22, -1]) {
        request(bench, GPA, 2, 'private')
        const value = resume(t, vm, ret)
        assert.deepEqual([value.completed, value.entries], [0, [{ status: { name: 'RSI_REJECT', code: 1 } }]])
        stateSet(bench, GPA, 2, 'RAM')
        assert.deepEqual(done(resume(t, vm, ret)), ['RSI_SUCCESS', hex(GPA), 'REJECT'])
      }
      assert.equal(stateOf(bench, GPA), 'U/E')
      assert.equal(outcome(reach(bench, 'read', GPA, PRIVATE)), 'guest-fault SEA')
    })

    it('arm-cca.md 7: EMPTY cannot be refused: ACCEPT without any progress', () => {
      const bench = running({ privacy, conversion: 'manual' })
      const { t, vm } = bench
      request(bench, GPA, 2, 'shared')
      const value = resume(t, vm, -14)
      assert.deepEqual([value.completed, statuses(value)], [0, ['NO_PROGRESS']])
      stateSet(bench, GPA, 2, 'EMPTY')
      assert.deepEqual(done(resume(t, vm, -14)), ['RSI_SUCCESS', hex(GPA), 'ACCEPT'])
      assert.equal(stateOf(bench, GPA), 'U/R')
    })

    it('arm-cca.md 7, 9: a VMM that answers 0 and converts nothing: RIPAS changes, KVM’s record does not', () => {
      const bench = running({ privacy, conversion: 'manual' })
      const { t, vm } = bench
      filledPages(bench, 2)
      request(bench, GPA, 1, 'shared')
      assert.deepEqual(statuses(resume(t, vm)), ['RSI_SUCCESS'])
      assert.deepEqual(states(bench, GPA, 2), ['U/E', 'A/R'], 'KVM destroys what is still mapped')
      assert.equal(t.kinds(vm, GFN, 2), 'PP')
      assert.equal(t.host.state.memfiles.get(bench.memfile)?.allocated, 2, 'the page waits in the memfile')
      assert.equal(t.runs(vm, GFN, GFN + 1)[0]?.hardware.granule, 'UNDELEGATED')
      assert.equal(outcome(reach(bench, 'read', GPA + PAR)), 'exit KVM_EXIT_MEMORY_FAULT')
      resume(t, vm, -1)
      request(bench, GPA, 1, 'private')
      resume(t, vm)
      assert.deepEqual(t.read(vm, GPA, PAGE, PRIVATE), zeros(PAGE), 'wiped on its way')
    })
  })

  describe(`RSI_IPA_STATE_SET and DESTROYED pages, ${privacy} (arm-cca.md 4.1, 7)`, () => {
    const tainted = (conversion: 'auto' | 'manual' = 'auto') => {
      const bench = running({ privacy, conversion })
      filledPages(bench, 8)
      bench.t.punch(bench.memfile, 3 * PAGE, 2 * PAGE)
      return bench
    }

    it('arm-cca.md 7: NO_CHANGE_DESTROYED stops at the first destroyed page, with ACCEPT; and stops there again', () => {
      const bench = tainted()
      assert.deepEqual(done(stateSet(bench, GPA, 8, 'RAM', 0)), ['RSI_SUCCESS', hex(GPA + 3 * PAGE), 'ACCEPT'])
      const rest = stateSet(bench, GPA + 3 * PAGE, 5, 'RAM', 0)
      assert.deepEqual(done(rest), ['RSI_SUCCESS', hex(GPA + 3 * PAGE), 'ACCEPT'])
      assert.equal(stateOf(bench, GPA + 4 * PAGE).at(-1), 'D')
      assert.deepEqual(done(stateSet(bench, GPA + 3 * PAGE, 5, 'RAM', 1)), [
        'RSI_SUCCESS',
        hex(GPA + 8 * PAGE),
        'ACCEPT',
      ])
      assert.equal(bench.t.read(bench.vm, GPA + 4 * PAGE, 1, PRIVATE)[0], 0)
    })

    it('arm-cca.md 7: the same for EMPTY: pages that the VMM has punched already are in the way', () => {
      const bench = running({ privacy })
      filledPages(bench, 8)
      // The VMM's hole of the same exit is enough.
      assert.deepEqual(done(stateSet(bench, GPA, 8, 'EMPTY', 0)), ['RSI_SUCCESS', hex(GPA), 'ACCEPT'])
      assert.deepEqual(new Set(states(bench, GPA, 8)), new Set(['U/D']))
      assert.deepEqual(done(stateSet(bench, GPA, 8, 'EMPTY', 1)), ['RSI_SUCCESS', hex(GPA + 8 * PAGE), 'ACCEPT'])
      assert.deepEqual(new Set(states(bench, GPA, 8)), new Set(['U/E']))
    })

    it('arm-cca.md 7: EMPTY up to the destroyed page: KVM takes back what is EMPTY, and no more', () => {
      const bench = tainted('manual')
      stateSet(bench, GPA, 8, 'EMPTY', 0)
      assert.deepEqual(done(resume(bench.t, bench.vm)), ['RSI_SUCCESS', hex(GPA + 3 * PAGE), 'ACCEPT'])
      assert.deepEqual(states(bench, GPA, 6), ['U/E', 'U/E', 'U/E', 'U/D', 'U/D', 'A/R'])
    })

    it('arm-cca.md 7: the flag is not the host’s to see', () => {
      const bench = tainted('manual')
      const exits = [0, 1].map((flags) => {
        const { waiting } = stateSet(bench, GPA, 8, 'RAM', flags as 0 | 1)
        resume(bench.t, bench.vm)
        const { id: _, ...exit } = waiting as Value
        return exit
      })
      assert.deepEqual(exits[0], exits[1])
    })

    it('arm-cca.md 7: the boot of Linux: RAM over all memory, NO_CHANGE_DESTROYED, notices a page that was destroyed', () => {
      const bench = running({ privacy }, 1024)
      const all = () => done(stateSet(bench, GPA, 1024, 'RAM', 0))[1]
      assert.equal(all(), hex(GPA + 1024 * PAGE))
      filledPages(bench, 4)
      bench.t.punch(bench.memfile, 2 * PAGE, PAGE)
      assert.equal(all(), hex(GPA + 2 * PAGE))
    })
  })
}

describe('RSI_IPA_STATE_SET beside the host (arm-cca.md 3, 7)', () => {
  const waiting = () => {
    const bench = running({ conversion: 'manual', vcpus: 2 })
    stateSet(bench, GPA, 4, 'EMPTY')
    return bench
  }

  it('arm-cca.md 7: what cannot be asked for is RSI_ERROR_INPUT, without an exit', () => {
    const bench = running({ conversion: 'manual' })
    for (const [base, top] of [
      [hex(GPA + 1), hex(GPA + PAGE)],
      [hex(GPA), hex(GPA)],
      [hex(PAR), hex(PAR + PAGE)],
      [hex(PAR - PAGE), hex(PAR + PAGE)],
    ]) {
      const { status } = rsi(bench, 'IPA_STATE_SET', { base, top, ripas: 'RAM', flags: 1 })
      assert.deepEqual(status, { name: 'RSI_ERROR_INPUT', code: 1 })
    }
    const { t, vm } = bench
    for (const entry of [
      { gpa: PAR, operation: 'shared' as const },
      { gpa: PAR - PAGE, pages: 2, operation: 'private' as const },
      { gpa: GPA, operation: 'psmash' as const },
    ])
      assert.deepEqual(statuses(pageStates(bench, [entry])), ['RSI_ERROR_INPUT'])
    assert.deepEqual(exitsOf(t, vm), [])
  })

  it('arm-cca.md 5: raw RTT_SET_RIPAS does KVM’s part of it; resuming finds the rest done', () => {
    const bench = waiting()
    const { t, vm } = bench
    must(bench, 'RTT_SET_RIPAS', { base: hex(GPA), top: hex(GPA + 2 * PAGE) })
    assert.deepEqual(done(resume(t, vm)), ['RSI_SUCCESS', hex(GPA + 4 * PAGE), 'ACCEPT'])
    assert.deepEqual(states(bench, GPA, 4), ['U/E', 'U/E', 'U/E', 'U/E'])
  })

  it('arm-cca.md 3: a raw REC_ENTER takes the answer away: the exit has nothing left to answer', () => {
    const bench = waiting()
    const { t, vm } = bench
    const entered = must(bench, 'REC_ENTER', {})
    assert.equal(entered.status.name, 'RMI_SUCCESS')
    const { status } = resume(t, vm) as { status: Value }
    assert.equal(status.name, 'RMI_ERROR_REC', 'it is inside')
    assert.equal(stateOf(bench, GPA), 'U/R')
  })

  it('arm-cca.md 3: its REC destroyed meanwhile: REC_ENTER’s own answer', () => {
    const bench = waiting()
    const { t, vm } = bench
    const [rec = -1] = realmIn(bench).recs
    must(bench, 'REC_DESTROY', { rec: hex(rec * PAGE) })
    assert.deepEqual((resume(t, vm) as { status: Value }).status, { name: 'RMI_ERROR_INPUT', code: 1 })
    assert.equal(stateOf(bench, GPA), 'U/R')
  })

  it('arm-cca.md 3: the Realm off meanwhile: the exit is refused, and stays', () => {
    const bench = running({ conversion: 'manual', vcpus: 2 })
    const { t, vm } = bench
    request(bench, GPA, 1, 'shared')
    t.ok({ type: 'call', vm, vcpu: 1, call: 'PSCI_SYSTEM_OFF', by: 'guest', args: {} })
    assert.equal(realmIn(bench).state, 'ACTIVE', 'the second REC is parked')
    const [rec = -1] = realmIn(bench).recs
    t.ok({ type: 'call', vm, vcpu: 1, call: 'PSCI_SYSTEM_OFF', by: 'guest', args: { rec: hex(rec * PAGE) } })
    const refusal = t.refused({ type: 'exit.resume', vm, exit: exitsOf(t, vm)[0] ?? '', ret: 0 })
    assert.deepEqual([refusal.code, refusal.currentState], ['vm-not-running', 'dead'])
  })

  it('arm-cca.md 5: no memory for the table that a border needs: nothing changes, REJECT or ACCEPT', () => {
    const bench = running({ conversion: 'manual' }, 1024)
    const { t, vm } = bench
    const hoard = t.memfile(8192, t.vm())
    t.fallocate(hoard, 0, t.free() * PAGE)
    request(bench, GPA + PAGE, 1, 'private')
    assert.deepEqual(statuses(resume(t, vm)), ['RSI_REJECT'])
    stateSet(bench, GPA + PAGE, 1, 'EMPTY')
    assert.deepEqual(done(resume(t, vm)), ['RSI_SUCCESS', hex(GPA + PAGE), 'ACCEPT'])
    assert.equal(stateOf(bench, GPA), 'U/R at 2')
    t.punch(hoard, 0, PAGE)
    request(bench, GPA + PAGE, 1, 'shared')
    assert.deepEqual(statuses(resume(t, vm)), ['RSI_SUCCESS'])
    assert.deepEqual(states(bench, GPA, 3), ['U/R', 'U/E', 'U/R'])
  })

  it('arm-cca.md 4.2: a block that raw calls have folded is unfolded where the range ends inside it', () => {
    const t = newHost(16384)
    const bench = running({}, 1024, t)
    const { vm, memfile } = bench
    t.fallocate(memfile, 0, 512 * PAGE)
    assert.equal(stateOf(bench, GPA), 'A/R')
    const first = t.host.hardware.translatePrivate?.(vm, GFN)?.frame ?? -1
    assert.equal(first % 512, 0, 'or it would not fold')
    must(bench, 'RTT_FOLD', { ipa: hex(GPA), level: 3 })
    assert.deepEqual([stateOf(bench, GPA), t.host.hardware.translatePrivate?.(vm, GFN)?.span], ['A/R at 2', 512])
    t.write(vm, GPA + 9 * PAGE, 0x44, 1, PRIVATE)
    stateSet(bench, GPA + 3 * PAGE, 2, 'EMPTY')
    assert.deepEqual(states(bench, GPA + 2 * PAGE, 4), ['A/R', 'U/E', 'U/E', 'A/R'])
    assert.equal(t.read(vm, GPA + 9 * PAGE, 1, PRIVATE)[0], 0x44)
  })

  it('arm-cca.md 4.1: a page that only raw calls know goes with what is EMPTY, back to the host', () => {
    const bench = running()
    const { t } = bench
    const [frame = -1] = spare(t, 1)
    const addr = hex(frame * PAGE)
    must(bench, 'GRANULE_DELEGATE', { addr })
    must(bench, 'DATA_CREATE_UNKNOWN', { data: addr, ipa: hex(GPA + 40 * PAGE) })
    stateSet(bench, GPA + 40 * PAGE, 1, 'EMPTY')
    assert.equal(granuleAt(t, frame), 0)
  })
})

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Changes } from '../../src/domain/changes.ts'
import { decodeCommand, encodeOutcome } from '../../src/domain/codec.ts'
import { Host } from '../../src/domain/host.ts'
import type { Checkpoint, JournalEntry } from '../../src/domain/journal.ts'
import { recover } from '../../src/domain/recovery.ts'
import { furnished } from '../model/furnished.ts'
import { commandOf, hardwareSteps, type Step, steps } from '../model/steps.ts'
import { accessKind, snp, software, type Technology } from '../model/technology.ts'
import { assertSameState, fingerprint, TestHost } from '../support/domain.ts'

/** Histories replayed on push; the nightly run sets more. A failure prints its seed. */
const SEEDS = Number(process.env.GMEMD_REPLAY_SEEDS ?? 200)
const FRAMES = 90

const create = (seed: string) =>
  ({ type: 'host.create', technology: 'sw-protected', memory: FRAMES * 4096, seed }) as const

/** Plays a history; calls `between` after each step. */
function play(technology: Technology, history: readonly Step[], between: (t: TestHost) => void): TestHost {
  const t = furnished(technology, FRAMES)
  for (const step of history) {
    t.apply(commandOf(t.host, step))
    between(t)
  }
  return t
}

/** What comes out of a journal's text, as of a host or checkpoint. */
function replay(host: Host, journal: readonly JournalEntry[]): Host {
  for (const entry of throughText(journal)) {
    const command = decodeCommand(entry)
    if (command.type === 'host.create' || command.type === 'host.reboot') throw new Error('not of a host')
    const applied = host.apply(command, entry.seq)
    if (!applied.accepted) assert.fail(`entry ${entry.seq} is refused: ${applied.refusal.detail}`)
    assert.equal(encodeOutcome(command, applied), entry.outcome)
    assert.deepEqual([applied.vm, applied.firstGfn, applied.endGfn], [entry.vm, entry.firstGfn, entry.endGfn])
  }
  return host
}

const throughText = (journal: readonly JournalEntry[]): JournalEntry[] => JSON.parse(JSON.stringify(journal))

describe('determinism and replay (G24)', () => {
  for (const technology of [software, accessKind, snp]) {
    it(`${technology.name}: a journal replays to the same state and outcomes, from the start and from half way`, () => {
      fc.assert(
        fc.property(hardwareSteps(60), fc.nat(59), (history, half) => {
          let checkpoint: Checkpoint | undefined
          let steps = 0
          const t = play(technology, history, ({ host, seq }) => {
            if (steps++ !== half % history.length) return
            checkpoint = { host: 'test', seq, state: host.snapshot(), contents: new Map(host.memory.contents) }
          })
          const end = fingerprint(t.host)
          const options = { name: 'test', frames: t.host.state.frames, seed: t.host.state.seed, seq: 1 }
          const fresh = Host.create(technology.backend(), options, new Changes())
          assertSameState(fingerprint(replay(fresh, t.journal)), end, 'from the start')
          if (checkpoint === undefined) assert.fail('no checkpoint was taken')
          const { seq } = checkpoint
          const restored = Host.restore(() => technology.backend(), checkpoint, new Changes())
          assertSameState(
            fingerprint(
              replay(
                restored,
                t.journal.filter((entry) => entry.seq > seq),
              ),
            ),
            end,
            'from half way',
          )
        }),
        { numRuns: Math.ceil(SEEDS / 3), endOnFailure: true },
      )
    })
  }

  it('a checkpoint is the state it was taken of, and apart from it', () => {
    fc.assert(
      fc.property(steps(40), (history) => {
        const t = play(software, history, () => undefined)
        const checkpoint = { host: 'test', seq: t.seq, state: t.host.snapshot(), contents: t.host.memory.contents }
        const before = fingerprint(t.host)
        const [one, other] = [0, 1].map(() => Host.restore(() => software.backend(), checkpoint, new Changes()))
        if (one === undefined || other === undefined) return
        assert.equal(fingerprint(one), before)
        const moved = new TestHost({ host: one })
        for (const step of history.toReversed()) moved.apply(commandOf(one, step))
        assert.equal(fingerprint(other), before, 'two hosts of one checkpoint share nothing')
        assert.equal(fingerprint(t.host), before)
      }),
      { numRuns: 30 },
    )
  })

  it('recovery refuses a journal whose outcome differs from what was answered', () => {
    const t = new TestHost({ pages: FRAMES, seed: 'replay' })
    t.memory(t.vm(), 0, 4)
    t.convert('vm-2', 0, 2, true)
    const backends = new Map([['sw-protected', software.backend()]])
    const first: JournalEntry = {
      seq: 1,
      host: 'test',
      vm: null,
      type: 'host.create',
      command: JSON.stringify(create('replay')),
      outcome: '{}',
      firstGfn: null,
      endGfn: null,
      attachment: null,
    }
    const stored = (entries: readonly JournalEntry[]) => ({ lastSeq: t.seq, checkpoints: [], entries, replies: [] })
    const hosts = recover(backends, stored([first, ...t.journal]), new Changes())
    const host = hosts.get('test')
    assert.equal(host && fingerprint(host), fingerprint(t.host))
    const last = t.journal.at(-1)
    if (last === undefined) return
    const refused = (entries: readonly JournalEntry[], message: RegExp) =>
      assert.throws(() => recover(backends, stored(entries), new Changes()), {
        name: 'StorageError',
        code: 'damaged',
        message,
      })
    const lie = { ...last, outcome: last.outcome.replace('"completed":1', '"completed":0') }
    refused([first, ...t.journal.slice(0, -1), lie], /another outcome/)
    refused([first, ...t.journal.slice(1)], /another outcome/)
    refused(t.journal, /unknown host/)
    assert.throws(() => recover(new Map(), stored([first]), new Changes()), { code: 'newer' })
  })
})

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { HostCommand } from '../../src/domain/apply.ts'
import type { CommandOf } from '../../src/domain/commands.ts'
import { Engine, type Executed, type Observer } from '../../src/domain/engine.ts'
import type { Host } from '../../src/domain/host.ts'
import { type Group, StorageError, type StoredReply } from '../../src/domain/journal.ts'
import { presentHost } from '../../src/domain/present.ts'
import type { Result } from '../../src/domain/refusal.ts'
import type { Backend } from '../../src/hw/contract.ts'
import { backend as swProtected } from '../../src/hw/sw-protected/index.ts'
import { accessKindBackend } from '../support/access-kind-backend.ts'
import { fingerprint, slotCommand } from '../support/domain.ts'
import { MemoryJournal } from '../support/memory-journal.ts'

/** A journal that also keeps its groups as they came, and can lose the answer of a group that it has kept. */
class Journal extends MemoryJournal {
  readonly written: Group[] = []
  closed = false
  /** The next commit is kept, and fails all the same: nobody can know. */
  loseAnswer = false
  /** The next time the state is read back, this is what comes of it. */
  unreadable: StorageError | undefined

  override async commit(group: Group): Promise<void> {
    await super.commit(group)
    this.written.push(group)
    if (!this.loseAnswer) return
    this.loseAnswer = false
    throw new StorageError('io', 'fsync failed')
  }

  override async reopen() {
    const { unreadable } = this
    this.unreadable = undefined
    if (unreadable !== undefined) throw unreadable
    return super.reopen()
  }

  override async close(): Promise<void> {
    this.closed = true
  }
}

const createVm: CommandOf<'vm.create'> = {
  type: 'vm.create',
  name: null,
  vcpus: 1,
  conversion: 'auto',
  privacy: 'populated',
  config: {},
}
const createHost = { type: 'host.create', technology: 'sw-protected', memory: 256 * 4096, seed: 'engine' } as const
const createMemfile = { type: 'memfile.create', name: 'ram', size: 8192, span: 1, placed: false } as const

const executed = (result: Result<Executed>): Executed => {
  if (!result.ok) assert.fail(result.refusal.detail)
  return result.value
}

/** How a promise stands: undefined while it is pending. */
function watch(promise: Promise<unknown>): { state: 'resolved' | 'rejected' | undefined } {
  const watched: { state: 'resolved' | 'rejected' | undefined } = { state: undefined }
  promise.then(
    () => {
      watched.state = 'resolved'
    },
    () => {
      watched.state = 'rejected'
    },
  )
  return watched
}

const turns = async (count = 8): Promise<void> => {
  for (let at = 0; at < count; at++) await turn()
}

class Bench {
  readonly journal: Journal
  readonly engine: Engine
  readonly failures: Error[]
  readonly commands: string[]

  constructor(journal: Journal, engine: Engine, failures: Error[], commands: string[]) {
    this.journal = journal
    this.engine = engine
    this.failures = failures
    this.commands = commands
  }

  static async open(journal = new Journal(), backends: readonly Backend[] = [swProtected]): Promise<Bench> {
    const failures: Error[] = []
    const commands: string[] = []
    const observer: Observer = {
      command: (type, outcome) => commands.push(`${type} ${outcome}`),
      failure: (error) => failures.push(error),
    }
    const map = new Map(backends.map((backend) => [backend.technology, backend]))
    return new Bench(journal, await Engine.open(journal, map, observer), failures, commands)
  }

  /** A bench with a host "a" on disk. */
  static async withHost(): Promise<Bench> {
    const bench = await Bench.open()
    await bench.host('a')
    return bench
  }

  async host(name: string): Promise<Host> {
    executed(await this.engine.replaceHost(name, createHost, {}, presentHost))
    return this.named(name)
  }

  named(name = 'a'): Host {
    const host = this.engine.hosts.get(name)
    if (host === undefined) assert.fail(`there is no host ${name}`)
    return host
  }

  execute(command: HostCommand, reply?: (done: Executed) => StoredReply, name = 'a') {
    return this.engine.execute(this.named(name), command, reply === undefined ? {} : { reply })
  }

  async done(command: HostCommand, name = 'a'): Promise<Record<string, unknown>> {
    const { value } = executed(await this.execute(command, undefined, name))
    return value
  }

  /** Keeps groups waiting until the function returned is called. */
  shut(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.journal.gate = promise
    return () => {
      this.journal.gate = undefined
      resolve()
    }
  }
}

const failure = new StorageError('full', 'no space')

describe('the engine', () => {
  it('answers nothing before its group is on disk', async () => {
    const bench = await Bench.withHost()
    const open = bench.shut()
    const answer = bench.execute(createVm)
    const settled = bench.engine.settled()
    const watched = [watch(answer), watch(settled), watch(bench.execute({ type: 'vm.delete', vm: 'vm-99' }))]
    await turns()
    assert.deepEqual(
      watched.map(({ state }) => state),
      [undefined, undefined, undefined],
      'not even a refusal, which may be of what is not on disk yet',
    )
    assert.equal(bench.engine.durableSeq, 1)
    open()
    assert.equal(executed(await answer).seq, 2)
    await settled
    assert.equal(bench.engine.durableSeq, 2)
    assert.deepEqual(bench.commands.slice(1), ['vm.create accepted', 'vm.delete refused'])
  })

  it('writes the commands of one turn as one group', async () => {
    const bench = await Bench.withHost()
    await Promise.all(Array.from({ length: 50 }, () => bench.execute(createVm)))
    assert.deepEqual(
      bench.journal.written.map(({ entries }) => entries.length),
      [1, 50],
    )
  })

  it('gathers the next group while one is being written', async () => {
    const bench = await Bench.withHost()
    const open = bench.shut()
    const first = bench.execute(createVm)
    await turns()
    const second = [bench.execute(createVm), bench.execute(createVm)]
    await turns()
    const third = bench.execute(createVm)
    const watched = watch(third)
    await turns()
    assert.equal(watched.state, undefined)
    open()
    await Promise.all([first, ...second, third])
    assert.deepEqual(
      bench.journal.written.map(({ entries }) => entries.map(({ seq }) => seq)),
      [[1], [2], [3, 4, 5]],
    )
  })

  it('settled is for reads: of the group being written, or of the one behind it', async () => {
    const bench = await Bench.withHost()
    await bench.engine.settled()
    const open = bench.shut()
    const first = bench.execute(createVm)
    await turns()
    const ofFirst = watch(bench.engine.settled())
    const second = bench.execute(createVm)
    const ofSecond = bench.engine.settled()
    open()
    await first
    await turns(1)
    assert.equal(ofFirst.state, 'resolved')
    await Promise.all([second, ofSecond])
    assert.equal(bench.named().state.vms.size, 2)
  })

  it('tells listeners of each group once it is on disk, in order', async () => {
    const bench = await Bench.withHost()
    const seen: number[][] = []
    const stop = bench.engine.onDurable((entries) => seen.push(entries.map(({ seq }) => seq)))
    await Promise.all([bench.execute(createVm), bench.execute(createVm)])
    await bench.done(createVm)
    stop()
    await bench.done(createVm)
    assert.deepEqual(seen, [[2, 3], [4]])
  })

  it('a refusal takes no number and writes nothing', async () => {
    const bench = await Bench.withHost()
    const result = await bench.execute({ type: 'vm.delete', vm: 'vm-99' })
    assert.equal(result.ok, false)
    assert.deepEqual([bench.engine.lastSeq, bench.journal.groups], [1, 1])
  })
})

describe('a group that cannot be written', () => {
  it('is rejected with everybody behind it; the state returns to what is stored; later commands work', async () => {
    const bench = await Bench.withHost()
    await bench.done(createVm)
    const before = fingerprint(bench.named())
    const open = bench.shut()
    bench.journal.failure = failure
    const first = bench.execute(createVm)
    await turns()
    const behind = [bench.execute({ type: 'vm.delete', vm: 'vm-2' }), bench.engine.settled()]
    const refused = bench.execute({ type: 'vm.delete', vm: 'vm-99' })
    open()
    for (const promise of [first, ...behind, refused]) await assert.rejects(promise, { code: 'full' })
    await bench.engine.settled()
    assert.equal(fingerprint(bench.named()), before)
    assert.deepEqual([bench.engine.lastSeq, bench.engine.durableSeq], [2, 2])
    assert.deepEqual([bench.engine.failure, bench.failures], [failure, [failure]])
    assert.deepEqual(executed(await bench.execute(createVm)).seq, 3)
    assert.equal(bench.engine.failure, undefined, 'a group was written: ready again')
  })

  it('takes no command while the state is being read back', async () => {
    const bench = await Bench.withHost()
    bench.journal.failure = failure
    await assert.rejects(bench.execute(createVm), { code: 'full' })
    assert.throws(() => bench.engine.assertServing(), { code: 'full' })
    await bench.engine.settled()
    bench.engine.assertServing()
  })

  it('may have been written all the same: then that is the state', async () => {
    const bench = await Bench.withHost()
    bench.journal.loseAnswer = true
    await assert.rejects(bench.execute(createVm), { code: 'io' })
    await bench.engine.settled()
    assert.deepEqual([...bench.named().state.vms.keys()], ['vm-2'])
    assert.equal(executed(await bench.execute(createVm)).seq, 3)
  })

  it('becomes ready without traffic', async () => {
    const bench = await Bench.withHost()
    bench.journal.failure = failure
    await assert.rejects(bench.execute(createVm))
    await bench.engine.settled()
    bench.journal.failure = failure
    await bench.engine.retry()
    assert.equal(bench.engine.failure, failure)
    bench.journal.failure = undefined
    await bench.engine.retry()
    assert.equal(bench.engine.failure, undefined)
  })

  it('with a store that cannot be read back serves nothing, until it can be', async () => {
    const bench = await Bench.withHost()
    const gone = new StorageError('unusable', 'gone')
    bench.journal.failure = failure
    bench.journal.unreadable = gone
    await assert.rejects(bench.execute(createVm), { code: 'full' })
    await bench.engine.settled()
    assert.throws(() => bench.engine.assertServing(), { code: 'unusable' })
    await assert.rejects(bench.execute(createVm), { code: 'unusable' })
    await bench.engine.retry()
    bench.engine.assertServing()
    assert.equal(executed(await bench.execute(createVm)).seq, 2)
  })

  it('forgets the replies of its commands', async () => {
    const bench = await Bench.withHost()
    bench.journal.failure = failure
    await assert.rejects(bench.execute(createVm, replyFor('k')))
    await bench.engine.settled()
    assert.equal(bench.engine.replies.find('k'), undefined)
  })

  it('leaves hosts found before it behind: they take no command any more', async () => {
    const bench = await Bench.withHost()
    const old = bench.named()
    bench.journal.failure = failure
    await assert.rejects(bench.execute(createVm))
    await bench.engine.settled()
    await assert.rejects(bench.engine.execute(old, createVm), { name: 'StorageError' })
    await bench.done(createVm)
    assert.equal(bench.named().state.vms.size, 1)
  })
})

const replyFor =
  (key: string) =>
  ({ seq }: Executed): StoredReply => ({
    key,
    fingerprint: 'f',
    seq,
    status: 201,
    headers: '{}',
    body: `{"seq":${seq}}`,
  })

describe('a bug while a command is applied', () => {
  /** A host whose next VM creation throws half way. */
  async function broken(): Promise<Bench> {
    const bench = await Bench.withHost()
    await bench.done(createVm)
    const { hardware } = bench.named()
    const createVmOfHardware = hardware.createVm.bind(hardware)
    hardware.createVm = (options) => {
      createVmOfHardware(options)
      throw new TypeError('a bug')
    }
    return bench
  }

  it('rejects that command and those not on disk, and returns to what is stored', async () => {
    const bench = await broken()
    const before = bench.execute(createMemfile)
    const bug = bench.execute(createVm)
    await assert.rejects(bug, { message: 'a bug' })
    await assert.rejects(before, { message: 'a bug' })
    await bench.engine.settled()
    assert.deepEqual([...bench.named().state.vms.keys()], ['vm-2'])
    assert.equal(bench.named().state.memfiles.size, 0)
    assert.equal(executed(await bench.execute(createVm)).seq, 3)
    const reopened = await Bench.open(bench.journal)
    assert.equal(fingerprint(reopened.named()), fingerprint(bench.named()))
  })

  for (const outcome of ['written', 'fails'] as const) {
    it(`lets the group finish that is being written, which ${outcome}`, async () => {
      const bench = await broken()
      const open = bench.shut()
      const before = bench.execute(createMemfile)
      await turns()
      if (outcome === 'fails') bench.journal.failure = failure
      const watched = watch(bench.execute(createVm))
      await turns()
      assert.equal(watched.state, 'rejected')
      await assert.rejects(bench.execute(createMemfile), { message: 'a bug' })
      open()
      if (outcome === 'written') assert.equal(executed(await before).seq, 3)
      else await assert.rejects(before, { code: 'full' })
      await bench.engine.settled()
      assert.equal(bench.named().state.memfiles.size, outcome === 'written' ? 1 : 0)
      await bench.done(createVm)
      assert.equal(bench.engine.failure, undefined)
    })
  }
})

describe('recovery', () => {
  /** A bench after a little history on two hosts. */
  async function history(): Promise<Bench> {
    const bench = await Bench.withHost()
    await bench.host('b')
    const { id: vm } = (await bench.done(createVm)) as { id: string }
    const { id: memfile } = (await bench.done(createMemfile)) as { id: string }
    await bench.done({ type: 'memfile.bind', memfile, vm, adopt: null })
    await bench.done(slotCommand(vm, 0, 0, 8192, { memfile }))
    await bench.done({ type: 'memfile.fallocate', memfile, offset: 0, length: 8192 })
    await bench.done(createVm, 'b')
    return bench
  }

  it('replays the journal of every host', async () => {
    const bench = await history()
    const again = await Bench.open(bench.journal)
    for (const name of ['a', 'b']) {
      assert.equal(fingerprint(again.named(name)), fingerprint(bench.named(name)))
    }
    assert.equal(again.engine.lastSeq, bench.engine.lastSeq)
  })

  it('of a journal that replays to another outcome is refused as damaged', async () => {
    const bench = await history()
    const at = bench.journal.entries.findIndex(({ type }) => type === 'memfile.fallocate')
    const entry = bench.journal.entries[at]
    if (entry === undefined) return
    bench.journal.entries[at] = { ...entry, outcome: entry.outcome.replace('8192', '4096') }
    await assert.rejects(Bench.open(bench.journal), { name: 'StorageError', code: 'damaged' })
  })

  it('of a technology that is not there is refused as newer', async () => {
    const bench = await history()
    await assert.rejects(Bench.open(bench.journal, [accessKindBackend().backend]), { code: 'newer' })
  })

  it('close writes a checkpoint of every host that changed, and the store is closed', async () => {
    const bench = await history()
    const other = fingerprint(bench.named('b'))
    const last = bench.execute(createMemfile)
    const print = fingerprint(bench.named())
    await bench.engine.close()
    await last
    assert.deepEqual(bench.journal.checkpoints.map(({ host }) => host).sort(), ['a', 'b'])
    assert.ok(bench.journal.closed)
    await assert.rejects(bench.execute(createVm), { code: 'io' })
    const again = await Bench.open(bench.journal)
    assert.deepEqual([fingerprint(again.named('a')), fingerprint(again.named('b'))], [print, other])
    const count = bench.journal.checkpoints.length
    await again.engine.close()
    assert.equal(bench.journal.checkpoints.length, count, 'nothing has changed since')
  })

  it('close closes the store though its checkpoint cannot be written', async () => {
    const bench = await history()
    bench.journal.failure = failure
    await assert.rejects(bench.engine.close(), { code: 'full' })
    assert.ok(bench.journal.closed)
  })

  it('a host is stored anew after 4096 commands, in a group of its own turn', async () => {
    const bench = await Bench.withHost()
    const commands = Array.from({ length: 4100 }, () => bench.execute(createMemfile))
    await Promise.all(commands)
    const [checkpoint] = bench.journal.checkpoints
    assert.deepEqual([checkpoint?.host, checkpoint?.seq], ['a', 4101])
    await bench.done(createVm)
    const again = await Bench.open(bench.journal)
    assert.equal(fingerprint(again.named()), fingerprint(bench.named()))
  })

  it('a rebooted host is a fresh machine, now and after recovery; the VMs’ rows go', async () => {
    const bench = await history()
    const old = bench.named()
    await bench.engine.replaceHost('a', { type: 'host.reboot' }, {}, presentHost)
    assert.equal(bench.named().state.vms.size, 0)
    await assert.rejects(bench.engine.execute(old, createVm), { name: 'StorageError' })
    const rows = bench.journal.written.at(-1)?.rows
    assert.deepEqual([...(rows?.vms ?? [])], [['vm-3', null]])
    assert.deepEqual([...(rows?.memslots ?? [])], [['vm-3/0', null]])
    assert.deepEqual([...(rows?.memfiles ?? [])], [['memfile-4', null]])
    await bench.done(createVm)
    const again = await Bench.open(bench.journal)
    assert.equal(fingerprint(again.named()), fingerprint(bench.named()))
  })
})

describe('time travel', () => {
  it('gives the host as of each number, whatever came after, from checkpoints too', async () => {
    const bench = await Bench.withHost()
    const prints = new Map([[1, fingerprint(bench.named())]])
    for (let at = 0; at < 12; at++) {
      if (at === 6) {
        const { state, memory } = bench.named()
        const seq = bench.engine.lastSeq
        bench.journal.checkpoints.push({
          host: 'a',
          seq,
          state: bench.named().snapshot(),
          contents: new Map(memory.contents),
        })
        assert.equal(state.revision, seq)
      }
      await bench.done(at % 3 === 2 ? { type: 'vm.delete', vm: `vm-${at}` } : createVm)
      prints.set(bench.engine.lastSeq, fingerprint(bench.named()))
    }
    await bench.engine.replaceHost('a', { type: 'host.reboot' }, {}, presentHost)
    for (const [seq, print] of prints) {
      const then = await bench.engine.at(bench.named(), seq)
      assert.equal(then && fingerprint(then), print, `as of ${seq}`)
    }
    assert.equal(await bench.engine.at(bench.named(), 0), undefined)
  })

  it('waits for what is not durable', async () => {
    const bench = await Bench.withHost()
    const open = bench.shut()
    const made = bench.execute(createVm)
    const then = bench.engine.at(bench.named(), 2)
    const watched = watch(then)
    await turns()
    assert.equal(watched.state, undefined)
    open()
    await made
    assert.equal((await then)?.state.vms.size, 1)
  })

  it('changes nothing of the host as it is', async () => {
    const bench = await Bench.withHost()
    await bench.done(createVm)
    const then = await bench.engine.at(bench.named(), 2)
    then?.apply(createVm, 77)
    assert.equal(bench.named().state.vms.size, 1)
    await bench.done(createVm)
    assert.deepEqual([...(bench.journal.written.at(-1)?.rows.vms.keys() ?? [])], ['vm-3'])
  })
})

describe('moving a memfile to the host of its VM', () => {
  async function two(): Promise<{ bench: Bench; memfile: string; vm: string }> {
    const bench = await Bench.withHost()
    await bench.host('b')
    const { id: memfile } = (await bench.done(createMemfile)) as { id: string }
    const { id: vm } = (await bench.done(createVm, 'b')) as { id: string }
    return { bench, memfile, vm }
  }
  const bind = (memfile: string, vm: string) =>
    ({ type: 'memfile.bind', memfile, vm, adopt: { name: 'ram', size: 8192, span: 1 } }) as const

  it('is one group of two entries; afterwards it is there and not here', async () => {
    const { bench, memfile, vm } = await two()
    const done = await bench.engine.move(bench.named('a'), bench.named('b'), bind(memfile, vm), {})
    assert.equal(executed(done).value.state, 'bound')
    assert.deepEqual(
      bench.journal.written.at(-1)?.entries.map(({ host, type }) => `${host} ${type}`),
      ['b memfile.bind', 'a memfile.leave'],
    )
    assert.equal(bench.engine.hostOfMemfile(memfile), bench.named('b'))
    assert.deepEqual([bench.named('a').state.memfiles.size, bench.named('b').state.memfiles.size], [0, 1])
    const again = await Bench.open(bench.journal)
    for (const name of ['a', 'b']) assert.equal(fingerprint(again.named(name)), fingerprint(bench.named(name)))
    const rows = bench.journal.written.at(-1)?.rows.memfiles
    assert.equal(rows?.get(memfile)?.host, 'b')
  })

  it('refused, leaves it where it was', async () => {
    const { bench, memfile } = await two()
    const result = await bench.engine.move(bench.named('a'), bench.named('b'), bind(memfile, 'vm-99'), {})
    assert.equal(!result.ok && result.refusal.code, 'no-such-vm')
    assert.equal(bench.engine.hostOfMemfile(memfile), bench.named('a'))
    assert.equal(bench.named('b').state.memfiles.size, 0)
  })

  it('failed, leaves it where it was', async () => {
    const { bench, memfile, vm } = await two()
    bench.journal.failure = failure
    await assert.rejects(bench.engine.move(bench.named('a'), bench.named('b'), bind(memfile, vm), {}), { code: 'full' })
    await bench.engine.settled()
    assert.equal(bench.engine.hostOfMemfile(memfile), bench.named('a'))
    assert.equal(bench.named('b').state.memfiles.size, 0)
  })

  it('is refused while its host, or that of the VM, lies crashed', async () => {
    for (const crashed of ['a', 'b']) {
      const { bench, memfile, vm } = await two()
      bench.named(crashed).state.crashed = { reason: 'test', seq: 1 }
      const result = await bench.engine.move(bench.named('a'), bench.named('b'), bind(memfile, vm), {})
      assert.equal(!result.ok && result.refusal.code, 'host-crashed')
      assert.deepEqual([bench.named('a').state.memfiles.size, bench.named('b').state.memfiles.size], [1, 0])
    }
  })
})

describe('replies for Idempotency-Keys', () => {
  it('are stored in the group of their command, and read back', async () => {
    const bench = await Bench.withHost()
    await bench.execute(createVm, replyFor('k'))
    const group = bench.journal.written.at(-1)
    assert.deepEqual([group?.entries.length, group?.replies.map(({ key, seq }) => [key, seq])], [1, [['k', 2]]])
    assert.equal(bench.engine.replies.find('k')?.body, '{"seq":2}')
    const again = await Bench.open(bench.journal)
    assert.equal(again.engine.replies.find('k')?.body, '{"seq":2}')
  })

  it('a refused command stores none', async () => {
    const bench = await Bench.withHost()
    await bench.execute({ type: 'vm.delete', vm: 'vm-99' }, replyFor('k'))
    assert.equal(bench.engine.replies.find('k'), undefined)
  })
})

describe('a host that crashed', () => {
  it('takes no more commands until it is rebooted, and is found crashed after recovery', async () => {
    const { backend, knobs } = accessKindBackend()
    const bench = await Bench.open(new Journal(), [backend])
    const command = { ...createHost, technology: backend.technology }
    await bench.engine.replaceHost('a', command, {}, presentHost)
    const { id: vm } = (await bench.done(createVm)) as { id: string }
    for (let frame = 1; frame < 256; frame++) knobs.guarded.add(frame)
    await bench.done(slotCommand(vm, 0, 0, 4096))
    const pin = { type: 'pin.create', vm, gpa: 0, length: 4096, by: 'vfio' } as const
    const { value, partial } = executed(await bench.execute(pin))
    assert.match(String(value.hostCrashed), /does not own/)
    assert.notEqual(partial, undefined)
    const refused = await bench.execute(createVm)
    assert.equal(!refused.ok && refused.refusal.code, 'host-crashed')
    const again = await Bench.open(bench.journal, [backend])
    assert.equal(fingerprint(again.named()), fingerprint(bench.named()))
    knobs.guarded.clear()
    await again.engine.replaceHost('a', { type: 'host.reboot' }, {}, presentHost)
    await again.done(createVm)
  })
})

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Check } from 'typebox/value'
import { Changes } from '../../src/domain/changes.ts'
import { decodeCommand, encodeOutcome } from '../../src/domain/codec.ts'
import { Host } from '../../src/domain/host.ts'
import { privateFrame } from '../../src/domain/memslots.ts'
import { PAGES_IN } from '../../src/hw/contract.ts'
import { backends } from '../../src/hw/registry.ts'
import { fingerprint, PAGE, TestHost } from '../support/domain.ts'

const BASE = 0x1000_0000
const PAGES = 64
const SECRET = 0xa5

/** What every technology must hold, whatever it emulates. A new backend is tested by being in the registry. */
for (const [name, backend] of backends) {
  const running = () => {
    const host = new TestHost({ backend, pages: 65536 })
    const free = host.free()
    const vm = host.vm()
    const memfile = host.memory(vm, BASE, PAGES)
    if (host.host.hardware.vmState(vm) === 'launching') host.ok({ type: 'launch.finish', vm, options: {} })
    return { host, vm, memfile, free }
  }

  describe(`backend ${name}`, () => {
    test('says of itself what the domain needs', () => {
      assert.equal(backend.technology, name)
      assert.ok(backend.title.length > 0)
      assert.ok(backend.properties.pageSizes.every((size) => size in PAGES_IN))
      assert.ok(Check(backend.configSchema, {}), 'a VM needs no config of its own')
    })

    test('names its calls once each, with examples that its schemas accept', () => {
      const names = backend.calls.map((call) => call.name)
      assert.equal(new Set(names).size, names.length)
      for (const call of backend.calls) {
        assert.ok(Check(call.schema, call.example), `${call.name}: ${JSON.stringify(call.example)}`)
        assert.ok(!Check(call.schema, { ...call.example, unknownArgument: 1 }), `${call.name} takes unknown arguments`)
      }
    })

    test('answers every call, by either side, with a status', () => {
      for (const call of backend.calls) {
        for (const by of ['guest', 'host'] as const) {
          const { host, vm, memfile } = running()
          host.fallocate(memfile, 0, PAGES * PAGE)
          const applied = host.apply({ type: 'call', vm, vcpu: 0, call: call.name, by, args: call.example })
          assert.ok(applied.accepted, `${call.name} by the ${by}`)
          const status = applied.value.status as { name?: unknown; code?: unknown }
          assert.equal(typeof status.name, 'string', `${call.name} by the ${by}`)
          const { code } = status
          const isCode = typeof code === 'number' || (typeof code === 'string' && /^0x[0-9a-f]+$/.test(code))
          assert.ok(isCode, `${call.name} by the ${by}: ${code}`)
        }
      }
    })

    test('gives every frame back when the VM is gone', () => {
      const { host, vm, memfile, free } = running()
      host.fallocate(memfile, 0, PAGES * PAGE)
      host.convert(vm, BASE, 8, false)
      host.hostWrite(vm, BASE, SECRET, 3 * PAGE)
      host.deleteVm(vm)
      assert.equal(host.free(), free)
      assert.equal(host.host.hardware.keys().inUse, 0)
    })

    test('guards private memory from the kernel unless it protects nothing', () => {
      const { host, vm, memfile } = running()
      host.fallocate(memfile, 0, PAGE)
      const slot = host.vmState(vm).slots[0]
      assert.ok(slot)
      const check = host.host.hardware.checkHost(privateFrame(slot, BASE / PAGE), 'write', 'kernel')
      assert.equal(check.kind === 'ok', backend.properties.contents === 'own-store')
    })

    test('keeps its promise on contents across a conversion and back', () => {
      const { host, vm, memfile } = running()
      host.fallocate(memfile, 0, PAGES * PAGE)
      const gpa = BASE
      makePrivate(host, vm, gpa)
      host.write(vm, gpa, SECRET, 16, { private: true })
      assert.deepEqual(host.read(vm, gpa, 16, { private: true }), Buffer.alloc(16, SECRET))
      host.convert(vm, gpa, 1, false)
      const shared = host.read(vm, gpa, 16, { private: false })
      assert.equal(shared.includes(SECRET), backend.properties.contents === 'kept')
      makePrivate(host, vm, gpa)
      const again = host.read(vm, gpa, 16, { private: true })
      assert.equal(again.includes(SECRET), backend.properties.contents === 'kept')
    })

    test('describes one large range as it does its pieces, in any order', () => {
      const whole = running()
      whole.host.fallocate(whole.memfile, 0, PAGES * PAGE)
      whole.host.convert(whole.vm, BASE + 8 * PAGE, 8, false)
      const pieces = running()
      for (let page = PAGES - 1; page >= 0; page--) pieces.host.fallocate(pieces.memfile, page * PAGE, PAGE)
      for (let page = 8; page < 16; page++) pieces.host.convert(pieces.vm, BASE + page * PAGE, 1, false)
      const window = [BASE / PAGE, BASE / PAGE + PAGES] as const
      assert.deepEqual(pieces.host.runs(pieces.vm, ...window), whole.host.runs(whole.vm, ...window))
    })

    test('leaves no footprint when the kernel refuses', () => {
      const { host, vm, memfile } = running()
      host.fallocate(memfile, 0, PAGE)
      host.refused({ type: 'memfile.fallocate', memfile, offset: PAGES * PAGE, length: PAGE })
      host.refused({ type: 'call', vm, vcpu: 0, call: 'NO_SUCH_CALL', by: 'guest', args: {} })
      host.refused({ type: 'vm.delete', vm: 'vm-0' })
    })

    test('is the same machine after a checkpoint and a replay', () => {
      const { host, vm, memfile } = running()
      host.fallocate(memfile, 0, 32 * PAGE)
      makePrivate(host, vm, BASE)
      host.convert(vm, BASE + PAGE, 4, false)
      assert.equal(fingerprint(restored(host.host)), fingerprint(host.host))
      assert.equal(fingerprint(replayed(host)), fingerprint(host.host))
    })

    test('has a transcript and a digest, or says that it measures nothing', () => {
      const { host, vm } = running()
      const { digest, steps } = host.host.hardware.launchLog(vm)
      assert.equal(digest !== null, backend.properties.launchDigest !== null)
      if (digest === null) assert.equal(steps.length, 0)
    })
  })
}

/** Converts a page to private and has the guest accept it, where it must. */
function makePrivate(host: TestHost, vm: string, gpa: number): void {
  const entries = [{ gfn: gpa / PAGE, pages: 1, span: 1, operation: 'private' }] as const
  const { completed } = host.ok({ type: 'page-states', vm, vcpu: 0, accept: true, entries })
  assert.equal(completed, 1)
}

const restored = (host: Host): Host => {
  const checkpoint = { host: 'test', seq: host.seq, state: host.snapshot(), contents: host.memory.contents }
  return Host.restore(() => host.backend, checkpoint, new Changes())
}

function replayed(original: TestHost): Host {
  const { backend, state } = original.host
  const host = Host.create(backend, { name: state.name, frames: state.frames, seed: state.seed, seq: 1 }, new Changes())
  for (const entry of original.journal) {
    const command = decodeCommand(entry)
    assert.ok(command.type !== 'host.create' && command.type !== 'host.reboot')
    const applied = host.apply(command, entry.seq)
    assert.ok(applied.accepted)
    assert.equal(encodeOutcome(command, applied), entry.outcome)
  }
  return host
}

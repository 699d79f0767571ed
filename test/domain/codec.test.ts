import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Accepted } from '../../src/domain/applied.ts'
import { decodeCommand, encodeCommand, encodeEntry, encodeOutcome } from '../../src/domain/codec.ts'
import type { Command } from '../../src/domain/commands.ts'
import { canonical } from '../support/domain.ts'

const bytes64 = fc.oneof(
  fc.maxSafeNat(),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => `0x${value.toString(16)}`),
)
const id = fc.nat().map((n) => `vm-${n}`)
const entry = fc.record({
  gfn: fc.integer({ min: 0, max: 2 ** 40 - 1 }),
  pages: fc.integer({ min: 1, max: 2 ** 31 }),
  span: fc.constantFrom(1, 512, 262144),
  operation: fc.constantFrom('private', 'shared', 'psmash', 'unsmash'),
})
const json = fc.dictionary(
  fc.string({ unit: 'binary' }),
  fc.oneof(fc.string({ unit: 'binary' }), fc.integer(), fc.boolean()),
)

const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record({
    type: fc.constant('page-states' as const),
    vm: id,
    vcpu: fc.nat(511),
    accept: fc.boolean(),
    entries: fc.array(entry, { maxLength: 20 }),
  }),
  fc.record({
    type: fc.constant('vm.create' as const),
    name: fc.option(fc.string({ unit: 'binary' })),
    vcpus: fc.nat(512),
    conversion: fc.constantFrom('auto', 'manual'),
    privacy: fc.constantFrom('populated', 'attributes'),
    config: json,
  }),
  fc.record({ type: fc.constant('memfile.fallocate' as const), memfile: id, offset: bytes64, length: bytes64 }),
  fc.record({
    type: fc.constant('host-access' as const),
    vm: id,
    as: fc.constantFrom('user', 'kernel', 'device'),
    by: fc.constantFrom('gpa', 'hpa'),
    address: bytes64,
    kind: fc.constantFrom('read', 'write'),
    length: fc.nat(65536),
    data: fc.option(fc.base64String()),
  }),
  fc.record({
    type: fc.constant('call' as const),
    vm: id,
    vcpu: fc.nat(511),
    call: fc.string(),
    by: fc.constantFrom('guest', 'host'),
    args: json,
  }),
  fc.record({
    type: fc.constant('launch.image' as const),
    vm: id,
    finish: fc.boolean(),
    options: json,
    attachment: fc.uint8Array({ maxLength: 100 }),
  }),
)

const applied = (value: Record<string, unknown>): Accepted => ({
  accepted: true,
  value,
  vm: 'vm-1',
  firstGfn: 1,
  endGfn: 2,
})

describe('commands and outcomes as journal text', () => {
  it('every command comes back from its entry as it was', () => {
    fc.assert(
      fc.property(command, (given) => {
        const value = given.type === 'page-states' ? { completed: 0, statuses: [], exits: [] } : {}
        const made = encodeEntry('host', 7, given, applied(value))
        assert.doesNotThrow(() => JSON.parse(made.outcome))
        assert.equal(canonical(decodeCommand(made)), canonical(given))
      }),
      { numRuns: 500 },
    )
  })

  it('an attachment is beside the JSON, not in it', () => {
    const attachment = Buffer.alloc(3, 9)
    const given: Command = { type: 'launch.image', vm: 'vm-1', finish: true, options: {}, attachment }
    assert.equal(
      encodeCommand(given),
      '{"type":"launch.image","vm":"vm-1","finish":true,"options":{},"attachment":null}',
    )
    assert.equal(encodeEntry('host', 1, given, applied({})).attachment, attachment)
  })

  const pageStates: Command = { type: 'page-states', vm: 'vm-1', vcpu: 0, accept: false, entries: [] }
  const status = (name: string, code: number) => ({ name, code })
  const exit = { exit: {}, id: null, ret: 0 }
  for (const [name, value, text] of [
    [
      'one entry done',
      { completed: 1, exits: [exit], statuses: [status('SUCCESS', 0)] },
      '{"completed":1,"exits":1,"statuses":["SUCCESS",1]}',
    ],
    ['no entries', { completed: 0, exits: [], statuses: [] }, '{"completed":0,"exits":0,"statuses":["",0]}'],
    [
      'runs of statuses',
      {
        completed: 2,
        exits: [exit, exit],
        statuses: [status('SUCCESS', 0), status('SUCCESS', 0), status('KVM_EINVAL', -22), undefined, undefined],
      },
      '{"completed":2,"exits":2,"statuses":["SUCCESS",2,"KVM_EINVAL -22",1,"NOT_PROCESSED",2]}',
    ],
  ] as const) {
    it(`the outcome of a page-state change is short: ${name}`, () => {
      const encoded = encodeOutcome(pageStates, applied(value))
      assert.equal(encoded, text)
      JSON.parse(encoded)
    })
  }

  it('what the host did by itself, and what became of it, is part of the outcome', () => {
    const value = { completed: 1, exits: [exit], statuses: [status('SUCCESS', 0)], events: [{ name: 'PSMASH' }] }
    assert.deepEqual(JSON.parse(encodeOutcome(pageStates, applied(value))).events, [{ name: 'PSMASH' }])
    const crashed = { ...value, hostCrashed: 'a "reason"' }
    assert.equal(JSON.parse(encodeOutcome(pageStates, applied(crashed))).hostCrashed, 'a "reason"')
  })

  it('two answers that differ in their number alone are two outcomes', () => {
    const one = { completed: 0, exits: [exit], statuses: [status('VMM_ERROR', -12)] }
    const other = { completed: 0, exits: [exit], statuses: [status('VMM_ERROR', -14)] }
    assert.notEqual(encodeOutcome(pageStates, applied(one)), encodeOutcome(pageStates, applied(other)))
  })

  it('what stopped a command in part is part of the outcome', () => {
    const partial = { kind: 'kernel', code: 'out-of-memory', detail: 'none', errno: 'ENOMEM' } as const
    const given: Command = { type: 'memfile.fallocate', memfile: 'memfile-1', offset: 0, length: 4096 }
    assert.deepEqual(JSON.parse(encodeOutcome(given, { ...applied({ a: 1 }), partial })), { a: 1, partial })
  })
})

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { HashAlgo } from '../../../../src/hw/cca/measurement/digest.ts'
import { extendRem, initialRem } from '../../../../src/hw/cca/measurement/rem.ts'
import {
  extendData,
  extendDataDigest,
  extendRec,
  extendRipas,
  initialRim,
  type MeasuredRealmParams,
} from '../../../../src/hw/cca/measurement/rim.ts'
import { layouts, type Op } from './vectors.ts'

const sha = (algo: HashAlgo, bytes: Uint8Array): string =>
  createHash(algo === 0 ? 'sha256' : 'sha512')
    .update(bytes)
    .digest('hex')
    .padEnd(128, '0')

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

const params = (op: Op): MeasuredRealmParams => ({
  flags: BigInt(Number(op.flags)),
  s2sz: Number(op.s2sz),
  sveVl: Number(op.sve_vl),
  numBps: Number(op.num_bps),
  numWps: Number(op.num_wps),
  pmuNumCtrs: Number(op.pmu_num_ctrs),
  hashAlgo: Number(op.hash_algo) as HashAlgo,
})

function page(text: string): Uint8Array {
  const bytes = Buffer.alloc(4096)
  bytes.write(text)
  return bytes
}

function apply(algo: HashAlgo, rim: Uint8Array, op: Op): Uint8Array {
  if (op.op === 'ripas') return extendRipas(algo, rim, BigInt(String(op.base)), BigInt(String(op.top)))
  if (op.op === 'rec')
    return extendRec(algo, rim, {
      flags: BigInt(Number(op.flags)),
      pc: BigInt(String(op.pc)),
      gprs: (op.gprs as string[]).map(BigInt),
    })
  const { utf8 } = op.content as { utf8: string }
  return extendData(algo, rim, BigInt(String(op.ipa)), Number(op.flags) as 0 | 1, page(utf8))
}

for (const layout of layouts)
  test(`arm-cca.md 8: layout ${layout.name}`, () => {
    const create = layout.args ?? layout.create ?? assert.fail('no realm_create')
    const { hashAlgo } = params(create)
    const first = initialRim(params(create))
    if (layout.op === undefined) {
      assert.equal(hex(first), (layout.digest ?? '').padEnd(128, '0'))
      return
    }
    assert.equal(hex(first), (layout.rim_before ?? '').padEnd(128, '0'))
    const after = hex(apply(hashAlgo, first, layout.op))
    assert.equal(after, (layout.rim_after ?? '').padEnd(128, '0'))
    assert.equal(after, sha(hashAlgo, Buffer.from(layout.descriptor ?? '', 'hex')), 'the descriptor given in full')
  })

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const algos = fc.constantFrom<HashAlgo>(0, 1)
const field = fc.uint8Array({ minLength: 64, maxLength: 64 })

/** The descriptor of arm-cca.md 8 written byte by byte. */
function descriptor(type: number, rim: Uint8Array, words: readonly (bigint | Uint8Array)[]): Uint8Array {
  const bytes = [type, ...Array(7).fill(0), 0, 1, 0, 0, 0, 0, 0, 0, ...rim]
  for (const word of words)
    if (typeof word === 'bigint') for (let bit = 0n; bit < 64n; bit += 8n) bytes.push(Number((word >> bit) & 255n))
    else bytes.push(...word)
  while (bytes.length < 256) bytes.push(0)
  return Uint8Array.from(bytes)
}

test('arm-cca.md 8: RIPAS and DATA descriptors for any address, content and hash', () => {
  fc.assert(
    fc.property(
      algos,
      field,
      u64,
      u64,
      fc.uint8Array({ minLength: 4096, maxLength: 4096 }),
      (algo, rim, a, b, bytes) => {
        assert.equal(hex(extendRipas(algo, rim, a, b)), sha(algo, descriptor(2, rim, [a, b])))
        const digest = Buffer.from(sha(algo, bytes), 'hex')
        assert.equal(hex(extendData(algo, rim, a, 1, bytes)), sha(algo, descriptor(0, rim, [a, 1n, digest])))
        assert.equal(hex(extendDataDigest(algo, rim, a, 1, digest)), sha(algo, descriptor(0, rim, [a, 1n, digest])))
        const unmeasured = sha(algo, descriptor(0, rim, [a, 0n]))
        assert.equal(hex(extendData(algo, rim, a, 0, bytes)), unmeasured)
        assert.equal(hex(extendData(algo, rim, a, 0, undefined)), unmeasured)
      },
    ),
    { numRuns: 40 },
  )
})

test('arm-cca.md 8: a runnable REC extends by its flags, pc and registers, a parked one not at all', () => {
  fc.assert(
    fc.property(algos, field, u64, u64, fc.array(u64, { minLength: 8, maxLength: 8 }), (algo, rim, flags, pc, gprs) => {
      const image = Buffer.alloc(4096)
      image.writeBigUInt64LE(flags | 1n, 0)
      image.writeBigUInt64LE(pc, 512)
      for (const [index, value] of gprs.entries()) image.writeBigUInt64LE(value, 768 + 8 * index)
      const digest = Buffer.from(sha(algo, image), 'hex')
      assert.equal(hex(extendRec(algo, rim, { flags: flags | 1n, pc, gprs })), sha(algo, descriptor(1, rim, [digest])))
      assert.equal(extendRec(algo, rim, { flags: flags & ~1n, pc, gprs }), rim)
    }),
    { numRuns: 40 },
  )
})

test('arm-cca.md 8: a REM is extended by exactly the bytes given, without padding', () => {
  fc.assert(
    fc.property(algos, fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 4 }), (algo, values) => {
      let rem = initialRem()
      let expected = Buffer.alloc(algo === 0 ? 32 : 64)
      for (const value of values) {
        rem = extendRem(algo, rem, value)
        const text = sha(algo, Buffer.concat([expected, value]))
        expected = Buffer.from(text, 'hex').subarray(0, expected.length)
        assert.equal(hex(rem), text)
      }
    }),
  )
})

test('a caller that breaks the shapes is told, before anything is hashed', () => {
  const rim = new Uint8Array(64)
  assert.throws(() => extendRipas(0, rim.subarray(32), 0n, 4096n), RangeError)
  assert.throws(() => extendData(0, rim, 0n, 1, undefined), RangeError)
  assert.throws(() => extendData(0, rim, 0n, 1, new Uint8Array(4095)), RangeError)
  assert.throws(() => extendRem(0, rim, new Uint8Array(65)), RangeError)
})

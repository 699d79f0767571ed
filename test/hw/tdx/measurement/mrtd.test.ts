import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deserialize, serialize } from 'node:v8'
import fc from 'fast-check'
import { addPage, create, digest, extend, extendPage, type Mrtd } from '../../../../src/hw/tdx/measurement/mrtd.ts'
import { addBlock, extendBlocks, extendPageBlocks, sha384 } from './naive-mrtd.ts'

const hex = (mrtd: Mrtd): string => digest(mrtd).toString('hex')
const gfn = fc.integer({ min: 0, max: 2 ** 40 - 1 })

test('intel-tdx.md e.1: the MRTD of a TD without pages is SHA-384 of nothing', () => {
  assert.equal(
    hex(create()),
    '38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b',
  )
})

test('intel-tdx.md e.1: any calls at any address hash as their blocks do', () => {
  const page = fc.uint8Array({ minLength: 4096, maxLength: 4096 })
  const call = fc.oneof(
    fc.record({ gfn }),
    fc.record({ gfn, page, chunk: fc.integer({ min: 0, max: 15 }) }),
    fc.record({ gfn, page }),
  )
  fc.assert(
    fc.property(fc.array(call, { maxLength: 8 }), (calls) => {
      const mrtd = create()
      const blocks: Uint8Array[] = []
      for (const one of calls) {
        const gpa = BigInt(one.gfn) * 4096n
        if (!('page' in one)) {
          addPage(mrtd, one.gfn)
          blocks.push(addBlock(gpa))
        } else if ('chunk' in one) {
          const at = one.chunk * 256
          extend(mrtd, one.gfn, at, one.page)
          blocks.push(extendBlocks(gpa + BigInt(at), one.page.subarray(at, at + 256)))
        } else {
          extendPage(mrtd, one.gfn, one.page)
          blocks.push(extendPageBlocks(gpa, one.page))
        }
        assert.equal(hex(mrtd), sha384(blocks))
      }
    }),
    { numRuns: 60 },
  )
})

test('intel-tdx.md e.1: a measured page is 49 blocks, and a page of zeros needs no bytes', () => {
  const mrtd = create()
  addPage(mrtd, 0xfffff)
  extendPage(mrtd, 0xfffff)
  assert.equal(mrtd.blocks, 49)
  assert.equal(hex(mrtd), sha384([addBlock(0xfffff000n), extendPageBlocks(0xfffff000n, new Uint8Array(4096))]))
})

test('a 52-bit address is hashed to its last bit', () => {
  const mrtd = create()
  addPage(mrtd, 2 ** 40 - 1)
  extend(mrtd, 2 ** 40 - 1, 0xf00, new Uint8Array(4096))
  assert.equal(hex(mrtd), sha384([addBlock(0xffffffffff000n), extendBlocks(0xfffffffffff00n, Buffer.alloc(256))]))
})

test('asking for the digest changes nothing, and a checkpoint of it goes on where it was', () => {
  const mrtd = create()
  addPage(mrtd, 1)
  const before = hex(mrtd)
  assert.equal(hex(mrtd), before)
  const copy: Mrtd = deserialize(serialize(mrtd))
  extendPage(mrtd, 1, Buffer.alloc(4096, 3))
  assert.equal(hex(copy), before)
  extendPage(copy, 1, Buffer.alloc(4096, 3))
  assert.deepEqual(copy, mrtd)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { p256, p384 } from '../../../src/hw/shared/ecdsa.ts'

const message = Buffer.from('sample')
const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'))

for (const { name, curve, key, r, s } of [
  {
    name: 'RFC 6979 A.2.5: P-256 with SHA-256',
    curve: p256,
    key: 'c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721',
    r: 'efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716',
    s: 'f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8',
  },
  {
    name: 'RFC 6979 A.2.6: P-384 with SHA-384',
    curve: p384,
    key: '6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5',
    r: '94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46',
    s: '99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8',
  },
])
  test(`${name} signs the sample with these bytes`, () => {
    const signature = { r: bytes(r), s: bytes(s) }
    assert.deepEqual(curve.sign(message, bytes(key)), signature)
    const publicKey = curve.publicKeyOf(bytes(key))
    assert.equal(curve.verify(message, signature, publicKey), true)
    assert.equal(curve.verify(Buffer.from('test'), signature, publicKey), false)
    assert.equal(curve.verify(message, { r: signature.s, s: signature.r }, publicKey), false)
    assert.equal(curve.verify(message, undefined, publicKey), false)
    assert.equal(curve.verify(message, signature, undefined), false)
    assert.equal(curve.verify(message, { ...signature, r: new Uint8Array(curve.size) }, publicKey), false, 'R is 0')
    assert.equal(curve.verify(message, signature, { ...publicKey, qy: publicKey.qx }), false, 'no point of the curve')
  })

test('a private key from uniform bytes is never 0 and always below the order', () => {
  for (const { scalarFrom, publicKeyOf, size } of [p256, p384])
    for (const fill of [0, 0xff]) {
      const key = scalarFrom(Buffer.alloc(size + 8, fill))
      assert.equal(key.length, size)
      assert.equal(publicKeyOf(key).qx.length, size)
    }
})

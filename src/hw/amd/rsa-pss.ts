import { constants, createHmac, hash, type KeyObject, privateEncrypt } from 'node:crypto'

const HASH_BYTES = 48
const MODULUS_BYTES = 512
const TRAILER = 0xbc

/**
 * RSASSA-PSS with SHA-384 and a 48-byte salt over RSA-4096, as AMD's chain uses, but with the salt derived from the
 * message: the same certificate always gets the same signature, so evidence stays a function of its inputs.
 */
export function signPss(message: Uint8Array, key: KeyObject): Buffer {
  const salt = createHmac('sha384', 'gmemd simulated certificate salt').update(message).digest()
  return privateEncrypt({ key, padding: constants.RSA_NO_PADDING }, encodePss(message, salt))
}

/** EMSA-PSS (RFC 8017, 9.1.1) for a 4096-bit modulus: one leading bit is cleared. */
function encodePss(message: Uint8Array, salt: Buffer): Buffer {
  const digest = hash('sha384', message, 'buffer')
  const h = hash('sha384', Buffer.concat([Buffer.alloc(8), digest, salt]), 'buffer')
  const block = Buffer.alloc(MODULUS_BYTES - HASH_BYTES - 1)
  block[block.length - salt.length - 1] = 1
  salt.copy(block, block.length - salt.length)
  const mask = mgf1(h, block.length)
  for (let at = 0; at < block.length; at++) block[at] = (block[at] ?? 0) ^ (mask[at] ?? 0)
  block[0] = (block[0] ?? 0) & 0x7f
  return Buffer.concat([block, h, Buffer.from([TRAILER])])
}

function mgf1(seed: Buffer, length: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(length / HASH_BYTES) }, (_, index) => {
    const counter = Buffer.alloc(4)
    counter.writeUInt32BE(index)
    return hash('sha384', Buffer.concat([seed, counter]), 'buffer')
  })
  return Buffer.concat(blocks).subarray(0, length)
}

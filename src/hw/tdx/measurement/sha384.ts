/**
 * SHA-384 (FIPS 180-4) one block at a time over a state that is plain data, which neither node:crypto nor a stream of
 * @noble/hashes is. A 64-bit word is two signed 32-bit halves, the high one first.
 */

export const BLOCK_BYTES = 128
export const DIGEST_BYTES = 48

const WORDS = 16
const ROUNDS = 80
const TWO_32 = 0x100000000

/** The `count` first primes. */
function primes(count: number): number[] {
  const found: number[] = []
  for (let n = 2; found.length < count; n++) if (found.every((prime) => n % prime !== 0)) found.push(n)
  return found
}

/** The first 64 bits of the fractional part of the `degree`-th root of each number, as halves (FIPS 180-4, 4.2.3, 5.3.4). */
function fractionalRoots(numbers: readonly number[], degree: bigint): Int32Array {
  const halves = new Int32Array(2 * numbers.length)
  for (const [index, number] of numbers.entries()) {
    const scaled = BigInt(number) << (64n * degree)
    let root = 0n
    for (let bit = 1n << 69n; bit > 0n; bit >>= 1n) if ((root + bit) ** degree <= scaled) root += bit
    halves[2 * index] = Number(BigInt.asIntN(32, root >> 32n))
    halves[2 * index + 1] = Number(BigInt.asIntN(32, root))
  }
  return halves
}

const PRIMES = primes(ROUNDS)
const INITIAL = fractionalRoots(PRIMES.slice(8, WORDS), 2n)
const K = fractionalRoots(PRIMES, 3n)
const W = new Int32Array(2 * ROUNDS)

/** The state before the first block: 16 halves. */
export const initialWords = (): Int32Array => INITIAL.slice()

/** Takes the 128 bytes at `at` into the state. */
export function compress(words: Int32Array, bytes: Uint8Array, at: number): void {
  schedule(bytes, at)
  let Ah = words[0] ?? 0
  let Al = words[1] ?? 0
  let Bh = words[2] ?? 0
  let Bl = words[3] ?? 0
  let Ch = words[4] ?? 0
  let Cl = words[5] ?? 0
  let Dh = words[6] ?? 0
  let Dl = words[7] ?? 0
  let Eh = words[8] ?? 0
  let El = words[9] ?? 0
  let Fh = words[10] ?? 0
  let Fl = words[11] ?? 0
  let Gh = words[12] ?? 0
  let Gl = words[13] ?? 0
  let Hh = words[14] ?? 0
  let Hl = words[15] ?? 0
  for (let i = 0; i < 2 * ROUNDS; i += 2) {
    const sigma1h = ((Eh >>> 14) | (El << 18)) ^ ((Eh >>> 18) | (El << 14)) ^ ((El >>> 9) | (Eh << 23))
    const sigma1l = ((El >>> 14) | (Eh << 18)) ^ ((El >>> 18) | (Eh << 14)) ^ ((Eh >>> 9) | (El << 23))
    const choice = (Gl ^ (El & (Fl ^ Gl))) >>> 0
    // Sums of low halves stay exact as doubles, and carry what is above 2^32.
    const low1 = (Hl >>> 0) + (sigma1l >>> 0) + choice + ((K[i + 1] ?? 0) >>> 0) + ((W[i + 1] ?? 0) >>> 0)
    const high1 = (Hh + sigma1h + (Gh ^ (Eh & (Fh ^ Gh))) + (K[i] ?? 0) + (W[i] ?? 0) + ((low1 / TWO_32) | 0)) | 0
    const t1l = low1 | 0
    const sigma0h = ((Ah >>> 28) | (Al << 4)) ^ ((Al >>> 2) | (Ah << 30)) ^ ((Al >>> 7) | (Ah << 25))
    const sigma0l = ((Al >>> 28) | (Ah << 4)) ^ ((Ah >>> 2) | (Al << 30)) ^ ((Ah >>> 7) | (Al << 25))
    const low2 = (t1l >>> 0) + (sigma0l >>> 0) + (((Al & Bl) | (Cl & (Al | Bl))) >>> 0)
    const high2 = (high1 + sigma0h + ((Ah & Bh) | (Ch & (Ah | Bh))) + ((low2 / TWO_32) | 0)) | 0
    Hh = Gh
    Hl = Gl
    Gh = Fh
    Gl = Fl
    Fh = Eh
    Fl = El
    const low3 = (Dl >>> 0) + (t1l >>> 0)
    Eh = (Dh + high1 + ((low3 / TWO_32) | 0)) | 0
    El = low3 | 0
    Dh = Ch
    Dl = Cl
    Ch = Bh
    Cl = Bl
    Bh = Ah
    Bl = Al
    Ah = high2
    Al = low2 | 0
  }
  add(words, 0, Ah, Al)
  add(words, 2, Bh, Bl)
  add(words, 4, Ch, Cl)
  add(words, 6, Dh, Dl)
  add(words, 8, Eh, El)
  add(words, 10, Fh, Fl)
  add(words, 12, Gh, Gl)
  add(words, 14, Hh, Hl)
}

/** The message schedule of a block, left in {@link W}. */
function schedule(bytes: Uint8Array, at: number): void {
  let next = at
  for (let i = 0; i < 2 * WORDS; i++, next += 4) {
    W[i] =
      ((bytes[next] ?? 0) << 24) |
      ((bytes[next + 1] ?? 0) << 16) |
      ((bytes[next + 2] ?? 0) << 8) |
      (bytes[next + 3] ?? 0)
  }
  for (let i = 2 * WORDS; i < 2 * ROUNDS; i += 2) {
    const ah = W[i - 30] ?? 0
    const al = W[i - 29] ?? 0
    const bh = W[i - 4] ?? 0
    const bl = W[i - 3] ?? 0
    const sigma0h = ((ah >>> 1) | (al << 31)) ^ ((ah >>> 8) | (al << 24)) ^ (ah >>> 7)
    const sigma0l = ((al >>> 1) | (ah << 31)) ^ ((al >>> 8) | (ah << 24)) ^ ((al >>> 7) | (ah << 25))
    const sigma1h = ((bh >>> 19) | (bl << 13)) ^ ((bl >>> 29) | (bh << 3)) ^ (bh >>> 6)
    const sigma1l = ((bl >>> 19) | (bh << 13)) ^ ((bh >>> 29) | (bl << 3)) ^ ((bl >>> 6) | (bh << 26))
    const low = (sigma0l >>> 0) + (sigma1l >>> 0) + ((W[i - 13] ?? 0) >>> 0) + ((W[i - 31] ?? 0) >>> 0)
    W[i] = (sigma0h + sigma1h + (W[i - 14] ?? 0) + (W[i - 32] ?? 0) + ((low / TWO_32) | 0)) | 0
    W[i + 1] = low | 0
  }
}

/** Adds a 64-bit word to the one whose high half is at `at`. */
function add(words: Int32Array, at: number, high: number, low: number): void {
  const sum = ((words[at + 1] ?? 0) >>> 0) + (low >>> 0)
  words[at] = ((words[at] ?? 0) + high + ((sum / TWO_32) | 0)) | 0
  words[at + 1] = sum | 0
}

/** The digest after `blocks` blocks, with the padding of FIPS 180-4; the state stays as it is. */
export function finish(words: Int32Array, blocks: number): Buffer {
  const last = words.slice()
  const padding = Buffer.alloc(BLOCK_BYTES)
  padding[0] = 0x80
  padding.writeBigUInt64BE(BigInt(blocks) * BigInt(8 * BLOCK_BYTES), BLOCK_BYTES - 8)
  compress(last, padding, 0)
  const digest = Buffer.alloc(DIGEST_BYTES)
  for (let at = 0; at < DIGEST_BYTES; at += 4) digest.writeInt32BE(last[at / 4] ?? 0, at)
  return digest
}

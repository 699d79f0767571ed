import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { endianness } from 'node:os'

const HEADER = 32
const FRAME_HEADER = 24
const PAGE_SIZE = 4096
const BIG_ENDIAN = endianness() === 'BE'
const MAGIC = BIG_ENDIAN ? 0x377f0683 : 0x377f0682

type Sums = readonly [number, number]

/** SQLite's checksum of the log, over 32-bit words in the byte order of the machine. */
function sum(bytes: Buffer, from: Sums): Sums {
  let [a, b] = from
  for (let i = 0; i < bytes.length; i += 8) {
    const first = BIG_ENDIAN ? bytes.readUInt32BE(i) : bytes.readUInt32LE(i)
    const second = BIG_ENDIAN ? bytes.readUInt32BE(i + 4) : bytes.readUInt32LE(i + 4)
    a = (a + first + b) >>> 0
    b = (b + second + a) >>> 0
  }
  return [a, b]
}

/**
 * Finds a bad frame of the write-ahead log with a whole commit after it. SQLite reads the log up to the first bad frame
 * and forgets the rest, which is right for a log torn by a crash: there only the last commit can be incomplete, since
 * each is on disk before the next begins. If commits follow, the frame went bad later, and what was acknowledged would
 * be lost without a word. Returns the number of the frame, counted from 1, or 0 when it is the log's header.
 *
 * A frame's checksum goes on from the one stored in the frame before it, so frames after a bad one can still be checked.
 */
export function badFrameBeforeCommit(file: string): number | undefined {
  const handle = openSync(file, 'r')
  try {
    return findBadFrame(handle, fstatSync(handle).size)
  } finally {
    closeSync(handle)
  }
}

function findBadFrame(handle: number, size: number): number | undefined {
  const header = Buffer.alloc(HEADER)
  const frame = Buffer.alloc(FRAME_HEADER + PAGE_SIZE)
  if (readSync(handle, header, 0, HEADER, 0) < HEADER) return undefined
  let before: Sums = [header.readUInt32BE(24), header.readUInt32BE(28)]
  let bad = headerIsWhole(header, before) ? undefined : 0
  let salts = bad === undefined ? header.subarray(16, 24) : undefined
  let ended = false
  for (let number = 1, at = HEADER; at + frame.length <= size; number += 1, at += frame.length) {
    readSync(handle, frame, 0, frame.length, at)
    // Frames left over from before the log last started anew have other salts.
    salts ??= Buffer.from(frame.subarray(8, 16))
    const current = frame.subarray(8, 16).equals(salts)
    const stored: Sums = [frame.readUInt32BE(16), frame.readUInt32BE(20)]
    const sums = sum(frame.subarray(FRAME_HEADER), sum(frame.subarray(0, 8), before))
    const whole = current && sums[0] === stored[0] && sums[1] === stored[1]
    before = stored
    if (whole && ended) return bad
    if (!whole) bad ??= number
    // A frame with a database size ends a commit: here the one that the bad frame is part of.
    if (bad !== undefined && current && frame.readUInt32BE(4) !== 0) ended = true
  }
  return undefined
}

function headerIsWhole(header: Buffer, stored: Sums): boolean {
  const sums = sum(header.subarray(0, 24), [0, 0])
  return header.readUInt32BE(0) === MAGIC && sums[0] === stored[0] && sums[1] === stored[1]
}

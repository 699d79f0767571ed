import { MAX_FILE_PAGES, populate, punch } from './backing.ts'
import type { HostContext } from './context.ts'
import { accept, kernelRefusal, type Refusal, type Result, refuse } from './refusal.ts'
import type { MemfileState } from './state.ts'

const S64_MAX = 2n ** 63n - 1n

export type ByteRange = { readonly offset: bigint; readonly length: bigint }
/** `partial`: what stopped a request that had already changed something; the change stays. */
export type FileOutcome = { readonly value: Record<string, unknown>; readonly partial?: Refusal }

const einval = (code: string, detail: string, pointer: string) => kernelRefusal('EINVAL', code, detail, pointer)

/** The VFS's checks and the file's own, in the kernel's order (kvm-guest-memory.md c.3). */
function checkRange(memfile: MemfileState, { offset, length }: ByteRange): Result<undefined> {
  if (offset < 0n || offset > S64_MAX)
    return einval('offset-negative', 'The offset is negative as a signed 64-bit number.', '/offset')
  if (length <= 0n || length > S64_MAX) return einval('length-not-positive', 'The length is not positive.', '/length')
  if (offset + length > S64_MAX) {
    return kernelRefusal('EFBIG', 'range-too-big', 'offset + length exceeds 2^63 - 1.', '/length')
  }
  const unit = BigInt(memfile.span) * 4096n
  if (offset % unit !== 0n)
    return einval('offset-unaligned', `The offset is not a multiple of ${unit} bytes.`, '/offset')
  if (length % unit !== 0n)
    return einval('length-unaligned', `The length is not a multiple of ${unit} bytes.`, '/length')
  return accept(undefined)
}

/** fallocate(KEEP_SIZE): fills the holes of a range. What was filled before memory ran out stays (c.3). */
export function fallocate(host: HostContext, memfile: MemfileState, range: ByteRange): Result<FileOutcome> {
  const checked = checkRange(memfile, range)
  if (!checked.ok) return checked
  const end = (range.offset + range.length) / 4096n
  if (end > BigInt(memfile.pages)) return einval('beyond-end', 'The range ends beyond the end of the file.', '/length')
  if (end > BigInt(MAX_FILE_PAGES)) {
    return kernelRefusal('ENOMEM', 'out-of-memory', 'No memory can be held that far into a file.', '/offset')
  }
  const before = memfile.allocated
  const refusal = populate(host, memfile, Number(range.offset / 4096n), Number(end))
  const populated = (memfile.allocated - before) * 4096
  if (refusal === undefined) return accept({ value: { populatedBytes: populated } })
  if (populated === 0 && host.memory.crashReason === undefined) return refuse(refusal)
  return accept({ value: { populatedBytes: populated }, partial: refusal })
}

/** fallocate(PUNCH_HOLE | KEEP_SIZE): frees a range, silently clipped to the file (c.3). */
export function punchHole(host: HostContext, memfile: MemfileState, range: ByteRange): Result<FileOutcome> {
  const checked = checkRange(memfile, range)
  if (!checked.ok) return checked
  const limit = BigInt(Math.min(memfile.pages, MAX_FILE_PAGES))
  const first = range.offset / 4096n
  const end = (range.offset + range.length) / 4096n
  const before = memfile.allocated
  if (first < limit) punch(host, memfile, Number(first), Number(end < limit ? end : limit))
  return accept({ value: { freedBytes: (before - memfile.allocated) * 4096 } })
}

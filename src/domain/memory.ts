import type { HostEvent, Machine } from '../hw/contract.ts'
import * as framePool from './frame-pool.ts'
import type { Contents, HostState } from './state.ts'

export const PAGE_BYTES = 4096

/** The physical memory of one host and the kernel's hold on it: what a backend is given as {@link Machine}. */
export class PhysicalMemory implements Machine {
  readonly #state: HostState
  readonly contents: Contents
  /** What the host did by itself while serving the command under way. */
  events: HostEvent[] = []
  /** Why the host died during the command under way. */
  crashReason: string | undefined

  constructor(state: HostState, contents: Contents) {
    this.#state = state
    this.contents = contents
  }

  get frames(): number {
    return this.#state.frames
  }

  read(frame: number): Uint8Array | undefined {
    return this.contents.get(frame)
  }

  write(frame: number, bytes: Uint8Array | undefined): void {
    if (bytes === undefined) this.contents.delete(frame)
    else this.contents.set(frame, bytes)
  }

  /** Changes `bytes.length` bytes of a page from `offset`; a page that is all zero keeps no bytes. */
  patch(frame: number, offset: number, bytes: Uint8Array): void {
    const old = this.contents.get(frame)
    const page = new Uint8Array(PAGE_BYTES)
    if (old !== undefined) page.set(old)
    page.set(bytes, offset)
    this.write(frame, page.some((byte) => byte !== 0) ? page : undefined)
  }

  /** Bytes [offset, offset + length) of a page. */
  slice(frame: number, offset: number, length: number): Uint8Array {
    return this.contents.get(frame)?.subarray(offset, offset + length) ?? new Uint8Array(length)
  }

  /** Forgets what `count` frames hold. Costs the smaller of the range and what is held at all. */
  clear(frame: number, count: number): void {
    if (this.contents.size === 0) return
    if (count <= this.contents.size) {
      for (let at = frame; at < frame + count; at++) this.contents.delete(at)
      return
    }
    for (const held of this.contents.keys()) if (held >= frame && held < frame + count) this.contents.delete(held)
  }

  allocateFrame(): number {
    const frame = framePool.allocateOne(this.#state.pool)
    if (frame >= 0) this.contents.delete(frame)
    return frame
  }

  allocateBlock(count: number): number {
    const start = framePool.allocateAligned(this.#state.pool, count)
    if (start >= 0) this.clear(start, count)
    return start
  }

  freeFrame(frame: number): void {
    this.contents.delete(frame)
    framePool.free(this.#state.pool, frame, 1)
  }

  crash(reason: string): void {
    this.crashReason ??= reason
  }

  note(event: HostEvent): void {
    this.events.push(event)
  }
}

/**
 * A TD's memory as the reference tells it (intel-tdx.md b, c): a tree of one object an entry, an array of one word a
 * frame. Knows one 1G entry, at the first gfn, and what lies under it. Every operation answers a status code.
 */
export type NaiveState = 'FREE' | 'MAPPED' | 'PENDING' | 'BLOCKED' | 'PENDING_BLOCKED' | 'NL_MAPPED' | 'NL_BLOCKED'

type Page = { state: NaiveState; frame: number; epoch: number }
type Block = Page & { children: Page[] }

export const OK = '0x0'
const INVALID_R8 = '0xc000010000000008'
const WALK_FAILED = '0xc0000b0000000001'
const STATE_INCORRECT = '0xc0000b0d00000001'
const METADATA_R8 = '0xc000030000000008'
const NOT_BLOCKED = '0xc0000b0600000001'
const ALREADY_BLOCKED = '0xb0700000001'
const NOT_TRACKED = '0xc0000b0800000001'
const NOT_TRACKED_TREE = '0xc0000b0800000092'
const PROMOTE_CONDITIONS = '0xc0000b0900000001'
const NOT_EMPTY = '0xc0000b0e00000001'
const EPOCH_BUSY = '0x8000020100000000'
const VCPU_STATE = '0xc000070000000000'
export const EXIT = 'exit'

const free = (): Page => ({ state: 'FREE', frame: -1, epoch: 0 })
const BLOCKED: Readonly<Partial<Record<NaiveState, NaiveState>>> = {
  MAPPED: 'BLOCKED',
  PENDING: 'PENDING_BLOCKED',
  NL_MAPPED: 'NL_BLOCKED',
}
const UNBLOCKED: Readonly<Partial<Record<NaiveState, NaiveState>>> = {
  BLOCKED: 'MAPPED',
  PENDING_BLOCKED: 'PENDING',
  NL_BLOCKED: 'NL_MAPPED',
}
const isLeaf = (state: NaiveState): boolean => state !== 'FREE' && !state.startsWith('NL_')

export class NaiveTd {
  readonly root: Page = { state: 'NL_MAPPED', frame: -1, epoch: 0 }
  readonly blocks: Block[]
  readonly frames: string[]
  /** Epoch in which each vCPU entered, or -1. */
  readonly inside: number[]
  readonly demandsTracking: boolean
  epoch = 1
  children = 0

  constructor(blocks: number, frames: number, vcpus: number, demandsTracking: boolean) {
    this.blocks = Array.from({ length: blocks }, () => ({ ...free(), children: [] }))
    this.frames = Array.from({ length: frames }, () => 'PT_NDA')
    this.inside = Array.from({ length: vcpus }, () => -1)
    this.demandsTracking = demandsTracking
  }

  private block(gfn: number): Block {
    const block = this.blocks[Math.floor(gfn / 512)]
    if (block === undefined) throw new Error(`no block of ${gfn}`)
    return block
  }

  /** The entry of a level, or undefined when the walk ends above it. */
  entry(gfn: number, level: number): Page | undefined {
    if (level === 2) return this.root
    if (this.root.state === 'NL_BLOCKED') return undefined
    const block = this.block(gfn)
    if (level === 1) return block
    return block.state === 'NL_MAPPED' ? block.children[gfn % 512] : undefined
  }

  private own(frame: number, count: number, type: string): void {
    for (let at = frame; at < frame + count; at++) this.frames[at] = type
  }
  private isFree(frame: number, count: number): boolean {
    return this.frames.slice(frame, frame + count).every((type) => type === 'PT_NDA')
  }
  private isTracked(epoch: number): boolean {
    const inside = this.inside.filter((entered) => entered >= 0 && entered % 2 === epoch % 2).length
    return epoch < this.epoch - 1 || (epoch === this.epoch - 1 && inside === 0)
  }
  private untracked(entry: Page): string | undefined {
    if (!this.demandsTracking) return undefined
    if (!entry.state.endsWith('BLOCKED')) return NOT_BLOCKED
    return this.isTracked(entry.epoch) ? undefined : NOT_TRACKED
  }

  aug(gfn: number, level: number, frame: number): string {
    const entry = this.entry(gfn, level)
    if (entry === undefined) return WALK_FAILED
    if (entry.state !== 'FREE') return STATE_INCORRECT
    const count = 512 ** level
    if (frame % count !== 0) return INVALID_R8
    if (!this.isFree(frame, count)) return METADATA_R8
    this.own(frame, count, level === 0 ? 'PT_REG' : 'PT_REG 1')
    Object.assign(entry, { state: 'PENDING', frame, epoch: 0 })
    this.children += count
    return OK
  }

  accept(gfn: number, level: number): string {
    if (this.root.state === 'NL_BLOCKED') return EXIT
    const block = this.block(gfn)
    if (level === 0 && isLeaf(block.state)) return block.state === 'MAPPED' ? '0xb0a00000001' : EXIT
    if (level === 1 && block.state.startsWith('NL_')) return '0xc0000b0b00000001'
    const entry = this.entry(gfn, level)
    if (entry?.state === 'MAPPED') return `0xb0a0000000${level}`
    if (entry?.state !== 'PENDING') return EXIT
    entry.state = 'MAPPED'
    return OK
  }

  remove(gfn: number, level: number): string {
    const entry = this.entry(gfn, level)
    if (entry === undefined) return WALK_FAILED
    if (!isLeaf(entry.state)) return STATE_INCORRECT
    const refused = this.untracked(entry)
    if (refused !== undefined) return refused
    this.own(entry.frame, 512 ** level, 'PT_NDA')
    Object.assign(entry, free())
    this.children -= 512 ** level
    return OK
  }

  blockRange(gfn: number, level: number): string {
    const entry = this.entry(gfn, level)
    if (entry === undefined) return WALK_FAILED
    if (entry.state.endsWith('BLOCKED')) return ALREADY_BLOCKED
    const to = BLOCKED[entry.state]
    if (to === undefined) return STATE_INCORRECT
    Object.assign(entry, { state: to, epoch: this.epoch })
    return OK
  }

  unblock(gfn: number, level: number): string {
    const entry = this.entry(gfn, level)
    if (entry === undefined) return WALK_FAILED
    const to = UNBLOCKED[entry.state]
    if (to === undefined) return STATE_INCORRECT
    if (this.demandsTracking && !this.isTracked(entry.epoch)) return NOT_TRACKED_TREE
    Object.assign(entry, { state: to, epoch: 0 })
    return OK
  }

  relocate(gfn: number, frame: number): string {
    const entry = this.entry(gfn, 0)
    if (entry === undefined) return WALK_FAILED
    if (!isLeaf(entry.state)) return STATE_INCORRECT
    if (entry.frame === frame) return INVALID_R8
    const refused = this.untracked(entry)
    if (refused !== undefined) return refused
    if (!this.isFree(frame, 1)) return METADATA_R8
    this.own(entry.frame, 1, 'PT_NDA')
    this.own(frame, 1, 'PT_REG')
    Object.assign(entry, { state: UNBLOCKED[entry.state] ?? entry.state, frame, epoch: 0 })
    return OK
  }

  septAdd(gfn: number, frame: number): string {
    const block = this.entry(gfn, 1)
    if (block === undefined) return WALK_FAILED
    if (block.state !== 'FREE') return STATE_INCORRECT
    if (!this.isFree(frame, 1)) return METADATA_R8
    this.own(frame, 1, 'PT_EPT')
    Object.assign(block, { state: 'NL_MAPPED', frame, epoch: 0, children: Array.from({ length: 512 }, free) })
    this.children++
    return OK
  }

  septRemove(gfn: number): string {
    const block = this.entry(gfn, 1) as Block | undefined
    if (block === undefined) return WALK_FAILED
    if (!block.state.startsWith('NL_')) return STATE_INCORRECT
    const refused = this.untracked(block)
    if (refused !== undefined) return refused
    if (block.children.some(({ state }) => state !== 'FREE')) return NOT_EMPTY
    this.own(block.frame, 1, 'PT_NDA')
    Object.assign(block, { ...free(), children: [] })
    this.children--
    return OK
  }

  promote(gfn: number): string {
    const block = this.entry(gfn, 1) as Block | undefined
    if (block === undefined) return WALK_FAILED
    if (!block.state.startsWith('NL_')) return STATE_INCORRECT
    const refused = this.untracked(block)
    if (refused !== undefined) return refused
    const [first] = block.children
    if (first === undefined || (first.state !== 'MAPPED' && first.state !== 'PENDING')) return PROMOTE_CONDITIONS
    if (first.frame % 512 !== 0) return PROMOTE_CONDITIONS
    for (const [index, child] of block.children.entries())
      if (child.state !== first.state || child.frame !== first.frame + index) return PROMOTE_CONDITIONS
    this.own(block.frame, 1, 'PT_NDA')
    this.own(first.frame, 512, 'PT_REG 1')
    Object.assign(block, { state: first.state, frame: first.frame, epoch: 0, children: [] })
    this.children--
    return OK
  }

  demote(gfn: number, frame: number): string {
    const block = this.entry(gfn, 1) as Block | undefined
    if (block === undefined) return WALK_FAILED
    if (!isLeaf(block.state)) return STATE_INCORRECT
    const refused = this.untracked(block)
    if (refused !== undefined) return refused
    if (!this.isFree(frame, 1)) return METADATA_R8
    const state = UNBLOCKED[block.state] ?? block.state
    const first = block.frame
    this.own(first, 512, 'PT_REG')
    this.own(frame, 1, 'PT_EPT')
    const children = Array.from({ length: 512 }, (_, index) => ({ state, frame: first + index, epoch: 0 }))
    Object.assign(block, { state: 'NL_MAPPED', frame, epoch: 0, children })
    this.children++
    return OK
  }

  track(): string {
    if (this.inside.some((entered) => entered >= 0 && entered % 2 !== this.epoch % 2)) return EPOCH_BUSY
    this.epoch++
    return OK
  }

  enter(vcpu: number): string {
    if (this.inside[vcpu] !== -1) return VCPU_STATE
    this.inside[vcpu] = this.epoch
    return OK
  }

  leave(vcpu: number): string {
    this.inside[vcpu] = -1
    return OK
  }
}

/** The RMP as the reference tells it: one object a page, and loops over pages. Knows guests, no firmware pages. */
export type NaiveEntry = {
  assigned: boolean
  validated: boolean
  immutable: boolean
  large: boolean
  vmsa: boolean
  asid: number
  gfn: number
  permissions: [number, number, number]
}

const empty = (): NaiveEntry => ({
  assigned: false,
  validated: false,
  immutable: false,
  large: false,
  vmsa: false,
  asid: 0,
  gfn: 0,
  permissions: [0, 0, 0],
})

export class NaiveRmp {
  readonly pages: NaiveEntry[]
  smashes = 0

  constructor(frames: number) {
    this.pages = Array.from({ length: frames }, empty)
  }

  at(frame: number): NaiveEntry {
    const entry = this.pages[frame]
    if (entry === undefined) throw new Error(`no frame ${frame}`)
    return entry
  }

  update(frame: number, assigned: boolean, large: boolean, immutable: boolean, asid: number, gfn: number): number {
    if (large && (frame % 512 !== 0 || gfn % 512 !== 0)) return 1
    if (!assigned && (asid !== 0 || immutable)) return 1
    if (assigned && asid === 0 && gfn !== 0) return 1
    const old = this.at(frame)
    if (old.immutable) return 2
    if (!large && old.large) return 4
    const count = large ? 512 : 1
    if (large && !old.large)
      for (let at = frame; at < frame + 512; at++) if (this.at(at).assigned && !this.at(at).large) return 4
    const same = assigned && old.assigned && asid !== 0 && old.asid === asid && old.large === large && old.gfn === gfn
    for (let index = 0; index < count; index++) {
      if (same) this.at(frame + index).immutable = immutable
      else
        this.pages[frame + index] = assigned
          ? { ...empty(), assigned, immutable, large, asid, gfn: asid === 0 ? 0 : gfn + index }
          : empty()
    }
    return 0
  }

  psmash(frame: number): number {
    if (frame % 512 !== 0) return 1
    const first = this.at(frame)
    if (!first.large || first.immutable) return 7
    for (let at = frame; at < frame + 512; at++) this.at(at).large = false
    this.smashes++
    return 0
  }

  /** 0 changed, -1 unchanged (CF=1), 6 size mismatch, -2 fault, -3 fault mended by PSMASH. */
  pvalidate(asid: number, gfn: number, frame: number, large: boolean, validate: boolean): number {
    if (large && gfn % 512 !== 0) return 1
    const entry = this.at(frame)
    if (!entry.assigned || entry.asid !== asid || entry.gfn !== gfn || entry.immutable) return -2
    if (!large && entry.large) {
      this.psmash(frame - (frame % 512))
      return -3
    }
    if (large && !entry.large) return 6
    if (entry.validated === validate) return -1
    for (let at = frame; at < frame + (large ? 512 : 1); at++) this.at(at).validated = validate
    return 0
  }

  reclaim(frame: number, large: boolean): number {
    const entry = this.at(frame)
    const inner = entry.large && frame % 512 !== 0
    if ((inner ? false : entry.large) !== large) return 0x19
    if (inner || !entry.immutable) return 0
    for (let at = frame; at < frame + (large ? 512 : 1); at++) this.at(at).immutable = false
    return 0
  }

  unsmash(frame: number): number {
    if (frame % 512 !== 0) return 0x16
    const first = this.at(frame)
    for (let index = 0; index < 512; index++) {
      const entry = this.at(frame + index)
      const fits =
        !entry.large &&
        entry.immutable &&
        !entry.vmsa &&
        entry.asid !== 0 &&
        entry.asid === first.asid &&
        entry.validated === first.validated &&
        entry.gfn === first.gfn + index &&
        first.gfn % 512 === 0 &&
        entry.permissions.join() === first.permissions.join()
      if (!fits) return 0x1a
    }
    for (let at = frame; at < frame + 512; at++) this.at(at).large = true
    return 0
  }

  assign(asid: number, gfn: number, frame: number, count: number, span: number): void {
    for (let at = frame; at < frame + count; ) {
      const isBlock =
        span >= 512 &&
        at % 512 === 0 &&
        (gfn + at - frame) % 512 === 0 &&
        at + 512 <= frame + count &&
        this.pages.slice(at, at + 512).every(({ assigned }) => !assigned)
      if (!this.at(at).assigned) this.update(at, true, isBlock, false, asid, gfn + at - frame)
      at += isBlock ? 512 : 1
    }
  }

  release(frame: number, count: number): void {
    for (let at = frame; at < frame + count; ) {
      const entry = this.at(at)
      const whole = entry.large && at % 512 === 0 && at + 512 <= frame + count
      if (entry.assigned && !entry.immutable) {
        if (entry.large && !whole) this.psmash(at - (at % 512))
        this.update(at, false, whole, false, 0, 0)
      }
      at += whole ? 512 : 1
    }
  }
}

import { extendData, extendRipas } from '../../../../src/hw/cca/measurement/rim.ts'

/**
 * A Realm's memory as the reference tells it (arm-cca.md 2, 4, 5): a tree of one object an entry, an array of one word a
 * granule. Pages and frames are numbers of 4 KiB. Every command answers in short: `SUCCESS`, `INPUT`, `RTT,2` …
 */
export type NaiveRipas = 'EMPTY' | 'RAM' | 'DESTROYED'
export type NaiveEntry =
  | { readonly kind: 'U'; readonly ripas: NaiveRipas }
  | { readonly kind: 'A'; readonly ripas: NaiveRipas; readonly frame: number }
  | { readonly kind: 'U_NS' }
  | { readonly kind: 'A_NS'; readonly frame: number; readonly attributes: number }
  | { readonly kind: 'TABLE'; readonly frame: number; readonly entries: NaiveEntry[] }

export type Said = { readonly status: string } & Readonly<Record<string, number | string>>

const OK: Said = { status: 'SUCCESS' }
const INPUT: Said = { status: 'INPUT' }
const rtt = (level: number, more: Readonly<Record<string, number>> = {}): Said => ({ status: `RTT,${level}`, ...more })
const size = (level: number): number => 512 ** (3 - level)

type Place = { readonly entries: NaiveEntry[]; readonly index: number; readonly level: number; readonly base: number }
type Request = { readonly top: number; next: number; readonly ripas: 'EMPTY' | 'RAM'; readonly destroyedToo: boolean }

export class NaiveRealm {
  readonly startLevel: number
  readonly par: number
  /** The root tables, one after the other. */
  readonly roots: NaiveEntry[][]
  /** State of each granule: '' for one that the host has. */
  readonly granules: string[]
  state: 'NEW' | 'ACTIVE' = 'NEW'
  rim: Uint8Array
  request: Request | undefined

  constructor(s2sz: number, startLevel: number, tables: number, granules: number, rim: Uint8Array) {
    this.startLevel = startLevel
    this.par = 2 ** (s2sz - 13)
    this.rim = rim
    this.granules = Array.from({ length: granules }, () => '')
    this.roots = Array.from({ length: tables }, (_, table) =>
      Array.from(
        { length: 512 },
        (_, index): NaiveEntry =>
          (table * 512 + index) * size(startLevel) < this.par ? { kind: 'U', ripas: 'EMPTY' } : { kind: 'U_NS' },
      ),
    )
  }

  walk(page: number, level: number): Place {
    const span = size(this.startLevel)
    const at = Math.floor(page / span)
    let entries = this.roots[Math.floor(at / 512)] as NaiveEntry[]
    let base = Math.floor(at / 512) * 512 * span
    for (let reached = this.startLevel; ; reached++) {
      const index = Math.floor((page - base) / size(reached))
      const entry = entries[index] as NaiveEntry
      if (reached === level || entry.kind !== 'TABLE') return { entries, index, level: reached, base }
      entries = entry.entries
      base += index * size(reached)
    }
  }

  entry({ entries, index }: Place): NaiveEntry {
    return entries[index] as NaiveEntry
  }

  read(page: number, level: number): readonly [level: number, state: string, ripas: string, frame: number] {
    const place = this.walk(page, level)
    const entry = this.entry(place)
    switch (entry.kind) {
      case 'U':
        return [place.level, 'UNASSIGNED', entry.ripas, 0]
      case 'A':
        return [place.level, 'ASSIGNED', entry.ripas, entry.ripas === 'DESTROYED' ? 0 : entry.frame * 4096]
      case 'U_NS':
        return [place.level, 'UNASSIGNED', 'EMPTY', 0]
      case 'A_NS':
        return [place.level, 'ASSIGNED', 'EMPTY', entry.frame * 4096 + entry.attributes]
      default:
        return [place.level, 'TABLE', 'EMPTY', entry.frame * 4096]
    }
  }

  /** The next live entry from where a walk ended. */
  top(page: number, { entries, index, level, base }: Place): number {
    const live = ({ kind }: NaiveEntry): boolean => kind !== 'U' && kind !== 'U_NS'
    if (live(entries[index] as NaiveEntry)) return page
    for (let at = index + 1; at < 512; at++) if (live(entries[at] as NaiveEntry)) return base + at * size(level)
    return base + 512 * size(level)
  }

  delegate(frame: number): Said {
    if (this.granules[frame] !== '') return INPUT
    this.granules[frame] = 'DELEGATED'
    return OK
  }

  undelegate(frame: number): Said {
    if (this.granules[frame] !== 'DELEGATED') return INPUT
    this.granules[frame] = ''
    return OK
  }

  dataCreate(page: number, frame: number, content: Uint8Array | undefined): Said {
    if (this.granules[frame] !== 'DELEGATED') return INPUT
    if (this.state !== 'NEW') return { status: 'REALM,0' }
    const said = this.createUnknown(page, frame)
    if (said !== OK) return said
    const { entries, index } = this.walk(page, 3)
    entries[index] = { kind: 'A', ripas: 'RAM', frame }
    const flags = content === undefined ? 0 : 1
    this.rim = extendData(1, this.rim, BigInt(page) * 4096n, flags, content)
    return OK
  }

  createUnknown(page: number, frame: number): Said {
    if (this.granules[frame] !== 'DELEGATED' || page >= this.par) return INPUT
    const place = this.walk(page, 3)
    const entry = this.entry(place)
    if (place.level < 3 || entry.kind !== 'U') return rtt(place.level)
    place.entries[place.index] = { kind: 'A', ripas: entry.ripas, frame }
    this.granules[frame] = 'DATA'
    return OK
  }

  dataDestroy(page: number): Said {
    if (page >= this.par) return { ...INPUT, top: 0 }
    const place = this.walk(page, 3)
    const entry = this.entry(place)
    if (place.level < 3 || entry.kind !== 'A') return rtt(place.level, { top: this.top(page, place) })
    place.entries[place.index] = { kind: 'U', ripas: entry.ripas === 'EMPTY' ? 'EMPTY' : 'DESTROYED' }
    this.granules[entry.frame] = 'DELEGATED'
    return { ...OK, pa: entry.frame, top: this.top(page, place) }
  }

  isTablePlace(page: number, level: number): boolean {
    return level > this.startLevel && level <= 3 && page % size(level - 1) === 0
  }

  rttCreate(page: number, level: number, frame: number): Said {
    if (this.granules[frame] !== 'DELEGATED' || !this.isTablePlace(page, level)) return INPUT
    const place = this.walk(page, level - 1)
    const parent = this.entry(place)
    if (place.level < level - 1 || parent.kind === 'TABLE') return rtt(place.level)
    const step = size(level)
    const entries = Array.from(
      { length: 512 },
      (_, index): NaiveEntry => ('frame' in parent ? { ...parent, frame: parent.frame + index * step } : parent),
    )
    place.entries[place.index] = { kind: 'TABLE', frame, entries }
    this.granules[frame] = 'RTT'
    return OK
  }

  rttDestroy(page: number, level: number): Said {
    if (!this.isTablePlace(page, level)) return { ...INPUT, top: 0 }
    const place = this.walk(page, level - 1)
    const table = this.entry(place)
    if (table.kind !== 'TABLE') return rtt(place.level, { top: this.top(page, place) })
    if (table.entries.some(({ kind }) => kind === 'A' || kind === 'TABLE')) return rtt(level, { top: page })
    place.entries[place.index] = page < this.par ? { kind: 'U', ripas: 'DESTROYED' } : { kind: 'U_NS' }
    this.granules[table.frame] = 'DELEGATED'
    return { ...OK, rtt: table.frame, top: this.top(page, place) }
  }

  rttFold(page: number, level: number): Said {
    if (!this.isTablePlace(page, level)) return INPUT
    const place = this.walk(page, level - 1)
    const table = this.entry(place)
    if (table.kind !== 'TABLE') return rtt(place.level)
    const [first] = table.entries
    if (first === undefined || first.kind === 'TABLE') return rtt(level)
    for (const [index, entry] of table.entries.entries()) {
      const expected = 'frame' in first ? { ...first, frame: first.frame + index * size(level) } : first
      if (JSON.stringify(entry) !== JSON.stringify(expected)) return rtt(level)
    }
    if ('frame' in first && first.frame % size(level - 1) !== 0) return rtt(level)
    if ('frame' in first && level - 1 < 1) return rtt(level - 1)
    place.entries[place.index] = first
    this.granules[table.frame] = 'DELEGATED'
    return { ...OK, rtt: table.frame }
  }

  mapHost(page: number, level: number, frame: number, attributes: number): Said {
    if (level < Math.max(1, this.startLevel) || level > 3 || frame % size(level) !== 0) return INPUT
    if (page < this.par || page % size(level) !== 0) return INPUT
    const place = this.walk(page, level)
    if (place.level < level || this.entry(place).kind !== 'U_NS') return rtt(place.level)
    place.entries[place.index] = { kind: 'A_NS', frame, attributes }
    return OK
  }

  unmapHost(page: number, level: number): Said {
    if (level < Math.max(1, this.startLevel) || level > 3) return { ...INPUT, top: 0 }
    if (page < this.par || page % size(level) !== 0) return { ...INPUT, top: 0 }
    const place = this.walk(page, level)
    if (place.level < level || this.entry(place).kind !== 'A_NS')
      return rtt(place.level, { top: this.top(page, place) })
    place.entries[place.index] = { kind: 'U_NS' }
    return { ...OK, top: this.top(page, place) }
  }

  /** Entry by entry in one table from `base`, while `change` gives a new entry. */
  along(
    base: number,
    end: number,
    change: (entry: NaiveEntry, page: number, span: number) => NaiveEntry | undefined,
  ): Said {
    const { entries, index, level, base: first } = this.walk(base, 3)
    const span = size(level)
    if (base % span !== 0) return rtt(level)
    let page = base
    for (let at = index; at < 512 && page + span <= end; at++, page = first + at * span) {
      const changed = change(entries[at] as NaiveEntry, page, span)
      if (changed === undefined) break
      entries[at] = changed
    }
    return page === base ? rtt(level) : { ...OK, out_top: page }
  }

  initRipas(base: number, end: number): Said {
    if (end <= base || end > this.par) return INPUT
    if (this.state !== 'NEW') return { status: 'REALM,0' }
    return this.along(base, end, (entry, page, span) => {
      if (entry.kind !== 'U' || entry.ripas === 'DESTROYED') return undefined
      this.rim = extendRipas(1, this.rim, BigInt(page) * 4096n, BigInt(page + span) * 4096n)
      return { ...entry, ripas: 'RAM' }
    })
  }

  stateSet(base: number, top: number, ripas: 'EMPTY' | 'RAM', destroyedToo: boolean): void {
    this.request = { next: base, top, ripas, destroyedToo }
  }

  setRipas(base: number, end: number): Said {
    const { request } = this
    if (end <= base || request === undefined || base !== request.next || end > request.top) return INPUT
    const said = this.along(base, end, (entry) => {
      if (entry.kind !== 'U' && entry.kind !== 'A') return undefined
      if (entry.ripas === 'DESTROYED' && !request.destroyedToo) return undefined
      return { ...entry, ripas: request.ripas }
    })
    if (typeof said.out_top === 'number') request.next = said.out_top
    return said
  }

  access(page: number, kind: 'read' | 'write' | 'execute'): string {
    const place = this.walk(page, 3)
    const entry = this.entry(place)
    const abort = `${kind === 'execute' ? '0x20' : '0x24'}/0x${(4 + place.level).toString(16)}`
    if (entry.kind === 'U_NS') return kind === 'execute' ? 'SEA' : `${abort}e`
    if (entry.kind === 'A_NS') {
      if (kind === 'execute') return 'SEA'
      const mask = kind === 'write' ? 0x80 : 0x40
      if ((entry.attributes & mask) === 0) return `0x24/0x${(12 + place.level).toString(16)}`
      return (this.granules[entry.frame + (page % size(place.level))] ?? '') === '' ? 'ok' : 'GPF'
    }
    if (entry.kind === 'TABLE') throw new Error('a walk to level 3 ends at no table')
    if (entry.ripas === 'EMPTY') return 'SEA'
    return entry.kind === 'A' && entry.ripas === 'RAM' ? 'ok' : abort
  }
}

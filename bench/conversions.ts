import { spawnSync } from 'node:child_process'
import { Changes } from '../src/domain/changes.ts'
import { encodeEntry } from '../src/domain/codec.ts'
import type { CommandOf } from '../src/domain/commands.ts'
import { Host } from '../src/domain/host.ts'
import { backends } from '../src/hw/registry.ts'
import type { Figure } from './figure.ts'

const GIB_PAGES = 262144
const SLICE = 50_000
const SLICES = 40

type PageStates = CommandOf<'page-states'>
type Operation = PageStates['entries'][number]['operation']

/**
 * A running VM of `technology` with 16 GiB in one slot, and how to convert pages of it as a request would. `accept`: the
 * guest accepts what it has made private, as part of the request.
 */
function prepare(technology: string, accept: boolean) {
  const backend = backends.get(technology)
  if (backend === undefined) throw new Error(`no backend ${technology}`)
  const changes = new Changes()
  let seq = 1
  const host = Host.create(backend, { name: 'bench', frames: 32 * GIB_PAGES, seed: 'bench', seq }, changes)
  const run = (command: Parameters<Host['apply']>[0]): Record<string, unknown> => {
    const applied = host.apply(command, ++seq)
    if (!applied.accepted) throw new Error(applied.refusal.detail)
    return applied.value
  }
  const options = { name: null, vcpus: 1, conversion: 'auto', privacy: 'populated', config: {} } as const
  const vm = String(run({ type: 'vm.create', ...options }).id)
  const size = 16 * GIB_PAGES * 4096
  const memfile = String(run({ type: 'memfile.create', name: null, size, span: 1, placed: true }).id)
  run({ type: 'memfile.bind', memfile, vm, adopt: null })
  const slot = {
    slot: 0,
    gpa: 0,
    size,
    memfile,
    memfileOffset: 0,
    hva: 'auto',
    readOnly: false,
    dirtyLog: false,
  } as const
  run({ type: 'memslot.set', vm, ...slot })
  if (backend.properties.population === 'measured') run({ type: 'launch.finish', vm, options: {} })
  let recorded = 0
  const convert = (gfn: number, span: number, operation: Operation): void => {
    const command: PageStates = {
      type: 'page-states',
      vm,
      vcpu: 0,
      accept,
      entries: [{ gfn, pages: 1, span, operation }],
    }
    const applied = host.apply(command, ++seq)
    if (!applied.accepted) throw new Error(applied.refusal.detail)
    const entry = encodeEntry('bench', seq, command, applied)
    recorded += entry.command.length + entry.outcome.length
    // A group is sealed long before this many; its rows are another figure.
    if ((seq & 1023) === 0) changes.clear()
  }
  return { convert, recorded: () => recorded }
}

/** The fastest and the median of slices, in conversions a second: others share this machine, and only ever slow it. */
function rates(convertNext: () => void): { best: number; median: number } {
  for (let warm = 0; warm < 4 * SLICE; warm++) convertNext()
  const seen: number[] = []
  for (let slice = 0; slice < SLICES; slice++) {
    const start = performance.now()
    for (let i = 0; i < SLICE; i++) convertNext()
    seen.push((SLICE * 1000) / (performance.now() - start))
  }
  seen.sort((a, b) => a - b)
  return { best: seen.at(-1) ?? 0, median: seen[SLICES / 2] ?? 0 }
}

/** Walks of single 4 KiB pages over 1 GiB: each page there and back, all there then all back, and at random. */
function walks(
  convert: (gfn: number, span: number, operation: Operation) => void,
): Readonly<Record<string, () => void>> {
  let step = 0
  let random = 1
  const isPrivate = new Uint8Array(GIB_PAGES)
  return {
    'there and back': () => {
      const gfn = (step >> 1) % GIB_PAGES
      convert(gfn, 1, step++ & 1 ? 'shared' : 'private')
    },
    'in order': () => {
      const gfn = step % GIB_PAGES
      convert(2 * GIB_PAGES + gfn, 1, step++ % (2 * GIB_PAGES) < GIB_PAGES ? 'private' : 'shared')
    },
    'at random': () => {
      random = (Math.imul(random, 1103515245) + 12345) >>> 0
      const gfn = (random >>> 8) % GIB_PAGES
      isPrivate[gfn] = 1 - (isPrivate[gfn] ?? 0)
      convert(4 * GIB_PAGES + gfn, 1, isPrivate[gfn] ? 'private' : 'shared')
    },
  }
}

function gibibyte(convert: (gfn: number, span: number, operation: Operation) => void): number {
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < 200; i++) {
    const start = performance.now()
    convert(8 * GIB_PAGES, GIB_PAGES, i & 1 ? 'shared' : 'private')
    best = Math.min(best, performance.now() - start)
  }
  return best * 1000
}

/**
 * Conversions through the whole domain and a backend, in process, journal record encoded. Each kind has a process of its
 * own: code that has run for one alone is faster than code that serves several by turns.
 */
export function conversionBench(): Figure[] {
  return [...backends].flatMap(([technology, { properties }]) =>
    (properties.guestAccepts ? ['', 'accepted'] : ['']).flatMap((accepted) => inOwnProcess(technology, accepted)),
  )
}

function inOwnProcess(technology: string, accepted: string): Figure[] {
  const { status, stdout } = spawnSync(process.execPath, [import.meta.filename, technology, accepted], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (status !== 0) throw new Error(`the conversions of ${technology} ended with ${status}`)
  return JSON.parse(stdout) as Figure[]
}

function figuresOf(technology: string, accepted: string): Figure[] {
  const name = accepted === '' ? technology : `${technology}, ${accepted}`
  const { convert } = prepare(technology, accepted !== '')
  const figures = Object.entries(walks(convert)).flatMap(([walk, next]): Figure[] => {
    const { best, median } = rates(next)
    return [
      { name: `${name}: 4 KiB conversions ${walk}, best slice`, value: best, unit: '/s' },
      { name: `${name}: 4 KiB conversions ${walk}, median slice`, value: median, unit: '/s' },
    ]
  })
  return [...figures, { name: `${name}: 1 GiB in one request`, value: gibibyte(convert), unit: 'µs' }]
}

if (import.meta.main) {
  const [technology = '', accepted = ''] = process.argv.slice(2)
  process.stdout.write(JSON.stringify(figuresOf(technology, accepted)))
}

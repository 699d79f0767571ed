import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Group, JournalEntry, RunWindow } from '../src/domain/journal.ts'
import { openStore } from '../src/store/store.ts'

type Figure = { readonly name: string; readonly value: number; readonly unit: string }

const PIPELINE = 2
const VM_PAGES = 65_536

const entry = (seq: number, gfn: number): JournalEntry => ({
  seq,
  host: 'host-1',
  vm: 'vm-0001',
  type: 'vm.convert',
  command: `{"vm":"vm-0001","ranges":[{"gpa":"0x${gfn.toString(16)}000","pages":1}],"to":"shared"}`,
  outcome: '{"ok":true,"value":{"converted":1,"exits":[]}}',
  firstGfn: gfn,
  endGfn: gfn + 1,
  attachment: null,
})

const window = (gfn: number, round: number): RunWindow => {
  const visibility = round % 2 === 0 ? 'private' : 'shared'
  const run = { start: gfn, count: 1, owner: 'vm-0001', visibility, hardware: '{"rmp":"guest","validated":true}' }
  return { vm: 'vm-0001', start: gfn, end: gfn + 1, runs: [run] }
}

/** A group as a busy host makes it: each entry converts one page somewhere in the VM. */
function group(firstSeq: number, size: number): Group {
  const gfns = Array.from({ length: size }, (_, i) => ((firstSeq + i) * 40_503) % VM_PAGES)
  const vm = {
    id: 'vm-0001',
    name: null,
    host: 'host-1',
    technology: 'sev-snp',
    state: 'running',
    privacy: 'populated',
    conversion: 'explicit',
    vcpus: 4,
    revision: firstSeq,
  }
  return {
    entries: gfns.map((gfn, i) => entry(firstSeq + i, gfn)),
    rows: {
      hosts: new Map(),
      vms: new Map([['vm-0001', vm]]),
      memfiles: new Map(),
      memslots: new Map(),
      windows: [...gfns].sort((a, b) => a - b).map((gfn) => window(gfn, Math.floor(firstSeq / VM_PAGES))),
    },
    replies: [],
    checkpoints: [],
  }
}

/** Durable groups a second, with the next group under way while one is written, as the writer does it. */
async function groupsPerSecond(size: number, count: number): Promise<number> {
  const directory = await mkdtemp(path.join(tmpdir(), 'gmemd-bench-'))
  const store = openStore({ directory })
  try {
    await store.open()
    let seq = 1
    const next = (): Promise<void> => {
      const promise = store.commit(group(seq, size))
      seq += size
      return promise
    }
    await next()
    const start = performance.now()
    const pending: Promise<void>[] = []
    for (let i = 0; i < count; i++) {
      pending.push(next())
      if (pending.length >= PIPELINE) await pending.shift()
    }
    await Promise.all(pending)
    return (count * 1000) / (performance.now() - start)
  } finally {
    await store.close()
    await rm(directory, { recursive: true, force: true })
  }
}

export async function storeBench(): Promise<Figure[]> {
  return [
    { name: 'durable groups of 64 entries and 64 windows', value: await groupsPerSecond(64, 1_000), unit: 'groups/s' },
    { name: 'durable groups of one entry', value: await groupsPerSecond(1, 3_000), unit: 'groups/s' },
  ]
}

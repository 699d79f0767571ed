import { type Changes, mergeWindows } from './changes.ts'
import type { Host } from './host.ts'
import type { HostRow, MemfileRow, MemslotRow, OwnershipRun, Rows, RunWindow, VmRow } from './journal.ts'
import { forEachPageRun, hardwareText } from './ownership.ts'
import { vmState } from './present.ts'
import type { MemfileState, MemslotState, VmState } from './state.ts'

/** The rows that people query, for everything a group of commands changed. */
export function rowsOf(hosts: ReadonlyMap<string, Host>, changes: Changes): Rows {
  const rows = {
    hosts: new Map<string, HostRow | null>(),
    vms: new Map<string, VmRow | null>(),
    memfiles: new Map<string, MemfileRow | null>(),
    memslots: new Map<string, MemslotRow | null>(),
    windows: [] as RunWindow[],
  }
  for (const name of changes.hosts) rows.hosts.set(name, hostRow(hosts.get(name)))
  for (const id of changes.vms) rows.vms.set(id, vmRow(find(hosts, (host) => host.state.vms.get(id))))
  for (const id of changes.memfiles)
    rows.memfiles.set(id, memfileRow(find(hosts, (host) => host.state.memfiles.get(id))))
  for (const key of changes.memslots) rows.memslots.set(key, memslotRow(hosts, key))
  for (const [id, bounds] of changes.pages) {
    const found = find(hosts, (host) => host.state.vms.get(id))
    if (found !== undefined) for (const window of mergeWindows(bounds)) rows.windows.push(runWindow(found, window))
  }
  return rows
}

type Found<T> = { readonly host: Host; readonly value: T } | undefined

function find<T>(hosts: ReadonlyMap<string, Host>, pick: (host: Host) => T | undefined): Found<T> {
  for (const host of hosts.values()) {
    const value = pick(host)
    if (value !== undefined) return { host, value }
  }
  return undefined
}

const hostRow = (host: Host | undefined): HostRow | null =>
  host === undefined
    ? null
    : {
        name: host.state.name,
        technology: host.state.technology,
        memoryBytes: host.state.frames * 4096,
        state: host.state.crashed === null ? 'up' : 'crashed',
        revision: host.state.revision,
      }

const vmRow = (found: Found<VmState>): VmRow | null =>
  found === undefined
    ? null
    : {
        id: found.value.id,
        name: found.value.name,
        host: found.host.state.name,
        technology: found.value.technology,
        state: vmState(found.host, found.value),
        privacy: found.value.privacy,
        conversion: found.value.conversion,
        vcpus: found.value.vcpus.length,
        revision: found.value.revision,
      }

const memfileRow = (found: Found<MemfileState>): MemfileRow | null =>
  found === undefined
    ? null
    : {
        id: found.value.id,
        name: found.value.name,
        host: found.host.state.name,
        vm: found.value.vm?.id ?? null,
        state: found.value.state,
        pages: found.value.pages,
        allocatedPages: found.value.allocated,
        revision: found.value.revision,
      }

function memslotRow(hosts: ReadonlyMap<string, Host>, key: string): MemslotRow | null {
  const [vm = '', id = ''] = key.split('/')
  const slot = find(hosts, (host) => host.state.vms.get(vm)?.slots.find((other) => other.slot === Number(id)))?.value
  return slot === undefined ? null : slotRow(vm, slot)
}

const slotRow = (vm: string, slot: MemslotState): MemslotRow => ({
  vm,
  slot: slot.slot,
  firstGfn: slot.firstGfn,
  pages: slot.pages,
  memfile: slot.memfile,
  memfileFirstPage: slot.memfileFirstPage,
  sharedHvaFrame: slot.hva,
  readOnly: slot.readOnly,
  dirtyLog: slot.dirtyLog,
  revision: slot.revision,
})

function runWindow(found: NonNullable<Found<VmState>>, { start, end }: { start: number; end: number }): RunWindow {
  const runs: OwnershipRun[] = []
  forEachPageRun(found.host, found.value, start, end, (run) => {
    if (run.owner === 'none' && run.visibility === 'shared') return
    const hardware = hardwareText(run.hardware)
    const last = runs.at(-1)
    const joins =
      last !== undefined &&
      last.start + last.count === run.start &&
      last.owner === run.owner &&
      last.visibility === run.visibility &&
      last.hardware === hardware
    if (joins) runs[runs.length - 1] = { ...last, count: last.count + run.count }
    else runs.push({ start: run.start, count: run.count, owner: run.owner, visibility: run.visibility, hardware })
  })
  return { vm: found.value.id, start, end, runs }
}

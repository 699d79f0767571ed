import type Database from 'better-sqlite3'
import type { HostRow, MemfileRow, MemslotRow, Rows, VmRow } from '../domain/journal.ts'
import { NO_RUNS, PageRuns, type RunSum } from './runs.ts'
import type { TableSums } from './sums.ts'
import { RowTable, type SqlValue } from './table.ts'

type PendingVm = { row: SqlValue[]; readonly sum: RunSum }

const hostValues = (row: HostRow): SqlValue[] => [row.name, row.technology, row.memoryBytes, row.state, row.revision]

const vmValues = (row: VmRow): SqlValue[] => [
  row.id,
  row.name,
  row.host,
  row.technology,
  row.state,
  row.privacy,
  row.conversion,
  row.vcpus,
  row.revision,
]

const memfileValues = (row: MemfileRow): SqlValue[] => [
  row.id,
  row.name,
  row.host,
  row.vm,
  row.state,
  row.pages,
  row.allocatedPages,
  row.revision,
]

const memslotValues = (row: MemslotRow): SqlValue[] => [
  row.vm,
  row.slot,
  row.firstGfn,
  row.pages,
  row.memfile,
  row.memfileFirstPage,
  row.sharedHvaFrame,
  Number(row.readOnly),
  Number(row.dirtyLog),
  row.revision,
]

const VM_COLUMNS = ['name', 'host', 'technology', 'state', 'privacy', 'conversion', 'vcpus', 'revision']

/** The rows that people query: hosts, VMs, memfiles, memslots and page runs. */
export class RowStore {
  readonly #hosts: RowTable
  readonly #vms: RowTable
  readonly #memfiles: RowTable
  readonly #memslots: RowTable
  readonly #runs: PageRuns
  readonly #vm: Database.Statement<[string], SqlValue[]>
  readonly #slotsOf: Database.Statement<[string], number>

  constructor(db: Database.Database, sums: TableSums) {
    this.#hosts = new RowTable(db, sums, {
      name: 'hosts',
      key: ['name'],
      columns: ['technology', 'memory_bytes', 'state', 'revision'],
    })
    this.#vms = new RowTable(db, sums, { name: 'vms', key: ['id'], columns: [...VM_COLUMNS, 'runs', 'runs_checksum'] })
    this.#memfiles = new RowTable(db, sums, {
      name: 'memfiles',
      key: ['id'],
      columns: ['name', 'host', 'vm', 'state', 'pages', 'allocated_pages', 'revision'],
    })
    this.#memslots = new RowTable(db, sums, {
      name: 'memslots',
      key: ['vm', 'slot'],
      columns: [
        'first_gfn',
        'pages',
        'memfile',
        'memfile_first_page',
        'shared_hva_frame',
        'read_only',
        'dirty_log',
        'revision',
      ],
    })
    this.#runs = new PageRuns(db)
    this.#vm = db
      .prepare<[string], SqlValue[]>(`SELECT id, ${VM_COLUMNS.join(', ')}, runs, runs_checksum FROM vms WHERE id = ?`)
      .raw()
    this.#slotsOf = db.prepare<[string], number>('SELECT slot FROM memslots WHERE vm = ?').pluck()
  }

  apply(rows: Rows): void {
    for (const [name, row] of rows.hosts) row === null ? this.#hosts.remove(name) : this.#hosts.put(hostValues(row))
    for (const [id, row] of rows.memfiles) {
      row === null ? this.#memfiles.remove(id) : this.#memfiles.put(memfileValues(row))
    }
    // A VM's row is written once a group, after its windows, whose sums it carries.
    const pending = new Map<string, PendingVm>()
    for (const [id, row] of rows.vms) {
      if (row === null) this.#deleteVm(id)
      else pending.set(id, { row: vmValues(row), sum: this.#load(id)?.sum ?? { ...NO_RUNS } })
    }
    for (const window of rows.windows) {
      if (rows.vms.get(window.vm) === null) continue
      const vm = pending.get(window.vm) ?? this.#load(window.vm)
      if (vm === undefined) throw new RangeError(`a window names VM ${window.vm}, which has no row`)
      pending.set(window.vm, vm)
      this.#runs.apply(window, vm.sum)
    }
    for (const { row, sum } of pending.values()) this.#vms.put([...row, sum.runs, sum.checksum])
    for (const [key, row] of rows.memslots)
      row === null ? this.#removeSlot(key) : this.#memslots.put(memslotValues(row))
  }

  /** Forgets what is kept in memory: after a transaction was rolled back. */
  forget(): void {
    this.#runs.forget()
  }

  verify(): void {
    const sums = new Map<string, RunSum>()
    this.#hosts.verify()
    this.#vms.verify((row) => sums.set(String(row[0]), { runs: Number(row.at(-2)), checksum: Number(row.at(-1)) }))
    this.#memfiles.verify()
    this.#memslots.verify()
    this.#runs.verify(sums)
  }

  #load(id: string): PendingVm | undefined {
    const row = this.#vm.get(id)
    if (row === undefined) return undefined
    const checksum = Number(row.pop())
    const runs = Number(row.pop())
    return { row, sum: { runs, checksum } }
  }

  #deleteVm(id: string): void {
    for (const slot of this.#slotsOf.all(id)) this.#memslots.remove(id, slot)
    this.#runs.deleteVm(id)
    this.#vms.remove(id)
  }

  #removeSlot(key: string): void {
    const slash = key.lastIndexOf('/')
    this.#memslots.remove(key.slice(0, slash), Number(key.slice(slash + 1)))
  }
}

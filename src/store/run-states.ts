import type Database from 'better-sqlite3'
import { checksum } from './checksum.ts'
import { damaged } from './errors.ts'
import type { RunState } from './run-index.ts'

/** States kept in memory; beyond them all are forgotten, and found again in the table. */
const STATES_KEPT = 4096

type StateRow = [id: number, owner: string, visibility: string, hardware: string]

/** The states that runs name by number: one row each, however many runs and VMs are in it. */
export class RunStates {
  readonly #byText = new Map<string, RunState[]>()
  readonly #byId = new Map<number, RunState>()
  readonly #find: Database.Statement<[string, string, string], number>
  readonly #insert: Database.Statement<[string, string, string], number>
  readonly #get: Database.Statement<[number], StateRow>

  constructor(db: Database.Database) {
    this.#find = db
      .prepare<[string, string, string], number>(
        'SELECT id FROM page_states WHERE owner = ? AND visibility = ? AND hardware = ?',
      )
      .pluck()
    this.#insert = db
      .prepare<[string, string, string], number>(
        'INSERT INTO page_states (owner, visibility, hardware) VALUES (?, ?, ?) RETURNING id',
      )
      .pluck()
    this.#get = db
      .prepare<[number], StateRow>('SELECT id, owner, visibility, hardware FROM page_states WHERE id = ?')
      .raw()
  }

  /** Forgets what is kept in memory. */
  forget(): void {
    this.#byText.clear()
    this.#byId.clear()
  }

  /** The state of this description, stored now if it is new. */
  of(owner: string, visibility: string, hardware: string): RunState {
    const known = this.#byText.get(hardware)?.find((state) => state.owner === owner && state.visibility === visibility)
    if (known !== undefined) return known
    const id = this.#find.get(owner, visibility, hardware) ?? this.#insert.get(owner, visibility, hardware)
    if (id === undefined) throw new Error('a state was stored without a number')
    return this.#keep([id, owner, visibility, hardware])
  }

  /** The state that a stored run names. */
  byId(id: number): RunState {
    const known = this.#byId.get(id)
    if (known !== undefined) return known
    const row = this.#get.get(id)
    if (row === undefined) throw damaged(`row ${id} of table page_states is missing`)
    return this.#keep(row)
  }

  #keep([id, owner, visibility, hardware]: StateRow): RunState {
    if (this.#byId.size >= STATES_KEPT) this.forget()
    const text = `${owner.length}:${owner} ${visibility.length}:${visibility} ${hardware}`
    const state = { id, owner, visibility, hardware, checksum: checksum(text) }
    this.#byId.set(id, state)
    const alike = this.#byText.get(hardware)
    if (alike === undefined) this.#byText.set(hardware, [state])
    else alike.push(state)
    return state
  }
}

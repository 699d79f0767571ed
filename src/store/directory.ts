import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, rmSync, statSync, writeSync } from 'node:fs'
import path from 'node:path'
import { StorageError } from '../domain/journal.ts'
import { damaged } from './errors.ts'
import { badFrameBeforeCommit } from './wal.ts'

const DATABASE = 'gmemd.db'
const MARKER = 'gmemd.created'
const MARKER_TEXT = 'gmemd.db was created here. While this file stands, gmemd will not start without it.\n'

/** The files of a data directory, and what they tell before SQLite has opened any of them. */
export class DataDirectory {
  readonly path: string
  readonly database: string

  constructor(directory: string) {
    this.path = path.resolve(directory)
    this.database = path.join(this.path, DATABASE)
  }

  /** Makes the directory, for its owner alone, with the parents it lacks. */
  prepare(): void {
    makeDirectory(this.path)
    if (!statSync(this.path).isDirectory()) throw new StorageError('unusable', `${this.path} is not a directory.`)
  }

  /**
   * Whether there is a database to read. A database that ought to be there and is not must never be replaced by an
   * empty one: the marker, or what SQLite keeps beside it, gives its loss away.
   */
  survey(): 'absent' | 'unfinished' | 'present' {
    const size = statSync(this.database, { throwIfNoEntry: false })?.size ?? 0
    const beside = ['-wal', '-journal'].filter((suffix) => this.#bytesOf(suffix) > 0)
    if (size === 0 && (this.marked || beside.includes('-wal'))) {
      const evidence = this.marked ? MARKER : `${DATABASE}-wal`
      throw new StorageError(
        'damaged',
        `${this.database} is missing or empty, but ${evidence} shows that there was a database. Nothing was changed; ` +
          'restore the database, or move the whole directory away to start anew.',
      )
    }
    if (beside.includes('-wal')) {
      const bad = badFrameBeforeCommit(this.wal)
      if (bad !== undefined) throw damaged(`${DATABASE}-wal is bad at frame ${bad}, and later commits follow it`)
    }
    if (size > 0 && beside.includes('-journal') && !this.marked) return 'unfinished'
    return size === 0 ? 'absent' : 'present'
  }

  /** Makes an empty file for the database, for its owner alone; SQLite gives its other files the same mode. */
  create(): void {
    closeSync(openSync(this.database, 'a', 0o600))
  }

  /** Notes, durably, that a database now exists. */
  mark(): void {
    if (this.marked) return
    const file = openSync(this.#marker, 'w', 0o600)
    try {
      writeSync(file, MARKER_TEXT)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    const directory = openSync(this.path, 'r')
    try {
      fsyncSync(directory)
    } finally {
      closeSync(directory)
    }
  }

  /** Runs `read` on the database and, if it fails, takes away the empty files that even a reader makes SQLite create. */
  leavingNoTrace<T>(read: () => T): T {
    const before = ['-wal', '-shm'].filter((suffix) => existsSync(this.database + suffix))
    try {
      return read()
    } catch (error) {
      for (const suffix of ['-wal', '-shm']) {
        if (!before.includes(suffix)) rmSync(this.database + suffix, { force: true })
      }
      throw error
    }
  }

  /** Whether a database was once finished here. */
  get marked(): boolean {
    return existsSync(this.#marker)
  }

  get wal(): string {
    return `${this.database}-wal`
  }

  get #marker(): string {
    return path.join(this.path, MARKER)
  }

  #bytesOf(suffix: string): number {
    return statSync(this.database + suffix, { throwIfNoEntry: false })?.size ?? 0
  }
}

/** Node's own recursive mkdir never returns where a parent can neither be made nor be found, as below /proc. */
function makeDirectory(directory: string): void {
  if (existsSync(directory)) return
  const parent = path.dirname(directory)
  if (parent !== directory) makeDirectory(parent)
  mkdirSync(directory, { mode: 0o700 })
}

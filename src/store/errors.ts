import { StorageError } from '../domain/journal.ts'

type Code = StorageError['code']

const bySqliteCode: readonly (readonly [prefix: string, code: Code, what: string])[] = [
  ['SQLITE_FULL', 'full', 'there is no space left'],
  ['SQLITE_IOERR', 'io', 'the disk failed'],
  ['SQLITE_CORRUPT', 'damaged', 'the database is damaged'],
  ['SQLITE_NOTADB', 'damaged', 'the database is damaged'],
  ['SQLITE_READONLY', 'unusable', 'the database cannot be written'],
  ['SQLITE_CANTOPEN', 'unusable', 'the database cannot be opened'],
  ['SQLITE_PERM', 'unusable', 'the database cannot be opened'],
  ['SQLITE_AUTH', 'unusable', 'the database cannot be opened'],
  ['SQLITE_BUSY', 'locked', 'another process is writing to the database'],
  ['SQLITE_LOCKED', 'locked', 'another process is writing to the database'],
]

const byErrno: ReadonlyMap<string, readonly [code: Code, what: string]> = new Map([
  ['ENOSPC', ['full', 'there is no space left']],
  ['EDQUOT', ['full', 'the disk quota is used up']],
  ['EIO', ['io', 'the disk failed']],
  ['EACCES', ['unusable', 'permission is denied']],
  ['EPERM', ['unusable', 'permission is denied']],
  ['EROFS', ['unusable', 'the file system is read-only']],
  ['ENOTDIR', ['unusable', 'it is not a directory']],
  ['EEXIST', ['unusable', 'it is not a directory']],
  ['EISDIR', ['unusable', 'it is a directory']],
  ['ENOENT', ['unusable', 'it does not exist']],
  ['ELOOP', ['unusable', 'its symbolic links run in a circle']],
  ['ENAMETOOLONG', ['unusable', 'its name is too long']],
])

export const damaged = (detail: string): StorageError =>
  new StorageError('damaged', `The database is damaged: ${detail}. Nothing was changed.`)

/** What went wrong, as the port names it. An error nobody foresaw leaves the outcome unknown, like a failed disk. */
export function toStorageError(error: unknown, place: string): StorageError {
  if (error instanceof StorageError) return error
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const text = error instanceof Error ? error.message : String(error)
  const [, sqliteCode, sqliteWhat] = bySqliteCode.find(([prefix]) => code.startsWith(prefix)) ?? []
  const [errnoCode, errnoWhat] = byErrno.get(code) ?? []
  const what = sqliteWhat ?? errnoWhat ?? 'something unexpected went wrong'
  return new StorageError(
    sqliteCode ?? errnoCode ?? 'io',
    `${place}: ${what} (${code === '' ? '' : `${code}: `}${text}).`,
    {
      cause: error,
    },
  )
}

// Opens the store in the directory given and commits sample groups, from where it stands up to the number given. Prints
// what became of each at once, so that a reader knows what was acknowledged. After a failure it shows that nothing more
// is taken, reopens, and goes on.
import { writeSync } from 'node:fs'
import { StorageError } from '../../../src/domain/journal.ts'
import { StoreDatabase } from '../../../src/store/database.ts'
import { ENTRIES, sampleGroup } from '../support.ts'

const say = (line: string): void => {
  writeSync(1, `${line}\n`)
}

const [directory = '', count = '0'] = process.argv.slice(2)
const store = new StoreDatabase({ directory })

function attempt(what: string, work: () => void): boolean {
  try {
    work()
    say(`${what} done`)
    return true
  } catch (error) {
    say(`${what} failed ${error instanceof StorageError ? error.code : String(error)}`)
    return false
  }
}

let next = 0
attempt('open', () => {
  next = store.open().lastSeq / ENTRIES
})
for (let failures = 0; next < Number(count) && failures < 3; ) {
  if (attempt(`commit ${next}`, () => store.commit(sampleGroup(next)))) {
    next += 1
    // Far more often than the store would, so that short runs have many.
    attempt('maintain', () => store.maintain())
    continue
  }
  attempt(`again ${next}`, () => store.commit(sampleGroup(next)))
  failures += 1
  const opened = attempt('reopen', () => {
    next = store.reopen().lastSeq / ENTRIES
  })
  if (opened) say(`have ${next}`)
}
attempt('close', () => store.close())

// Opens the store in the directory given, commits sample groups up to the number given, and kills itself, so that the
// write-ahead log stays as it is.
import { StoreDatabase } from '../../../src/store/database.ts'
import { ENTRIES, sampleGroup } from '../support.ts'

const [directory = '', count = '0'] = process.argv.slice(2)
const store = new StoreDatabase({ directory })
for (let n = store.open().lastSeq / ENTRIES; n < Number(count); n++) store.commit(sampleGroup(n))
process.kill(process.pid, 'SIGKILL')

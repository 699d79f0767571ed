// Opens the store in the directory given, commits one group, says so, and waits to be killed.
import { openStore } from '../../../src/store/store.ts'
import { sampleGroup } from '../support.ts'

const store = openStore({ directory: process.argv[2] ?? '' })
await store.open()
await store.commit(sampleGroup(0))
process.stdout.write('holding\n')
process.stdin.resume()

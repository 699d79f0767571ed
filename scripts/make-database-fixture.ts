// Writes test/fixtures/database-v1 anew. Needed only when a release brings a new schema: each released version keeps
// the fixture that its own program made.
import { mkdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { StoreDatabase } from '../src/store/database.ts'
import { sampleGroup } from '../test/store/support.ts'

const GROUPS = 12
const directory = path.join(import.meta.dirname, '../test/fixtures/database-v1')

rmSync(directory, { recursive: true, force: true })
mkdirSync(directory, { recursive: true })
const store = new StoreDatabase({ directory })
store.open()
for (let n = 0; n < GROUPS; n++) store.commit(sampleGroup(n))
store.close()
rmSync(path.join(directory, 'gmemd.lock'))

import Type from 'typebox'
import type { JournalEntry } from '../domain/journal.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { parseNumberPage } from './listing.ts'
import { whenServing } from './reading.ts'
import { Entry, presentEntry } from './schemas/journal-entry.ts'
import { closed } from './schemas/output.ts'
import { listOf, pageOf, pageQuery } from './schemas/pagination.ts'
import { DecimalText, parseDecimal } from './schemas/query.ts'

const JournalQuery = closed({
  ...pageQuery,
  vm: Type.Optional(Type.String({ minLength: 1 })),
  host: Type.Optional(Type.String({ minLength: 1 })),
  after: Type.Optional(DecimalText),
})

/** The durable order of everything that happened. */
export function journalRoutes(app: Routes, { engine }: Api): void {
  app.get(
    '/v1/journal',
    {
      schema: {
        operationId: 'listJournal',
        tags: ['journal'],
        summary: 'List journal entries',
        querystring: JournalQuery,
        response: { 200: listOf(Entry, 'Entries in order of their sequence numbers.') },
      },
    },
    async ({ query: { vm, host, after = '0', ...page } }) => {
      const { limit, after: cursor } = parseNumberPage(page)
      const from = Math.max(cursor, unwrap(parseDecimal(after, '/after'), 'query'))
      const only = { ...(vm === undefined ? {} : { vm }), ...(host === undefined ? {} : { host }) }
      await whenServing(engine)
      const found = await engine.journal({ ...only, after: from, limit: limit + 1 })
      const { items, nextCursor } = pageOf(found, limit, keyOf)
      return { items: items.map(presentEntry), nextCursor }
    },
  )
}

const keyOf = ({ seq }: JournalEntry): string => String(seq)

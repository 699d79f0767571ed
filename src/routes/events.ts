import Type from 'typebox'
import type { Engine } from '../domain/engine.ts'
import type { Api, Routes } from './api.ts'
import { ServiceError, unwrap } from './errors.ts'
import { type EventFilter, EventStream } from './event-stream.ts'
import { EVENT_STREAMS } from './limits.ts'
import { whenServing } from './reading.ts'
import { closed } from './schemas/output.ts'
import { problems } from './schemas/problem.ts'
import { DecimalText, parseDecimal } from './schemas/query.ts'

const EventQuery = closed({
  vm: Type.Optional(Type.String({ minLength: 1 })),
  host: Type.Optional(Type.String({ minLength: 1 })),
  after: Type.Optional(DecimalText),
})
const EventHeaders = Type.Object({ 'last-event-id': Type.Optional(DecimalText) })

const example =
  'id: 42\nevent: page-states\ndata: {"seq":42,"host":"sev-snp","vm":"vm-9","type":"page-states",' +
  '"gpa":"0x100000","length":4096,"command":{},"outcome":{"completed":1,"exits":1,"statuses":["SUCCESS",1]}}\n\n'

/** The journal as it grows. */
export function eventRoutes(app: Routes, { engine }: Api): void {
  const open = new Set<EventStream>()
  // Before the server waits for its connections to end: these never would.
  app.addHook('preClose', (done) => {
    for (const stream of open) stream.finish()
    done()
  })

  app.get(
    '/v1/events',
    {
      schema: {
        operationId: 'streamEvents',
        tags: ['journal'],
        summary: 'Follow the journal as server-sent events',
        description:
          'Goes on after `Last-Event-ID`, or after `after`; with neither, from now. A reader that does not keep up is ' +
          'sent the event `gap` and disconnected; it goes on from its last event when it comes back.',
        querystring: EventQuery,
        headers: EventHeaders,
        response: {
          200: {
            description: 'One event for each journal entry: its `seq` as id, its type as event.',
            content: { 'text/event-stream': { schema: Type.String({ examples: [example] }) } },
          },
          ...problems(503),
        },
      },
    },
    async (request, reply) => {
      const { after, ...filter } = request.query
      await whenServing(engine)
      const stream = openStream(engine, filter, request.headers['last-event-id'] ?? after, open)
      return reply.type('text/event-stream; charset=utf-8').header('x-accel-buffering', 'no').send(stream)
    },
  )
}

function openStream(engine: Engine, filter: EventFilter, after: string | undefined, open: Set<EventStream>) {
  if (open.size >= EVENT_STREAMS)
    throw new ServiceError('not-ready', `${EVENT_STREAMS} event streams are open already.`)
  const bounds = { maximum: engine.durableSeq }
  const position = after === undefined ? undefined : unwrap(parseDecimal(after, '/after', bounds), 'query')
  const stream = new EventStream(engine, filter, position)
  open.add(stream)
  return stream.once('close', () => open.delete(stream))
}

import { isUtf8 } from 'node:buffer'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ServiceError } from '../routes/errors.ts'
import { inspectJson } from './json-inspect.ts'
import { countMembers, countOwnMembers } from './json-scan.ts'
import { validationFailed } from './validation.ts'

const UTF8_JSON = /^application\/json[ \t]*(?:;[ \t]*charset[ \t]*=[ \t]*"?utf-8"?[ \t]*)?;?[ \t]*$/i

/**
 * Parses a JSON body and refuses what JSON.parse would let through silently: repeated and prototype-reaching keys,
 * numbers that would be rounded, lone surrogates, bytes that are not UTF-8, and bodies too deep or too wide.
 * @throws ServiceError with every fault and its JSON pointer.
 */
export function parseJsonBody(body: Buffer): unknown {
  const text = body.toString('utf8')
  if (text.includes('\ufffd') && !isUtf8(body)) throw new ServiceError('malformed-json', 'The body is not valid UTF-8.')
  if (text.charCodeAt(0) === 0xfeff) {
    throw new ServiceError('malformed-json', 'The body begins with a byte order mark; JSON has none.')
  }
  const value = parse(text)
  const spelled = countMembers(text)
  if (spelled < 0 || spelled !== countOwnMembers(value, text.includes('\\u'))) throw faultsOf(text)
  return value
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    // The engine's message may quote the body, which may hold a secret: only the place is repeated.
    const place = cause instanceof SyntaxError ? /at position (\d+)/.exec(cause.message)?.[1] : undefined
    const where = place === undefined ? '' : ` at character ${place}`
    throw new ServiceError('malformed-json', `The body is not valid JSON${where}.`)
  }
}

function faultsOf(text: string): ServiceError {
  const faults = inspectJson(text)
  const first = faults[0]
  if (first === undefined) throw new Error('the JSON scan found a fault that its inspection did not')
  const errors = faults.map(({ pointer, detail }) => ({ in: 'body' as const, pointer, detail }))
  const where = first.pointer === '' ? 'The body' : `"${first.pointer}" in the body`
  return new ServiceError(first.code, `${where} is refused: ${first.detail}.`, { errors })
}

/** Makes strict JSON the only body that routes take; a route that takes another kind registers it in its own scope. */
export function registerJsonBody(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    try {
      refuseUnsupportedEncoding(request)
      const value = body.length === 0 ? undefined : parseJsonBody(body as Buffer)
      if (value === null) throw validationFailed([{ in: 'body', pointer: '', detail: 'must not be null' }])
      done(null, value)
    } catch (error) {
      done(error as Error)
    }
  })
}

function refuseUnsupportedEncoding(request: FastifyRequest): void {
  const type = request.headers['content-type']
  if (type !== 'application/json' && type !== undefined && !UTF8_JSON.test(type)) {
    throw new ServiceError('unsupported-media-type', 'A JSON body is in UTF-8 and takes no other parameter.')
  }
  const encoding = request.headers['content-encoding']
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw new ServiceError('unsupported-media-type', 'A body must come without a content coding.', {
      headers: { 'accept-encoding': 'identity' },
    })
  }
}

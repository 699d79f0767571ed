import Type from 'typebox'
import { invalid, type Result } from '../../domain/refusal.ts'
import { ACCESS_BYTES } from '../limits.ts'

/** Bytes in base64 as they are taken: the standard alphabet with padding. */
export const DataInput = Type.String({
  pattern: '^[A-Za-z0-9+/]*={0,2}$',
  'x-expected': 'bytes in base64 (standard alphabet, padded)',
  examples: ['3q2+7w=='],
})

export const DataOutput = Type.String({ description: 'Bytes in base64.', examples: ['3q2+7w=='] })

/** How many bytes `text` holds. Refused unless it is the one canonical spelling of them. */
export function parseDataLength(text: string, pointer: string, maximum: number): Result<number> {
  if (text.length % 4 !== 0 || Buffer.from(text, 'base64').toString('base64') !== text) {
    return invalid('not-base64', 'The bytes are not in canonical base64 (standard alphabet, padded).', pointer)
  }
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0
  const length = (text.length / 4) * 3 - padding
  if (length <= maximum) return { ok: true, value: length }
  return invalid('data-too-long', `At most ${maximum} bytes go into one request.`, pointer)
}

export const AccessLength = Type.Integer({
  minimum: 1,
  maximum: ACCESS_BYTES,
  description: 'Bytes; that of `data` for a write, 8 otherwise where nothing is said.',
  examples: [8],
})

/** What an access moves: a write brings its bytes, nothing else may. */
export function parseTransfer(
  kind: 'read' | 'write' | 'execute',
  data: string | undefined,
  length: number | undefined,
): Result<{ readonly length: number; readonly data: string | null }> {
  if (kind !== 'write') {
    if (data !== undefined) return invalid('data-without-write', 'Only a write takes data.', '/data')
    return { ok: true, value: { length: length ?? 8, data: null } }
  }
  if (data === undefined || data === '') return invalid('write-without-data', 'A write needs data.', '/data')
  const bytes = parseDataLength(data, '/data', ACCESS_BYTES)
  if (!bytes.ok) return bytes
  if (length === undefined || length === bytes.value) return { ok: true, value: { length: bytes.value, data } }
  return invalid('length-mismatch', `The data has ${bytes.value} bytes.`, '/length')
}

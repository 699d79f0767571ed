import { invalid } from '../domain/refusal.ts'
import { unwrap } from './errors.ts'
import type { Json } from './mutation.ts'
import { pageOf, parsePage } from './schemas/pagination.ts'

/** Ids end in the sequence number that made them, so this is the order of creation. */
const order = new Intl.Collator('en', { numeric: true })

/** One page of things that all fit in memory, in the order of their keys. */
export function listPage<T>(
  all: Iterable<T>,
  query: { readonly limit?: string; readonly cursor?: string },
  keyOf: (item: T) => string,
  present: (item: T) => Json,
): Json {
  const { limit, after } = unwrap(parsePage(query), 'query')
  const found = [...all]
    .filter((item) => after === undefined || order.compare(keyOf(item), after) > 0)
    .sort((a, b) => order.compare(keyOf(a), keyOf(b)))
    .slice(0, limit + 1)
  const { items, nextCursor } = pageOf(found, limit, keyOf)
  return { items: items.map(present), nextCursor }
}

/** The page of a list that is ordered by a number, and goes on at or after it; 0 for the first. */
export function parseNumberPage(
  query: { readonly limit?: string; readonly cursor?: string },
  maximum = Number.MAX_SAFE_INTEGER,
): { readonly limit: number; readonly after: number } {
  const { limit, after = '0' } = unwrap(parsePage(query), 'query')
  const at = /^(?:0|[1-9]\d{0,15})$/.test(after) ? Number(after) : Number.NaN
  if (at <= maximum) return { limit, after: at }
  return unwrap(invalid('invalid-cursor', 'The cursor is not one that this list gave.', '/cursor'), 'query')
}

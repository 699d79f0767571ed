import Type, { type TSchema } from 'typebox'
import { invalid, type Result } from '../../domain/refusal.ts'
import { CURSOR_CHARACTERS, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX } from '../limits.ts'
import { parseDecimal } from './query.ts'

/** Query members of every list. Spread them into the query schema of a list that has filters. */
export const pageQuery = {
  limit: Type.Optional(
    Type.String({
      pattern: '^[1-9][0-9]{0,3}$',
      description: `Items in this page, at most ${PAGE_ITEMS_MAX}.`,
      'x-expected': `a decimal integer from 1 to ${PAGE_ITEMS_MAX}`,
      examples: ['100'],
    }),
  ),
  cursor: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9_-]+$',
      maxLength: CURSOR_CHARACTERS,
      description: 'Where to go on: `nextCursor` of the page before.',
      'x-expected': 'a nextCursor as it was given',
    }),
  ),
} as const

export const PageQuery = Type.Object(pageQuery, { additionalProperties: false })

export type Page = { readonly limit: number; readonly after: string | undefined }

/** The envelope of every list. */
export const listOf = <Item extends TSchema>(item: Item, description: string) =>
  Type.Object(
    { items: Type.Array(item, { maxItems: PAGE_ITEMS_MAX }), nextCursor: Type.Union([Type.String(), Type.Null()]) },
    { description, additionalProperties: false },
  )

/** Which page a query asks for. `after` is the key that the previous page ended with. */
export function parsePage(query: { readonly limit?: string; readonly cursor?: string }): Result<Page> {
  const limit =
    query.limit === undefined
      ? ({ ok: true, value: PAGE_ITEMS_DEFAULT } as const)
      : parseDecimal(query.limit, '/limit', { minimum: 1, maximum: PAGE_ITEMS_MAX })
  if (!limit.ok) return limit
  if (query.cursor === undefined) return { ok: true, value: { limit: limit.value, after: undefined } }
  const after = Buffer.from(query.cursor, 'base64url').toString('utf8')
  if (formatCursor(after) === query.cursor) return { ok: true, value: { limit: limit.value, after } }
  return invalid('invalid-cursor', 'The cursor is not one that this service gave.', '/cursor')
}

/** An opaque cursor that carries the key of the last item. */
export const formatCursor = (lastKey: string): string => Buffer.from(lastKey, 'utf8').toString('base64url')

/**
 * The envelope of one page. `found` holds up to one item more than the page, which tells whether there is a next one.
 */
export function pageOf<Item>(
  found: readonly Item[],
  limit: number,
  keyOf: (item: Item) => string,
): { items: readonly Item[]; nextCursor: string | null } {
  const items = found.slice(0, limit)
  const last = items.at(-1)
  return { items, nextCursor: found.length > limit && last !== undefined ? formatCursor(keyOf(last)) : null }
}

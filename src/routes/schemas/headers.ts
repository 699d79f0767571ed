import Type from 'typebox'
import { IDEMPOTENCY_KEY_CHARACTERS } from '../limits.ts'

// Header names are in lower case, as Node gives them. Other headers are always allowed, so these schemas are open.

const idempotencyKey = Type.Optional(
  Type.String({
    pattern: `^[\\x21-\\x7e]{1,${IDEMPOTENCY_KEY_CHARACTERS}}$`,
    description: 'Makes a retry safe: the same key with the same request has one effect and one reply.',
    'x-expected': `1 to ${IDEMPOTENCY_KEY_CHARACTERS} visible ASCII characters`,
    examples: ['0b1c6d1e-create-vm'],
  }),
)

const ifMatch = Type.Optional(
  Type.String({
    pattern: '^(?:\\*|"[\\x21\\x23-\\x7e]*"(?:[ \\t]*,[ \\t]*"[\\x21\\x23-\\x7e]*")*)$',
    maxLength: 1024,
    description: 'Carry out the change only if the resource still has this ETag.',
    'x-expected': 'a strong entity tag in double quotes, a list of them, or *',
    examples: ['"7"'],
  }),
)

/** Headers of a mutation that creates something. */
export const MutationHeaders = Type.Object({ 'idempotency-key': idempotencyKey })

/** Headers of a mutation of something that carries an ETag. */
export const GuardedMutationHeaders = Type.Object({ 'idempotency-key': idempotencyKey, 'if-match': ifMatch })

/** A strong ETag made from a revision. */
export const formatEtag = (revision: number | string): string => `"${revision}"`

/** Whether an If-Match header lets a change of this revision through. Absent, it always does. */
export function ifMatchHolds(header: string | undefined, revision: number | string): boolean {
  if (header === undefined || header === '*') return true
  return header.split(',').some((tag) => tag.trim() === formatEtag(revision))
}

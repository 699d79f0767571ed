// Writes docs/errors.md from the tables of problem codes.
import { writeFileSync } from 'node:fs'
import { problemTable } from '../src/routes/problem-codes.ts'
import { REFUSAL_CODES } from '../src/routes/refusal-codes.ts'

/** The document that docs/errors.md must be. */
export function errorsDocument(): string {
  const rows = problemTable(REFUSAL_CODES).map(
    ({ code, status, title, meaning }) => `| ${status} | \`${code}\` | ${title} | ${meaning.replaceAll('|', '\\|')} |`,
  )
  return [
    '# Errors',
    '',
    'Every error is an `application/problem+json` document (RFC 9457). Match on `code`: codes are stable, texts are not.',
    'What the emulated hardware or KVM answers to a legal request is an outcome with status 200, and not in this table.',
    '',
    'Written by `node scripts/node24.mjs scripts/errors.ts` from `src/routes/problem-codes.ts` and',
    '`src/routes/refusal-codes.ts`; a test compares them.',
    '',
    '| status | code | title | meaning |',
    '| --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n')
}

if (import.meta.main) {
  writeFileSync(new URL('../docs/errors.md', import.meta.url), errorsDocument())
  console.log('Wrote docs/errors.md.')
}

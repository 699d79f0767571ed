import type { Hardware, Verdict } from '../../contract.ts'
import type { Host } from '../data.ts'
import { launchSource } from './launch.ts'
import { refuse } from './refusal.ts'

type Range = Parameters<NonNullable<Hardware['launchRange']>>[1]

const REFUSALS: Readonly<Record<Range, Verdict>> = {
  'no-slot': refuse('EFAULT', 'no-memslot', 'No memslot holds this address.', '/gpa'),
  'shared-slot': refuse('EPERM', 'memslot-not-private', 'The memslot has no memfile.', '/gpa'),
  'over-slots': refuse('EINVAL', 'range-over-memslots', 'The range is not within one memslot.', '/length'),
}

/** POPULATE_REALM over a range that is not within one private memslot (arm-cca.md 9); the Realm's state comes before it. */
export function launchRange(host: Host, vm: string, range: Range): Verdict {
  const opened = launchSource(host, vm)
  return opened.ok ? REFUSALS[range] : opened
}

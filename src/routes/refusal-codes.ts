import type { RefusalKind } from '../domain/refusal.ts'
import type { RefusalDefinition } from './problem-codes.ts'

type Row = readonly [title: string, meaning: string]

const of = (kinds: readonly RefusalKind[], rows: Readonly<Record<string, Row>>): [string, RefusalDefinition][] =>
  Object.entries(rows).map(([code, [title, meaning]]) => [code, { kinds, title, meaning }])

const INVALID: Readonly<Record<string, Row>> = {
  'misaligned-address': ['The address is inside a page', 'Addresses of memory are multiples of 4 KiB.'],
  'address-beyond-limit': ['The address is beyond what a guest can address', 'Addresses end at 2^52.'],
  'size-out-of-range': ['The size does not fit in 64 bits', 'No system call could carry it.'],
  'out-of-range': ['The number is out of range', 'A number in the path or the query is not within its bounds.'],
  'bad-range': ['The range is empty or beyond 2^52', 'A window of the page map has at least one page.'],
  'invalid-cursor': [
    'The cursor is not one of ours',
    'Cursors are opaque: send `nextCursor` back as it was given, to the same list.',
  ],
  'no-such-call': ['The technology has no such call', '`GET /v1/technologies/{technology}` lists its calls.'],
  'host-of-other-technology': [
    'The host is of another technology',
    '`host` and `technology` name things that do not go together.',
  ],
  'memory-out-of-range': ['The memory of a host is out of bounds', 'From 16 MiB, room for its own tables, to 8 TiB.'],
  'data-without-write': ['Only a write takes data', 'A read or a fetch brings none along.'],
  'write-without-data': ['A write needs data', 'What is to be written comes as base64.'],
  'data-too-long': ['The data is too long', 'What one access or update may carry is bounded.'],
  'not-base64': ['The text is not canonical base64', 'Standard alphabet with padding, and unused bits zero.'],
  'length-mismatch': ['The length is not that of the data', 'Leave the length out, or give the one that the data has.'],
  'length-required': ['Neither length nor data is given', 'An update needs to know how much it measures.'],
  'length-too-large': ['The update is too long', 'Populate and measure in several updates.'],
  'too-many-pages': ['The batch names too many pages', 'Its entries together name at most 2^28 pages.'],
  'gpa-or-hpa': ['One address is needed, and only one', 'An access goes by guest-physical or host-physical address.'],
  'private-shared-address': [
    'The access contradicts its address',
    'The address has the bit that makes an access shared, and `private` says otherwise.',
  ],
  'offset-without-memfile': [
    'The offset says nothing without a memfile',
    '`memfileOffset` is where in the memfile the slot begins.',
  ],
  'ret-or-refuse': ['The answer is given twice', '`refuse` stands for a `ret` of its own.'],
  'no-such-part': ['The form has no such part', 'A file is referred to by the name of a part that is not there.'],
  'unused-part': ['A part of the form is not referred to', 'Nothing that is sent is dropped in silence.'],
}

const NOT_FOUND: Readonly<Record<string, Row>> = {
  'no-such-vm': ['There is no such VM', 'It never was, or it is deleted.'],
  'no-such-host': ['There is no such host', '`GET /v1/hosts` lists them.'],
  'no-such-exit': ['No such exit waits', 'It has been resumed, or it never waited.'],
  'no-such-mapping': ['There is no such mapping', 'It never was, or it is unmapped.'],
  'no-such-pin': ['There is no such pin', 'It never was, or it is dropped.'],
  'no-such-memslot': ['There is no such memslot', 'The VM has no slot of this id.'],
}

const CONFLICT: Readonly<Record<string, Row>> = {
  'host-crashed': ['The host has crashed', 'Nothing runs on it until `POST /v1/hosts/{host}/reboot`.'],
  'host-up': ['The host is up', 'Only a machine that has crashed is put anew.'],
  'host-exists': ['There is a host of this name', 'Names of hosts are unique.'],
  'no-host': ['There is no host to place it on', 'Make one with `POST /v1/hosts`.'],
  'memfile-unbound': ['The memfile is unbound', 'Only bind and delete are legal before a memfile is bound.'],
  'memfile-not-unbound': ['The memfile has been bound', 'A memfile binds once.'],
  'vcpu-waiting': ['The vCPU waits for the VMM', 'It has left the guest with an exit that is to be resumed first.'],
  'vm-not-running': [
    'The guest does not run',
    'A guest executes only after its launch is finished, and not once it is dead.',
  ],
}

const KERNEL: Readonly<Record<string, Row>> = {
  'misaligned-size': ['The size is not a whole number of pages', 'Sizes and offsets of memory are multiples of 4 KiB.'],
  'size-beyond-signed-64-bit': [
    'The size is negative to the kernel',
    'Offsets and lengths are signed 64-bit numbers (loff_t).',
  ],
  'bad-memfile-size': ['A memfile cannot have this size', 'A positive multiple of its page size below 2^63.'],
  'offset-negative': ['The offset is negative to the kernel', 'Offsets are signed 64-bit numbers.'],
  'offset-unaligned': [
    'The offset is inside a page of the memfile',
    "Offsets are multiples of the memfile's page size.",
  ],
  'length-not-positive': ['The length is not positive', 'Zero, or negative as a signed 64-bit number.'],
  'length-zero': ['The length is zero', 'Attributes are set on at least one page.'],
  'range-too-big': ['The range ends beyond 2^63 - 1', 'offset + length overflows a signed 64-bit number.'],
  'range-wraps': ['The range wraps', 'address + length overflows 64 bits.'],
  'range-too-long': ['The range is too long', 'A pin or a mapping covers at most 4 GiB.'],
  'beyond-end': ['The range ends beyond the file', 'fallocate does not extend a memfile.'],
  'out-of-memory': ['The host has no memory left', 'What had been populated before stays, and is in `progress`.'],
  'hardware-refused': [
    'The hardware did not take the pages',
    'What had been populated before stays, and is in `progress`.',
  ],
  'consumer-exists': ['The consumer is registered already', 'Names of consumers are unique in a memfile.'],
  'notifier-flags-conflict': [
    'The flags differ from those of other consumers',
    'Every consumer of a memfile gives the same flags.',
  ],
  'memfile-on-other-host': [
    'The memfile is on another host',
    'It was placed there by `host` or `technology` when it was made.',
  ],
  'memfile-not-this-vm': ['The memfile is not bound to this VM', 'A slot takes memfiles of its own VM alone.'],
  'memfile-offset-unaligned': ['The offset into the memfile is inside a page', 'It is a multiple of 4 KiB.'],
  'memfile-offset-wraps': ['The range of the memfile wraps', 'offset + size overflows 64 bits.'],
  'memfile-range-bound': [
    'Another slot has a part of this file range',
    'A page of a memfile is bound by one slot at a time.',
  ],
  'beyond-memfile': ['The slot ends beyond its memfile', 'offset + size exceeds the file.'],
  'flags-conflict': ['The flags do not go with a memfile', 'No dirty log and no read-only slot over private memory.'],
  'slot-out-of-range': ['The slot id is too large', 'The kernel has a bounded number of slots.'],
  'slot-overlaps': ['The range meets another slot', 'Guest-physical ranges of slots do not overlap.'],
  'slot-exists': ['The slot exists', 'A slot with a memfile is not set again, not even to what it is.'],
  'slot-too-large': ['The slot is too large', 'A slot has at most 2^31 - 1 pages.'],
  'no-such-slot': ['There is no slot to delete', 'Size 0 deletes a slot that exists.'],
  'size-unaligned': ['The size is inside a page', 'The size of a slot is a multiple of 4 KiB.'],
  'size-changed': ['A slot keeps its size', 'Delete it and set it anew.'],
  'gpa-wraps': ['The guest-physical range wraps', 'gpa + size overflows 64 bits.'],
  'hva-unaligned': ['The user address is inside a page', 'It is a multiple of 4 KiB.'],
  'hva-not-user': ['The range is not user address space', 'User addresses are below 2^47.'],
  'hva-changed': ['A slot keeps its user address', 'Delete it and set it anew.'],
  'memfile-toggled': ['A slot keeps its memfile', 'It neither gains nor loses one while it exists.'],
  'read-only-toggled': ['A slot stays read-only or writable', 'Delete it and set it anew.'],
  'no-memory-attributes': ['The VM has no memory attributes', 'Its privacy model is "populated".'],
  'memory-not-mappable': [
    'The memory cannot be mapped by the host',
    'Private memory of this technology has no user mapping.',
  ],
  'not-shared-memory': ['No shared memory is mapped there', 'The whole range needs a slot with a shared part.'],
  'launch-range': [
    'The range of the update is not whole pages',
    'gpa and length are multiples of 4 KiB, within 2^52, and not empty.',
  ],
  'launch-needs-memfile': ['No memslot with a memfile is there', 'Measured population fills private memory.'],
  'launch-page-refused': ['The page could not be populated', "The technology's own ioctl answers with this errno."],
  'no-image-launch': ['The technology launches no firmware image', 'Populate it step by step.'],
}

/**
 * The refusal codes of the domain, the routes and the shared parsers. A backend's own codes get the title of their
 * kind, and are explained where the backend is. Some codes are malformed in one place and refused in another.
 */
export const REFUSAL_CODES: Readonly<Record<string, RefusalDefinition>> = Object.fromEntries([
  ...of(['invalid'], INVALID),
  ...of(['not-found'], NOT_FOUND),
  ...of(['conflict'], CONFLICT),
  ...of(['kernel'], KERNEL),
  ...of(['invalid', 'kernel'], {
    'gpa-unaligned': ['The guest-physical address is inside a page', 'It is a multiple of 4 KiB.'],
    'gpa-beyond-limit': ['The range ends beyond what a guest can address', 'Guest-physical addresses end at 2^52.'],
    'length-unaligned': ['The length is not whole pages', 'It is a positive multiple of the page size.'],
  }),
  ...of(['invalid', 'not-found'], {
    'no-such-technology': ['There is no such technology', '`GET /v1/technologies` lists them.'],
    'no-such-vcpu': ['The VM has no such vCPU', 'vCPUs count from 0.'],
  }),
  ...of(['not-found', 'kernel'], {
    'no-such-memfile': [
      'There is no such memfile',
      'In a memslot it is what the kernel calls a bad file descriptor (EBADF).',
    ],
  }),
])

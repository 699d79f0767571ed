import { type Accepted, type Applied, accepted, appliedFrom, refused } from './applied.ts'
import type { CommandOf } from './commands.ts'
import { type HostContext, touchVm } from './context.ts'
import { fallocate, punchHole } from './file-operations.ts'
import {
  bindMemfile,
  createMemfile,
  deleteMemfile,
  registerConsumer,
  requireBoundOnce,
  touchMemfile,
} from './memfiles.ts'
import { presentMemfile } from './present.ts'
import { conflict, notFound, type Result } from './refusal.ts'
import type { MemfileState } from './state.ts'

const shown = (host: HostContext, memfile: MemfileState, more: Record<string, unknown> = {}): Accepted => {
  return accepted({ ...presentMemfile(host, memfile), ...more }, memfile.vm)
}

function find(host: HostContext, id: string): Result<MemfileState> {
  const memfile = host.state.memfiles.get(id)
  return memfile === undefined ? notFound('memfile', id) : { ok: true, value: memfile }
}

export function createMemfileCommand(host: HostContext, command: CommandOf<'memfile.create'>): Applied {
  const id = `memfile-${host.seq}`
  const { name, span, placed } = command
  const made = createMemfile(host, { id, name, size: BigInt(command.size), span, placed })
  return appliedFrom(made, (memfile) => shown(host, memfile))
}

export function bindMemfileCommand(host: HostContext, command: CommandOf<'memfile.bind'>): Applied {
  const vm = host.state.vms.get(command.vm)
  if (vm === undefined) return appliedFrom(notFound('vm', command.vm), () => accepted({}, null))
  const { adopt } = command
  const found =
    adopt === null
      ? find(host, command.memfile)
      : createMemfile(host, { ...adopt, id: command.memfile, size: BigInt(adopt.size), placed: true })
  if (!found.ok) return refused(found.refusal)
  const bound = bindMemfile(host, found.value, vm)
  if (bound.ok) touchVm(host, vm)
  return appliedFrom(bound, (memfile) => shown(host, memfile))
}

export function leaveMemfileCommand(host: HostContext, command: CommandOf<'memfile.leave'>): Applied {
  host.state.memfiles.delete(command.memfile)
  return accepted({}, null)
}

export function consumeMemfileCommand(host: HostContext, command: CommandOf<'memfile.consume'>): Applied {
  const memfile = find(host, command.memfile)
  if (!memfile.ok) return refused(memfile.refusal)
  if (memfile.value.state === 'unbound') {
    const states = { currentState: 'unbound', allowedStates: ['bound', 'released'] }
    return appliedFrom(
      conflict('memfile-unbound', 'Only bind and delete are legal on an unbound memfile.', states),
      () => accepted({}, null),
    )
  }
  const registered = registerConsumer(memfile.value, command.name, command.flags)
  if (registered.ok) touchMemfile(host, memfile.value)
  return appliedFrom(registered, () => shown(host, memfile.value))
}

export function fileRangeCommand(
  host: HostContext,
  command: CommandOf<'memfile.fallocate'> | CommandOf<'memfile.punch-hole'>,
): Applied {
  const memfile = find(host, command.memfile)
  if (!memfile.ok) return refused(memfile.refusal)
  const ready = requireBoundOnce(memfile.value)
  if (!ready.ok) return refused(ready.refusal)
  const range = { offset: BigInt(command.offset), length: BigInt(command.length) }
  const operation = command.type === 'memfile.fallocate' ? fallocate : punchHole
  const done = operation(host, memfile.value, range)
  if (done.ok) {
    touchMemfile(host, memfile.value)
    if (memfile.value.vm !== null) touchVm(host, memfile.value.vm)
  }
  return appliedFrom(done, ({ value, partial }) => ({
    ...shown(host, memfile.value, value),
    ...guestFrames(memfile.value, range),
    ...(partial === undefined ? {} : { partial }),
  }))
}

/** The guest frames that slots show of a file range. */
function guestFrames(memfile: MemfileState, range: { offset: bigint; length: bigint }) {
  const first = Number(range.offset / 4096n)
  const end = first + Number(range.length / 4096n)
  let firstGfn: number | null = null
  let endGfn: number | null = null
  for (const binding of memfile.bindings) {
    const from = Math.max(first, binding.firstPage)
    const to = Math.min(end, binding.firstPage + binding.pages)
    if (from >= to) continue
    firstGfn = Math.min(firstGfn ?? Number.POSITIVE_INFINITY, binding.firstGfn + from - binding.firstPage)
    endGfn = Math.max(endGfn ?? 0, binding.firstGfn + to - binding.firstPage)
  }
  return { firstGfn, endGfn }
}

export function deleteMemfileCommand(host: HostContext, command: CommandOf<'memfile.delete'>): Applied {
  const memfile = find(host, command.memfile)
  if (!memfile.ok) return refused(memfile.refusal)
  const applied = shown(host, memfile.value)
  deleteMemfile(host, memfile.value)
  return applied
}

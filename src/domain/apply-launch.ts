import { addressOf } from '../hw/shared/address-schema.ts'
import { type Accepted, type Applied, accepted, acceptedFrames, appliedFrom, refused } from './applied.ts'
import type { CommandOf } from './commands.ts'
import { fromHardware, type HostContext, touchVm } from './context.ts'
import { checkRange, pageOf, populateMeasured, sharedSource } from './launch.ts'
import { launchImage } from './launch-image.ts'
import { kernelRefusal } from './refusal.ts'
import type { VmState } from './state.ts'

const log = (host: HostContext, vm: VmState) => {
  const { state, digest } = host.hardware.launchLog(vm.id)
  return { state, digest }
}

export function launchUpdateCommand(host: HostContext, vm: VmState, command: CommandOf<'launch.update'>): Applied {
  const gpa = BigInt(command.gpa)
  const length = BigInt(command.length)
  if (gpa % 4096n !== 0n || length % 4096n !== 0n || length === 0n || gpa + length > 2n ** 52n) {
    const pointer = gpa % 4096n === 0n ? '/length' : '/gpa'
    const detail = 'gpa and length must be multiples of 4096, the length not 0, the end within 2^52.'
    return appliedFrom(kernelRefusal('EINVAL', 'launch-range', detail, pointer), () => accepted({}, vm))
  }
  const gfn = Number(gpa / 4096n)
  const pages = Number(length / 4096n)
  const range = checkRange(host, vm, gfn, pages)
  if (!range.ok) return refused(range.refusal)
  const bytes = command.data === null ? undefined : Buffer.from(command.data, 'base64')
  const source = bytes === undefined ? sharedSource(host, vm, gfn) : (page: number) => pageOf(bytes, page)
  const done = populateMeasured(host, vm, gfn, pages, source, command.options)
  if (done.ok) touchVm(host, vm)
  return appliedFrom(done, ({ pages: went, stopped }): Accepted => {
    const value = {
      ...log(host, vm),
      completed: went * 4096,
      next: went < pages ? { gpa: addressOf(gfn + went), length: (pages - went) * 4096 } : null,
      ...(stopped === undefined ? {} : { stopped }),
    }
    const applied = acceptedFrames(value, vm, gfn, gfn + pages)
    return went === 0 && stopped !== undefined ? { ...applied, partial: stopped } : applied
  })
}

export function launchFinishCommand(host: HostContext, vm: VmState, command: CommandOf<'launch.finish'>): Applied {
  const verdict = host.hardware.launchFinish(vm.id, command.options)
  if (!verdict.ok && verdict.refusal.effects === undefined) return refused(fromHardware(verdict.refusal))
  touchVm(host, vm)
  const applied = accepted(log(host, vm), vm)
  return verdict.ok ? applied : { ...applied, partial: fromHardware(verdict.refusal) }
}

export function launchImageCommand(host: HostContext, vm: VmState, command: CommandOf<'launch.image'>): Applied {
  const launched = launchImage(host, vm, command.attachment, command.options, command.finish)
  if (launched.ok) touchVm(host, vm)
  return appliedFrom(launched, ({ pages, memory, stopped }): Accepted => {
    const made = memory.map(({ firstGfn, pages: size, ...rest }) => ({
      ...rest,
      gpa: addressOf(firstGfn),
      size: size * 4096,
    }))
    const value = { ...log(host, vm), completed: pages * 4096, memory: made }
    return { ...accepted(value, vm), ...(stopped === undefined ? {} : { partial: stopped }) }
  })
}

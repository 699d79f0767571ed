import { type Applied, accepted, appliedFrom } from './applied.ts'
import { accessCommand, callCommand, hostAccessCommand, pageStatesCommand, resumeCommand } from './apply-guest.ts'
import { launchFinishCommand, launchImageCommand, launchUpdateCommand } from './apply-launch.ts'
import {
  bindMemfileCommand,
  consumeMemfileCommand,
  createMemfileCommand,
  deleteMemfileCommand,
  fileRangeCommand,
  leaveMemfileCommand,
} from './apply-memfile.ts'
import {
  createMappingCommand,
  createPinCommand,
  createVmCommand,
  deleteMappingCommand,
  deletePinCommand,
  deleteSlotCommand,
  deleteVmCommand,
  setAttributesCommand,
  setSlotCommand,
} from './apply-vm.ts'
import type { Command, CommandOf } from './commands.ts'
import type { HostContext } from './context.ts'
import { notFound } from './refusal.ts'

/** Commands on the host as such; `host.create` and `host.reboot` make a new one instead. */
export type HostCommand = Exclude<Command, CommandOf<'host.create' | 'host.reboot'>>
type VmCommand = Exclude<Extract<HostCommand, { readonly vm: string }>, CommandOf<'memfile.bind'>>

/** Applies one command to a host. A refused command has changed nothing. */
export function applyCommand(host: HostContext, command: HostCommand): Applied {
  switch (command.type) {
    case 'vm.create':
      return createVmCommand(host, command)
    case 'memfile.create':
      return createMemfileCommand(host, command)
    case 'memfile.bind':
      return bindMemfileCommand(host, command)
    case 'memfile.leave':
      return leaveMemfileCommand(host, command)
    case 'memfile.consume':
      return consumeMemfileCommand(host, command)
    case 'memfile.fallocate':
    case 'memfile.punch-hole':
      return fileRangeCommand(host, command)
    case 'memfile.delete':
      return deleteMemfileCommand(host, command)
    default:
      return applyVmCommand(host, command)
  }
}

function applyVmCommand(host: HostContext, command: VmCommand): Applied {
  const vm = host.state.vms.get(command.vm)
  if (vm === undefined) return appliedFrom(notFound('vm', command.vm), () => accepted({}, null))
  switch (command.type) {
    case 'page-states':
      return pageStatesCommand(host, vm, command)
    case 'access':
      return accessCommand(host, vm, command)
    case 'host-access':
      return hostAccessCommand(host, vm, command)
    case 'call':
      return callCommand(host, vm, command)
    case 'exit.resume':
      return resumeCommand(host, vm, command)
    case 'memslot.set':
      return setSlotCommand(host, vm, command)
    case 'memslot.delete':
      return deleteSlotCommand(host, vm, command)
    case 'attributes.set':
      return setAttributesCommand(host, vm, command)
    case 'mapping.create':
      return createMappingCommand(host, vm, command)
    case 'mapping.delete':
      return deleteMappingCommand(host, vm, command)
    case 'pin.create':
      return createPinCommand(host, vm, command)
    case 'pin.delete':
      return deletePinCommand(host, vm, command)
    case 'launch.update':
      return launchUpdateCommand(host, vm, command)
    case 'launch.finish':
      return launchFinishCommand(host, vm, command)
    case 'launch.image':
      return launchImageCommand(host, vm, command)
    case 'vm.delete':
      return deleteVmCommand(host, vm)
  }
}

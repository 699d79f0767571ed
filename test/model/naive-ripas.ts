import type { HostCommand } from '../../src/domain/apply.ts'
import type { CommandOf } from '../../src/domain/commands.ts'
import type { NaiveHost } from './naive-host.ts'
import { PAGE, type StateSet, type Vm } from './naive-state.ts'

/** What arm-cca.md 4.1 and 7 make of a Realm's pages, one at a time. */

export const RSI = { SUCCESS: 0, REJECT: 1, NO_PROGRESS: -1, PENDING: -1 } as const
/** REC_ENTER of a vCPU that nobody has switched on. */
export const PARKED = 3

/** RTT_SET_RIPAS of one page: DESTROYED only where the guest said so. KVM takes back what is EMPTY. */
function setRipas(model: NaiveHost, vm: Vm, gfn: number, ram: boolean, changeDestroyed: boolean): boolean {
  if (vm.ripas.get(gfn) === 'DESTROYED' && !changeDestroyed) return false
  if (ram) vm.ripas.set(gfn, 'RAM')
  else {
    vm.ripas.delete(gfn)
    model.unmap(vm, gfn)
  }
  return true
}

/** The guest's whole request, with CHANGE_DESTROYED. Says what it is told. */
export function changeRange(model: NaiveHost, vm: Vm, gfn: number, pages: number, ram: boolean, ret: number): number {
  if (ret !== 0) return ram ? RSI.REJECT : RSI.NO_PROGRESS
  for (let at = gfn; at < gfn + pages; at++) setRipas(model, vm, at, ram, true)
  return RSI.SUCCESS
}

/** One RSI_IPA_STATE_SET after the VMM's answer: how far it came, and whether that was refused. */
export function finishStateSet(model: NaiveHost, vm: Vm, { base, top, ram, changeDestroyed }: StateSet, ret: number) {
  let at = base
  while (ret === 0 && at < top && setRipas(model, vm, at, ram, changeDestroyed)) at++
  const x1 = `0x${(at * PAGE).toString(16)}`
  return { code: RSI.SUCCESS, x1, response: ret !== 0 && ram ? 'REJECT' : 'ACCEPT' }
}

/** The call in a command. */
export function stateSetOf({ args }: CommandOf<'call'>): StateSet {
  const page = (name: string): number => Number(BigInt(String(args[name]))) / PAGE
  return { base: page('base'), top: page('top'), ram: args.ripas === 'RAM', changeDestroyed: args.flags === 1 }
}

export const stateSetCommand = (vm: string, vcpu: number, set: StateSet): HostCommand => ({
  type: 'call',
  vm,
  vcpu,
  call: 'RSI_IPA_STATE_SET',
  by: 'guest',
  args: {
    base: `0x${(set.base * PAGE).toString(16)}`,
    top: `0x${(set.top * PAGE).toString(16)}`,
    ripas: set.ram ? 'RAM' : 'EMPTY',
    flags: set.changeDestroyed ? 1 : 0,
  },
})

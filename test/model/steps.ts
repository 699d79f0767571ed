import fc from 'fast-check'
import type { HostCommand } from '../../src/domain/apply.ts'
import type { Host } from '../../src/domain/host.ts'
import { privateFrame, sharedFrame, slotAt } from '../../src/domain/memslots.ts'
import type { VmState } from '../../src/domain/state.ts'
import { stateSetCommand } from './naive-ripas.ts'
import { PAGE } from './naive-state.ts'

/** Guest frames that tests play with: a few hundred around a border of 2 MiB blocks. */
export const FIRST = 448
export const PAGES = 192

const OPERATIONS = [
  ['create-vm', 2],
  ['delete-vm', 1],
  ['create-memfile', 4],
  ['bind', 6],
  ['delete-memfile', 1],
  ['set-slot', 14],
  ['delete-slot', 4],
  ['fallocate', 14],
  ['punch', 12],
  ['attributes', 12],
  ['page-states', 24],
  ['resume', 8],
  ['read', 20],
  ['write', 24],
  ['host-read', 6],
  ['host-write', 10],
  ['pin', 5],
  ['unpin', 4],
] as const

/** Raw calls of the technology and page-state changes that the guest accepts: beyond what the naive model knows. */
const HARDWARE_OPERATIONS = [...OPERATIONS, ['call', 30], ['accept', 20]] as const

/** What a guest does that accepts its private pages itself. */
const ACCEPTING_OPERATIONS = [
  ...OPERATIONS,
  ['accept', 40],
  ['comply', 30],
  ['resume', 30],
  ['veinfo', 10],
  ['create-vm', 4],
] as const

/** What a guest does that asks its hardware for what its pages are to be. */
const ASKING_OPERATIONS = [
  ...OPERATIONS,
  ['accept', 10],
  ['comply', 30],
  ['resume', 30],
  ['state-set', 50],
  ['create-vm', 4],
] as const

export type Operation =
  | (typeof HARDWARE_OPERATIONS)[number][0]
  | (typeof ACCEPTING_OPERATIONS)[number][0]
  | (typeof ASKING_OPERATIONS)[number][0]

/** An operation and the throws of dice that choose what it is done to, so that it means something in every state. */
export type Step = { readonly operation: Operation; readonly dice: readonly number[] }

export const steps = (length: number): fc.Arbitrary<Step[]> => stepsOf(OPERATIONS, length)
export const hardwareSteps = (length: number): fc.Arbitrary<Step[]> => stepsOf(HARDWARE_OPERATIONS, length)

export const askingSteps = (length: number): fc.Arbitrary<Step[]> => stepsOf(ASKING_OPERATIONS, length)
export const acceptingSteps = (length: number): fc.Arbitrary<Step[]> => stepsOf(ACCEPTING_OPERATIONS, length)

const stepsOf = (operations: readonly (readonly [Operation, number])[], length: number): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.record({
      operation: fc.oneof(...operations.map(([operation, weight]) => ({ arbitrary: fc.constant(operation), weight }))),
      dice: fc.array(fc.noBias(fc.nat(255)), { minLength: 16, maxLength: 16 }),
    }),
    { minLength: Math.ceil(length / 2), maxLength: length, size: 'max' },
  )

/** Reads a step's dice one by one. */
class Dice {
  readonly #dice: readonly number[]
  #at = 0

  constructor(dice: readonly number[]) {
    this.#dice = dice
  }

  throw(sides: number): number {
    return (this.#dice[this.#at++] ?? 0) % sides
  }

  chance(oneIn: number): boolean {
    return this.throw(oneIn) === oneIn - 1
  }

  pick<T>(list: readonly T[], otherwise: T): T {
    return list[this.throw(Math.max(1, list.length))] ?? otherwise
  }
}

/** The command that a step comes to on a host as it is now. */
export function commandOf(host: Host, { operation, dice: thrown }: Step): HostCommand {
  const dice = new Dice(thrown)
  const { vms, memfiles } = host.state
  switch (operation) {
    case 'create-vm':
      return {
        type: 'vm.create',
        name: null,
        vcpus: 2,
        privacy: dice.chance(2) ? 'attributes' : 'populated',
        conversion: dice.chance(3) ? 'manual' : 'auto',
        config: {},
      }
    case 'create-memfile': {
      const pages = dice.throw(96)
      return {
        type: 'memfile.create',
        name: null,
        size: pages * PAGE + (dice.chance(16) ? 1 : 0),
        span: 1,
        placed: false,
      }
    }
    case 'bind': {
      const unbound = [...memfiles.values()].filter((memfile) => memfile.state === 'unbound').map(({ id }) => id)
      const any = dice.chance(6) ? [...memfiles.keys()] : unbound
      return {
        type: 'memfile.bind',
        memfile: dice.pick(any, 'memfile-0'),
        vm: dice.pick([...vms.keys()], 'vm-0'),
        adopt: null,
      }
    }
    case 'delete-memfile':
      return { type: 'memfile.delete', memfile: dice.pick([...memfiles.keys()], 'memfile-0') }
    case 'fallocate':
    case 'punch': {
      const bound = [...memfiles.values()].filter((memfile) => memfile.state !== 'unbound').map(({ id }) => id)
      const memfile = dice.pick(dice.chance(20) ? [...memfiles.keys()] : bound, 'memfile-0')
      const offset =
        dice.throw(dice.chance(8) ? 100 : Math.max(1, memfiles.get(memfile)?.pages ?? 1)) * PAGE +
        (dice.chance(32) ? 1 : 0)
      const length = dice.throw(dice.chance(4) ? 64 : 8) * PAGE + (dice.chance(32) ? 1 : 0)
      return { type: operation === 'punch' ? 'memfile.punch-hole' : 'memfile.fallocate', memfile, offset, length }
    }
    default:
      return vmCommand(host, operation, dice)
  }
}

function vmCommand(host: Host, operation: Operation, dice: Dice): HostCommand {
  const vm = dice.pick([...host.state.vms.keys()], 'vm-0')
  const state = host.state.vms.get(vm)
  const gfn = somewhere(state, dice)
  const vcpu = dice.throw(2)
  switch (operation) {
    case 'delete-vm':
      return { type: 'vm.delete', vm }
    case 'set-slot':
      return setSlot(host, vm, gfn, dice)
    case 'delete-slot':
      return { type: 'memslot.delete', vm, slot: dice.throw(4) }
    case 'attributes': {
      const length = dice.throw(dice.chance(2) ? 100 : 6) * PAGE
      return { type: 'attributes.set', vm, gpa: gfn * PAGE, length, private: dice.chance(2) }
    }
    case 'page-states':
    case 'accept':
      return { type: 'page-states', vm, vcpu, accept: operation === 'accept', entries: entries(gfn, dice) }
    case 'call':
      return call(host, vm, vcpu, gfn, dice)
    case 'veinfo':
      return { type: 'call', vm, vcpu, call: 'TDG.VP.VEINFO.GET', by: 'guest', args: {} }
    case 'state-set': {
      const [ram, changeDestroyed] = [!dice.chance(3), !dice.chance(3)]
      const top = gfn + 1 + dice.throw(dice.chance(3) ? 80 : 6)
      return stateSetCommand(vm, dice.chance(8) ? 1 : 0, { base: gfn, top, ram, changeDestroyed })
    }
    case 'comply': {
      // As VMM: a part of what an exit asks for, mostly all of it.
      const { exit } = dice.pick([...(state?.exits.values() ?? [])], undefined) ?? {}
      const pages = exit === undefined || dice.chance(3) ? 1 + dice.throw(4) : Math.min(exit.pages, 64)
      const gpa = (exit?.firstGfn ?? gfn) * PAGE
      return { type: 'attributes.set', vm, gpa, length: pages * PAGE, private: exit?.private ?? true }
    }
    case 'resume': {
      const exit = dice.pick([...(state?.exits.keys() ?? [])], 'exit-0')
      return { type: 'exit.resume', vm, exit, ret: dice.chance(4) ? -14 : 0 }
    }
    case 'read':
    case 'write': {
      const { gpa, length, data } = span(gfn, dice, operation === 'write')
      const isPrivate = [null, true, false][dice.throw(3)] ?? null
      return { type: 'access', vm, vcpu, gpa, private: isPrivate, kind: operation, length, data, vmpl: 0 }
    }
    case 'host-read':
    case 'host-write': {
      const kind = operation === 'host-write' ? 'write' : 'read'
      const { gpa, length, data } = span(gfn, dice, kind === 'write')
      return { type: 'host-access', vm, as: 'user', by: 'gpa', address: gpa, kind, length, data }
    }
    case 'pin':
      return {
        type: 'pin.create',
        vm,
        gpa: gfn * PAGE,
        length: (1 + dice.throw(dice.chance(4) ? 24 : 3)) * PAGE,
        by: 'vfio',
      }
    default:
      return { type: 'pin.delete', vm, pin: dice.pick([...(state?.pins.keys() ?? [])], 'pin-0') }
  }
}

/** A call as its example has it, of pages that are here, by either side. */
function call(host: Host, vm: string, vcpu: number, gfn: number, dice: Dice): HostCommand {
  const chosen = dice.pick(host.backend.calls, undefined)
  const by = dice.chance(8) ? (dice.chance(2) ? 'host' : 'guest') : (chosen?.by ?? 'guest')
  const address: Readonly<Record<string, () => number | string>> = {
    gpa: () => gfn * PAGE,
    hpa: () => someFrame(host, vm, gfn, dice) * PAGE,
    gctx: () => dice.throw(16) * PAGE,
    destination: () => someFrame(host, vm, gfn + 1, dice) * PAGE,
    metadata: () => someFrame(host, vm, gfn + 2, dice) * PAGE + 64,
    pageSize: () => (dice.chance(8) ? '2M' : '4K'),
  }
  const varied = (value: unknown, key: string): unknown => {
    const other = address[key]
    if (other !== undefined) return other()
    if (Array.isArray(value)) return value.map((item) => varied(item, ''))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, varied(member, name)]))
  }
  const args = varied(chosen?.example ?? {}, '') as Readonly<Record<string, unknown>>
  return { type: 'call', vm, vcpu, call: chosen?.name ?? 'none', by, args }
}

/** The frame behind a guest frame, or another one. */
function someFrame(host: Host, vm: string, gfn: number, dice: Dice): number {
  const state = host.state.vms.get(vm)
  const slot = state && slotAt(state, gfn)
  const other = dice.throw(255) % host.state.frames
  if (state === undefined || slot === undefined || dice.chance(4)) return other
  const frame = dice.chance(4) ? sharedFrame(state, slot, gfn) : privateFrame(slot, gfn)
  return frame < 0 ? other : frame
}

/** A guest frame: mostly one that a slot holds. */
function somewhere(vm: VmState | undefined, dice: Dice): number {
  const slot = dice.pick(vm?.slots ?? [], undefined)
  const offset = dice.throw(PAGES)
  return slot === undefined || dice.chance(6) ? FIRST + offset : slot.firstGfn + (offset % slot.pages)
}

/** Bytes of an access: within a page, or over the border to the next or the one after. */
function span(gfn: number, dice: Dice, write: boolean) {
  const gpa = gfn * PAGE + (dice.chance(2) ? 4090 : dice.throw(256))
  const length = dice.chance(8) ? 4112 : 1 + dice.throw(12)
  const data = write ? Buffer.alloc(length, dice.throw(256)).toString('base64') : null
  return { gpa, length, data }
}

function entries(gfn: number, dice: Dice) {
  return Array.from({ length: 1 + dice.throw(3) }, () => {
    const large = dice.chance(6)
    const operation = dice.chance(2) ? ('private' as const) : ('shared' as const)
    const first = large ? dice.throw(2) * 512 : gfn + dice.throw(8)
    return { gfn: first, pages: large ? 1 : 1 + dice.throw(dice.chance(3) ? 80 : 4), span: large ? 512 : 1, operation }
  })
}

function setSlot(host: Host, vm: string, gfn: number, dice: Dice): HostCommand {
  const files = filesOf(host.state.vms.get(vm), host, dice.chance(12))
  const memfile = dice.chance(4) ? null : dice.pick(files, null)
  const slot = dice.throw(4)
  const old = host.state.vms.get(vm)?.slots.find((other) => other.slot === slot)
  const hva = (['auto', 'auto', 0x10000000, 'none'] as const)[dice.throw(4)] ?? 'auto'
  const move = old !== undefined && old.memfile === null && dice.chance(2)
  const gpa = (dice.chance(3) ? gfn : FIRST + dice.throw(PAGES)) * PAGE
  return {
    type: 'memslot.set',
    vm,
    slot,
    gpa: gpa + (dice.chance(64) ? 1 : 0),
    size: (move ? old.pages : dice.throw(48)) * PAGE,
    memfile: move ? null : memfile,
    memfileOffset: dice.throw(4) * 8 * PAGE,
    hva: move ? 'auto' : hva,
    readOnly: move ? old.readOnly : dice.chance(8),
    dirtyLog: dice.chance(8),
  }
}

/** Mostly the VM's own memfiles. */
function filesOf(vm: VmState | undefined, host: Host, any: boolean): (string | null)[] {
  const files = [...host.state.memfiles.values()]
  return [...files.filter((memfile) => any || memfile.vm === vm).map(({ id }) => id), ...(any ? ['memfile-0'] : [])]
}

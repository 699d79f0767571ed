import type { HostCommand } from '../../src/domain/apply.ts'
import type { CommandOf } from '../../src/domain/commands.ts'
import { type Expected, refuse, reply } from './expected.ts'
import { type NaiveHost, writeByte } from './naive-host.ts'
import { stateSetOf } from './naive-ripas.ts'
import { type File, PAGE, type Page, type Slot, type Vm } from './naive-state.ts'

/** The naive model's answer to each command; the world of the test offers no others. */
export function expect(model: NaiveHost, command: HostCommand, seq: number): Expected {
  model.seq = seq
  switch (command.type) {
    case 'vm.create':
      return createVm(model, command, `vm-${seq}`)
    case 'memfile.create':
      return createFile(model, `memfile-${seq}`, Number(command.size))
    case 'memfile.bind':
      return bind(model, command)
    case 'memfile.leave':
      model.files.delete(command.memfile)
      return reply()
    case 'memfile.fallocate':
    case 'memfile.punch-hole':
      return fileRange(model, command)
    case 'memfile.delete':
      return deleteFile(model, command.memfile)
    default:
      return expectOfVm(model, command)
  }
}

function expectOfVm(model: NaiveHost, command: HostCommand): Expected {
  const vm = 'vm' in command ? model.vms.get(command.vm) : undefined
  if (vm === undefined) return refuse('no-such-vm')
  switch (command.type) {
    case 'vm.delete':
      return deleteVm(model, vm)
    case 'memslot.set':
      return setSlot(model, vm, command)
    case 'memslot.delete':
      return deleteSlot(model, vm, vm.slots.get(command.slot), 'no-such-memslot')
    case 'attributes.set':
      return setAttributes(model, vm, command)
    case 'page-states':
      return model.pageStates(vm, command.vcpu, command.entries, command.accept)
    case 'call':
      return command.call === 'RSI_IPA_STATE_SET'
        ? model.stateSet(vm, command.vcpu, stateSetOf(command))
        : model.veInfo(vm, command.vcpu)
    case 'exit.resume':
      return model.resume(vm, command.exit, command.ret)
    case 'access': {
      const bytes = command.data === null ? new Uint8Array(command.length) : Buffer.from(command.data, 'base64')
      const kind = command.kind === 'write' ? 'write' : 'read'
      return model.access(vm, { vcpu: command.vcpu, gpa: Number(command.gpa), asked: command.private, kind, bytes })
    }
    case 'host-access':
      return hostAccess(model, vm, command)
    case 'pin.create':
      return pin(model, vm, command, `pin-${model.seq}`)
    case 'pin.delete':
      return unpin(model, vm, command.pin)
    default:
      throw new Error(`the model does not know ${command.type}`)
  }
}

function createVm(model: NaiveHost, command: CommandOf<'vm.create'>, id: string): Expected {
  const held = model.technology.sept?.controlPages(command.vcpus) ?? 0
  if (held > model.free) return refuse('ENOMEM')
  model.free -= held
  model.vms.set(id, {
    id,
    privacy: command.privacy,
    conversion: command.conversion,
    slots: new Map(),
    attributes: new Set(),
    user: new Map(),
    nextHva: 2 ** 30,
    waiting: Array.from({ length: command.vcpus }, () => null),
    exits: new Map(),
    pins: new Map(),
    sept: new Map(),
    ripas: new Map(),
    ve: new Set(),
    exitsOnPending: model.technology.sept?.exitsOnPending(command.config) ?? false,
    dead: false,
    held,
  })
  return reply()
}

function deleteVm(model: NaiveHost, vm: Vm): Expected {
  for (const pages of vm.pins.values()) for (const page of pages) model.unpin(page)
  for (const page of vm.user.values()) model.give(page)
  for (const file of model.files.values()) {
    if (file.vm !== vm.id) continue
    for (const page of [...file.pages.keys()]) model.punch(file, page)
    file.vm = null
    file.state = 'released'
  }
  model.free += vm.held
  model.vms.delete(vm.id)
  return reply()
}

function createFile(model: NaiveHost, id: string, size: number): Expected {
  if (size <= 0 || size % PAGE !== 0) return refuse('EINVAL')
  model.files.set(id, { id, size: size / PAGE, vm: null, state: 'unbound', pages: new Map() })
  return reply()
}

function bind(model: NaiveHost, command: CommandOf<'memfile.bind'>): Expected {
  if (!model.vms.has(command.vm)) return refuse('no-such-vm')
  if (command.adopt !== null) createFile(model, command.memfile, Number(command.adopt.size))
  const file = model.files.get(command.memfile)
  if (file === undefined) return refuse('no-such-memfile')
  if (file.state !== 'unbound') return refuse('memfile-not-unbound')
  file.vm = command.vm
  file.state = 'bound'
  return reply()
}

function fileRange(
  model: NaiveHost,
  command: CommandOf<'memfile.fallocate'> | CommandOf<'memfile.punch-hole'>,
): Expected {
  const file = model.files.get(command.memfile)
  if (file === undefined) return refuse('no-such-memfile')
  if (file.state === 'unbound') return refuse('memfile-unbound')
  const [offset, length] = [Number(command.offset), Number(command.length)]
  if (length === 0 || offset % PAGE !== 0 || length % PAGE !== 0) return refuse('EINVAL')
  const first = offset / PAGE
  const end = first + length / PAGE
  const before = file.pages.size
  if (command.type === 'memfile.punch-hole') {
    for (let page = first; page < end; page++) model.punch(file, page)
    return reply({ freedBytes: (before - file.pages.size) * PAGE })
  }
  if (end > file.size) return refuse('EINVAL')
  let page = first
  while (page < end && model.populate(file, page)) page++
  const populatedBytes = (file.pages.size - before) * PAGE
  if (page === end) return reply({ populatedBytes })
  return populatedBytes === 0 ? refuse('ENOMEM') : reply({ populatedBytes, partial: 'ENOMEM' })
}

function deleteFile(model: NaiveHost, id: string): Expected {
  const file = model.files.get(id)
  if (file === undefined) return refuse('no-such-memfile')
  for (const page of [...file.pages.keys()]) model.punch(file, page)
  for (const vm of model.vms.values()) for (const slot of vm.slots.values()) if (slot.file === file) slot.closed = true
  model.files.delete(id)
  return reply()
}

/** kvm-guest-memory.md c.4, line by line. */
function setSlot(model: NaiveHost, vm: Vm, command: CommandOf<'memslot.set'>): Expected {
  const [gpa, size, offset] = [Number(command.gpa), Number(command.size), Number(command.memfileOffset)]
  const old = vm.slots.get(command.slot)
  if (command.memfile !== null && (command.readOnly || command.dirtyLog)) return refuse('EINVAL')
  if (size % PAGE !== 0 || gpa % PAGE !== 0) return refuse('EINVAL')
  if (command.memfile !== null && offset % PAGE !== 0) return refuse('EINVAL')
  if (size === 0) return deleteSlot(model, vm, old, 'EINVAL')
  const [gfn, pages] = [gpa / PAGE, size / PAGE]
  const meets = [...vm.slots.values()].some(
    (slot) => slot !== old && slot.gfn < gfn + pages && gfn < slot.gfn + slot.pages,
  )
  if (old !== undefined) {
    if (command.memfile !== null || old.file !== null || command.readOnly !== old.readOnly) return refuse('EINVAL')
    if (pages !== old.pages || (command.hva !== 'auto' && hvaOf(vm, command) !== old.hva)) return refuse('EINVAL')
    if (gfn === old.gfn && command.dirtyLog === old.dirtyLog) return reply({ change: 'unchanged' })
    if (meets) return refuse('EEXIST')
    old.gfn = gfn
    old.dirtyLog = command.dirtyLog
    return reply({ change: 'changed' })
  }
  if (meets) return refuse('EEXIST')
  let file: File | null = null
  if (command.memfile !== null) {
    const found = model.files.get(command.memfile)
    if (found === undefined) return refuse('EBADF')
    if (found.vm !== vm.id || offset + size > found.size * PAGE) return refuse('EINVAL')
    for (const slot of vm.slots.values()) {
      if (slot.file !== found) continue
      for (let page = 0; page < pages; page++) {
        const at = offset / PAGE + page - slot.filePage
        if (at >= 0 && at < slot.pages) return refuse('EINVAL')
      }
    }
    file = found
  }
  const slot: Slot = {
    id: command.slot,
    gfn,
    pages,
    file,
    closed: false,
    filePage: offset / PAGE,
    hva: hvaOf(vm, command),
    ownsHva: command.hva === 'auto',
    readOnly: command.readOnly,
    dirtyLog: command.dirtyLog,
  }
  vm.nextHva += pages
  vm.slots.set(slot.id, slot)
  if (vm.privacy === 'populated') for (const page of slot.file?.pages.keys() ?? []) model.map(vm, slot, page)
  return reply({ change: 'created' })
}

const hvaOf = (vm: Vm, { hva }: CommandOf<'memslot.set'>): number | null =>
  hva === 'none' ? null : hva === 'auto' ? vm.nextHva : Number(hva) / PAGE

function deleteSlot(model: NaiveHost, vm: Vm, slot: Slot | undefined, missing: string): Expected {
  if (slot === undefined) return refuse(missing)
  for (let gfn = slot.gfn; gfn < slot.gfn + slot.pages; gfn++) model.unmap(vm, gfn)
  vm.slots.delete(slot.id)
  if (slot.ownsHva && slot.hva !== null) {
    for (let page = slot.hva; page < slot.hva + slot.pages; page++) {
      const held = vm.user.get(page)
      vm.user.delete(page)
      if (held !== undefined) model.give(held)
    }
  }
  return reply({ change: 'deleted' })
}

function setAttributes(model: NaiveHost, vm: Vm, command: CommandOf<'attributes.set'>): Expected {
  if (vm.privacy !== 'attributes') return refuse('ENOTTY')
  const [gpa, length] = [Number(command.gpa), Number(command.length)]
  if (length === 0 || gpa % PAGE !== 0 || length % PAGE !== 0) return refuse('EINVAL')
  for (let gfn = gpa / PAGE; gfn < (gpa + length) / PAGE; gfn++) {
    if (command.private) vm.attributes.add(gfn)
    else {
      vm.attributes.delete(gfn)
      model.unmap(vm, gfn)
    }
  }
  return reply()
}

function hostAccess(model: NaiveHost, vm: Vm, command: CommandOf<'host-access'>): Expected {
  const source = command.data === null ? undefined : Buffer.from(command.data, 'base64')
  const read = new Uint8Array(command.length)
  for (let at = 0; at < command.length; at++) {
    const gpa = Number(command.address) + at
    const gfn = Math.floor(gpa / PAGE)
    const slot = model.slotAt(vm, gfn)
    if (slot === undefined || slot.hva === null) return reply({ outcome: 'fault', fault: 'SIGSEGV', completed: at })
    const page = model.touch(vm, gfn - slot.gfn + slot.hva)
    if (page === undefined) return reply({ outcome: 'fault', fault: 'SIGBUS', completed: at })
    if (source === undefined) read[at] = page.bytes?.[gpa % PAGE] ?? 0
    else writeByte(page, gpa % PAGE, source[at] ?? 0)
  }
  return reply({ outcome: 'ok', ...(source === undefined ? { data: Buffer.from(read).toString('base64') } : {}) })
}

function pin(model: NaiveHost, vm: Vm, command: CommandOf<'pin.create'>, id: string): Expected {
  const hvas: number[] = []
  for (let at = 0; at < Number(command.length) / PAGE; at++) {
    const gfn = Number(command.gpa) / PAGE + at
    const slot = model.slotAt(vm, gfn)
    if (slot === undefined || slot.hva === null) return refuse('EFAULT')
    hvas.push(gfn - slot.gfn + slot.hva)
  }
  if (new Set(hvas.filter((hva) => !vm.user.has(hva))).size > model.free) return refuse('ENOMEM')
  const pages: Page[] = []
  for (const hva of hvas) {
    const page = model.touch(vm, hva)
    if (page === undefined) throw new Error('memory was counted')
    page.pins++
    pages.push(page)
  }
  vm.pins.set(id, pages)
  return reply()
}

function unpin(model: NaiveHost, vm: Vm, id: string): Expected {
  const pages = vm.pins.get(id)
  if (pages === undefined) return refuse('no-such-pin')
  vm.pins.delete(id)
  for (const page of pages) model.unpin(page)
  return reply()
}

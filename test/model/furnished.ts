import { TestHost } from '../support/domain.ts'
import type { Technology } from './technology.ts'

const GPA = 480 * 4096

/** A host with two running VMs that have memory, and about `free` pages left to give. */
export function furnished(technology: Technology, free: number): TestHost {
  const t = new TestHost({ backend: technology.backend(), pages: Math.max(technology.leastPages, free + 1) })
  for (const options of [{ conversion: 'manual' }, { privacy: 'attributes' }] as const) {
    const vm = t.vm({ ...options, vcpus: 2 })
    t.memory(vm, GPA, 64)
    for (const command of technology.launch(vm)) t.ok(command)
  }
  const surplus = t.free() - free
  if (surplus <= 0) return t
  const owner = t.vm()
  const hoard = t.memfile(surplus, owner)
  t.deleteVm(owner)
  t.fallocate(hoard, 0, surplus * 4096)
  return t
}

/** What a group of commands changed, for the rows that people query. Grows with the commands of one group, then starts anew. */
export class Changes {
  readonly hosts = new Set<string>()
  readonly vms = new Set<string>()
  readonly memfiles = new Set<string>()
  /** `${vm}/${slot}` */
  readonly memslots = new Set<string>()
  /** Guest frames whose ownership may have changed, per VM: start, end, start, end … in order of command. */
  readonly pages = new Map<string, number[]>()

  #vm = ''
  #memfile = ''
  #windowsOf = ''
  #windows: number[] = []

  /** Marks a VM as changed; the same one again costs nothing. */
  vm(id: string): void {
    if (id === this.#vm) return
    this.#vm = id
    this.vms.add(id)
  }

  memfile(id: string): void {
    if (id === this.#memfile) return
    this.#memfile = id
    this.memfiles.add(id)
  }

  pagesOf(vm: string, start: number, end: number): void {
    const windows = vm === this.#windowsOf ? this.#windows : this.#windowsFor(vm)
    const last = windows.length - 1
    if (windows[last] === start) windows[last] = end
    else windows.push(start, end)
  }

  #windowsFor(vm: string): number[] {
    const windows = this.pages.get(vm) ?? []
    this.pages.set(vm, windows)
    this.#windowsOf = vm
    this.#windows = windows
    return windows
  }

  clear(): void {
    this.#vm = ''
    this.#memfile = ''
    this.#windowsOf = ''
    this.hosts.clear()
    this.vms.clear()
    this.memfiles.clear()
    this.memslots.clear()
    this.pages.clear()
  }
}

/** Sorted, disjoint and not touching: what a list of start, end, start, end … covers. */
export function mergeWindows(bounds: readonly number[]): { start: number; end: number }[] {
  const windows: { start: number; end: number }[] = []
  for (let i = 0; i + 1 < bounds.length; i += 2) {
    windows.push({ start: bounds[i] as number, end: bounds[i + 1] as number })
  }
  windows.sort((a, b) => a.start - b.start)
  const merged: { start: number; end: number }[] = []
  for (const window of windows) {
    const last = merged.at(-1)
    if (last !== undefined && window.start <= last.end) last.end = Math.max(last.end, window.end)
    else merged.push({ ...window })
  }
  return merged
}

/**
 * One node of a PageMap's radix tree, at any of its three levels: 512 slots of 1 GiB, of 2 MiB or of one page. A slot
 * whose pages agree is one number in `values`; a slot whose pages differ is split: it has a child, and 0 in `values`.
 * Invariant between operations: no child is uniform. So equal contents have equal trees, whatever was done to get there.
 */
export type PageNode = {
  /** Adjacent pairs of `values` that differ. With `split` it tells in O(1) that all pages below agree. */
  edges: number
  /** Slots that have a child; always 0 in a leaf. */
  split: number
  readonly values: Uint32Array
  /** 512 entries; none in a leaf. */
  readonly children: (PageNode | null)[]
}

export const SLOTS = 512
/** Bits of a page index that one level decodes. */
export const LEVEL_BITS = 9
const LAST = SLOTS - 1

const NO_CHILDREN: (PageNode | null)[] = []
// A page that is converted to and fro splits and rejoins its blocks each time. Nodes that rejoined are kept here, still
// filled with the value they agreed on, so that the next split writes one slot and allocates nothing. No map holds any
// of them, hence they are no part of any state.
type Spares = { readonly nodes: (PageNode | null)[]; count: number }
const spareLeaves: Spares = { nodes: new Array(512).fill(null), count: 0 }
const spareInners: Spares = { nodes: new Array(64).fill(null), count: 0 }
/** How many spare nodes are looked at for one that holds the right value already: one conversion changes many maps. */
const LOOKED_AT = 8

/** A node whose 512 slots all hold `value`, with no child: a leaf, or an inner node. The caller makes it differ. */
export function take(value: number, leaf: boolean): PageNode {
  const spares = leaf ? spareLeaves : spareInners
  if (spares.count > 0) return reuse(spares, value)
  const values = new Uint32Array(SLOTS)
  if (value !== 0) values.fill(value)
  return { edges: 0, split: 0, values, children: leaf ? NO_CHILDREN : new Array(SLOTS).fill(null) }
}

function reuse(spares: Spares, value: number): PageNode {
  const { nodes } = spares
  const top = --spares.count
  const stop = Math.max(0, top - LOOKED_AT)
  const last = nodes[top] as PageNode
  if (last.values[0] === value) return last
  for (let index = top - 1; index >= stop; index--) {
    const node = nodes[index] as PageNode
    if (node.values[0] !== value) continue
    nodes[index] = last
    return node
  }
  last.values.fill(value)
  return last
}

/** Takes back a uniform node that no map refers to any more. */
export function recycle(node: PageNode): void {
  // Arrays that v8.deserialize made are windows into the checkpoint's bytes, which a spare node must not keep alive.
  if (node.values.byteOffset !== 0) return
  const spares = node.children.length === 0 ? spareLeaves : spareInners
  if (spares.count < spares.nodes.length) spares.nodes[spares.count++] = node
}

/** Takes back a node that was overwritten as a whole. What hangs below it is left to the garbage collector. */
export function discard(node: PageNode): void {
  if (node.split > 0 || (node.children.length === 0 && spareLeaves.count === spareLeaves.nodes.length)) return
  node.values.fill(0)
  node.edges = 0
  recycle(node)
}

export const isUniform = (node: PageNode): boolean => node.edges === 0 && node.split === 0

/** Writes one slot that has no child. */
export function writeSlot(node: PageNode, slot: number, value: number): void {
  const values = node.values
  const before = values[slot]
  if (before === value) return
  let edges = node.edges
  if (slot > 0) {
    const left = values[slot - 1]
    if (left === before) edges++
    else if (left === value) edges--
  }
  if (slot < LAST) {
    const right = values[slot + 1]
    if (right === before) edges++
    else if (right === value) edges--
  }
  values[slot] = value
  node.edges = edges
}

/** Gives a slot without a child one that holds the slot's value everywhere. The caller makes that child differ. */
export function splitSlot(parent: PageNode, slot: number, leaf: boolean): PageNode {
  const child = take(parent.values[slot] as number, leaf)
  writeSlot(parent, slot, 0)
  parent.children[slot] = child
  parent.split++
  return child
}

/** Restores the invariant after a child changed: a child whose pages agree becomes its slot's value. */
export function joinSlot(parent: PageNode, slot: number, child: PageNode): void {
  if (child.edges !== 0 || child.split !== 0) return
  parent.children[slot] = null
  parent.split--
  writeSlot(parent, slot, child.values[0] as number)
  recycle(child)
}

/**
 * Sets pages [from, to) of a node to `value`; they are counted from the node's first page, and its slots are of
 * `1 << shift` pages. Costs what the slots of the nodes on the two borders cost. The node itself may become uniform.
 */
export function fillPages(node: PageNode, shift: number, from: number, to: number, value: number): void {
  const size = 1 << shift
  const last = to >>> shift
  const tail = to & (size - 1)
  const head = from & (size - 1)
  let first = from >>> shift
  if (head !== 0) {
    fillPart(node, shift, first, head, first === last ? tail : size, value)
    if (first === last) return
    first++
  }
  if (first < last) fillSlots(node, first, last, value)
  if (tail !== 0) fillPart(node, shift, last, 0, tail, value)
}

function fillPart(node: PageNode, shift: number, slot: number, from: number, to: number, value: number): void {
  let child = node.children[slot]
  if (!child) {
    if (node.values[slot] === value) return
    child = splitSlot(node, slot, shift === LEVEL_BITS)
  }
  fillPages(child, shift - LEVEL_BITS, from, to, value)
  joinSlot(node, slot, child)
}

function fillSlots(node: PageNode, first: number, last: number, value: number): void {
  const { values, children } = node
  if (node.split > 0) {
    for (let slot = first; slot < last; slot++) {
      const child = children[slot]
      if (!child) continue
      children[slot] = null
      node.split--
      discard(child)
    }
  }
  let edges = node.edges
  if (edges > 0) {
    const stop = Math.min(last, LAST)
    for (let slot = Math.max(first, 1); slot <= stop; slot++) if (values[slot] !== values[slot - 1]) edges--
  }
  values.fill(value, first, last)
  if (first > 0 && values[first - 1] !== value) edges++
  if (last < SLOTS && values[last] !== value) edges++
  node.edges = edges
}

/**
 * The first slot from `slot` on that has a child or another value than `value`, or 512. Looks no further than slot
 * `last`: if all agree up to there, what is returned lies beyond it.
 */
export function skipSlots(node: PageNode, slot: number, last: number, value: number): number {
  const { values, children } = node
  const stop = last < LAST ? last + 1 : SLOTS
  let at = slot
  if (node.split === 0) while (at < stop && values[at] === value) at++
  else while (at < stop && values[at] === value && !children[at]) at++
  return at
}

/** Whether two nodes of one level hold the same pages. Both are canonical, so equal pages are equal trees. */
export function equalNodes(a: PageNode, b: PageNode): boolean {
  if (a.edges !== b.edges || a.split !== b.split) return false
  for (let slot = 0; slot < SLOTS; slot++) if (a.values[slot] !== b.values[slot]) return false
  if (a.split === 0) return true
  for (let slot = 0; slot < SLOTS; slot++) {
    const left = a.children[slot]
    const right = b.children[slot]
    if (left && right ? !equalNodes(left, right) : left !== right) return false
  }
  return true
}

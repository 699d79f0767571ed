import process from 'node:process'
import v8 from 'node:v8'
import { runInNewContext } from 'node:vm'
import * as pageMap from '../src/hw/shared/page-map.ts'

export type Figure = { name: string; value: number; unit: string }

const GIB = 262144
const TIB = 1024 * GIB
const PAGES = 64 * GIB
const ROUNDS = 5

/** Seconds of the best of several rounds: the others show what else the machine was doing. */
function best(work: () => void): number {
  let least = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.hrtime.bigint()
    work()
    least = Math.min(least, Number(process.hrtime.bigint() - start) / 1e9)
  }
  return least
}

/** Bytes that what `make` returns keeps alive: the heap and the typed arrays outside of it. */
function footprint(make: () => unknown): number {
  v8.setFlagsFromString('--expose-gc')
  const collect: () => void = runInNewContext('gc')
  const held = (): number => {
    collect()
    collect()
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    return heapUsed + arrayBuffers
  }
  const before = held()
  const made = [make()]
  const after = held()
  made.pop()
  return Math.max(0, after - before)
}

function agreeing(): pageMap.PageMap {
  const map = pageMap.create()
  pageMap.setRange(map, 0, TIB, 3)
  return map
}

function alternating(): pageMap.PageMap {
  const map = pageMap.create()
  for (let page = 0; page < PAGES; page += 2) pageMap.set(map, page, 1)
  return map
}

function randomSets(): number {
  const map = pageMap.create()
  const count = 2_000_000
  let seed = 1
  const seconds = best(() => {
    for (let index = 0; index < count; index++) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
      pageMap.set(map, seed >>> 8, seed & 1)
    }
  })
  return count / seconds
}

function sequentialConversions(): number {
  const map = pageMap.create()
  let value = 0
  const seconds = best(() => {
    value ^= 1
    for (let page = 0; page < 8 * GIB; page++) pageMap.set(map, page, value)
  })
  return (8 * GIB) / seconds
}

function loneToggles(): number {
  const map = pageMap.create()
  pageMap.setRange(map, 0, PAGES, 1)
  const count = 1_000_000
  const seconds = best(() => {
    for (let index = 0; index < count; index += 2) {
      pageMap.set(map, 4711, 0)
      pageMap.set(map, 4711, 1)
    }
  })
  return count / seconds
}

/** Microseconds to set 1 GiB that begins `offset` pages after a border of 1 GiB. */
function rangeSets(offset: number): number {
  const map = pageMap.create()
  const count = 20_000
  let value = 0
  const seconds = best(() => {
    for (let index = 0; index < count; index++) pageMap.setRange(map, GIB + offset, 2 * GIB + offset, ++value & 1)
  })
  return (seconds / count) * 1e6
}

function runIteration(map: pageMap.PageMap): number {
  let runs = 0
  let sum = 0
  const seconds = best(() => {
    runs = 0
    pageMap.forEachRun(map, 0, PAGES, (start, end, value) => {
      runs++
      sum += (end - start) * value
    })
  })
  return sum > 0 ? runs / seconds : 0
}

/** What the page map costs: in time for pages, ranges and runs, in memory for a guest at its best and at its worst. */
export async function pageMapBench(): Promise<Figure[]> {
  // One is too small to be told from the noise of a heap.
  const agreeingBytes = footprint(() => Array.from({ length: 1000 }, agreeing)) / 1000
  const alternatingBytes = footprint(alternating)
  return [
    { name: 'page map: set, random over 64 GiB', value: randomSets(), unit: 'ops/s' },
    { name: 'page map: set, one page after the other', value: sequentialConversions(), unit: 'ops/s' },
    { name: 'page map: set, toggling a lone page', value: loneToggles(), unit: 'ops/s' },
    { name: 'page map: set 1 GiB, aligned', value: rangeSets(0), unit: 'µs' },
    { name: 'page map: set 1 GiB, unaligned', value: rangeSets(77), unit: 'µs' },
    { name: 'page map: iterate runs of one page', value: runIteration(alternating()), unit: 'runs/s' },
    { name: 'page map: memory, 1 TiB that agrees', value: agreeingBytes, unit: 'bytes' },
    { name: 'page map: memory, 64 GiB of alternating pages', value: alternatingBytes, unit: 'bytes' },
  ]
}

if (import.meta.main) {
  const figures = await pageMapBench()
  for (const { name, value, unit } of figures) {
    const shown = value.toLocaleString('en', { maximumFractionDigits: value < 100 ? 2 : 0 })
    console.log(`${name.padEnd(50)}${shown.padStart(16)} ${unit}`)
  }
}

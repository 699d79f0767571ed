import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { steps } from './steps.ts'
import { accessKind, software, type Technology } from './technology.ts'
import { World } from './world.ts'

/** How many histories of a technology are played; the nightly run sets more. A failure prints its seed. */
const HISTORIES = Number(process.env.GMEMD_MODEL_HISTORIES ?? 80)
const LENGTH = 120

describe('the domain does what a naive model does, page by page', () => {
  for (const technology of [software, accessKind] satisfies Technology[]) {
    it(`${technology.name}: G2, random commands on two hosts with too little memory`, () => {
      let commands = 0
      fc.assert(
        fc.property(steps(LENGTH), (history) => {
          const world = new World(technology)
          for (const step of history) {
            world.step(step)
            world.check()
            commands++
          }
          for (const [index, host] of world.hosts.entries()) {
            for (const vm of [...host.state.vms.keys()]) world.apply(index, { type: 'vm.delete', vm })
            for (const memfile of [...host.state.memfiles.keys()]) {
              world.apply(index, { type: 'memfile.delete', memfile })
            }
            assert.equal(host.state.pool.free, host.state.frames - 1, 'every page came back')
          }
          world.check()
        }),
        { numRuns: HISTORIES },
      )
      assert.ok(commands >= Math.min(5000, HISTORIES * 50), `${commands} commands`)
    })
  }
})

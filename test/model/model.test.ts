import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { acceptingSteps, askingSteps, steps } from './steps.ts'
import { accessKind, cca, software, type Technology, tdx } from './technology.ts'
import { World } from './world.ts'

/** How many histories of a technology are played; the nightly run sets more. A failure prints its seed. */
const HISTORIES = Number(process.env.GMEMD_MODEL_HISTORIES ?? 80)
const LENGTH = 120

function histories({ sept }: Technology) {
  if (sept === undefined) return steps(LENGTH)
  return sept.guest === 'asks' ? askingSteps(LENGTH) : acceptingSteps(LENGTH)
}

describe('the domain does what a naive model does, page by page', () => {
  const technologies: readonly Technology[] = [software, accessKind, tdx, cca]
  for (const technology of technologies) {
    it(`${technology.name}: G2, random commands on two hosts with too little memory`, () => {
      let commands = 0
      fc.assert(
        fc.property(histories(technology), (history) => {
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
            const own = technology.sept?.ownFrames(host).length ?? 0
            assert.equal(host.state.pool.free, host.state.frames - 1 - own, 'every page came back')
          }
          world.check()
        }),
        { numRuns: HISTORIES },
      )
      assert.ok(commands >= Math.min(5000, HISTORIES * 50), `${commands} commands`)
    })
  }
})

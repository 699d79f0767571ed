import type { CommandOf } from '../domain/commands.ts'
import type { Engine, Executed, ExecuteOptions } from '../domain/engine.ts'
import type { Host } from '../domain/host.ts'
import { conflict, kernelRefusal, type Result } from '../domain/refusal.ts'
import type { MemfileState } from '../domain/state.ts'

type Bind = CommandOf<'memfile.bind'>

/** Binds a memfile where it is, or moves it to the host of the VM when nobody has said where it belongs. */
export function bindMemfile(
  engine: Engine,
  from: Host,
  command: Bind,
  options: ExecuteOptions,
): Promise<Result<Executed>> {
  const to = engine.hostOfVm(command.vm)
  const memfile = from.state.memfiles.get(command.memfile)
  const here = to === undefined || to === from || memfile === undefined || from.state.crashed !== null
  if (here) return engine.execute(from, command, options)
  const refusal = whyNotMoved(memfile, to)
  if (refusal !== undefined) return engine.settled().then(() => refusal)
  const size = `0x${(BigInt(memfile.pages) << 12n).toString(16)}`
  const adopt = { name: memfile.name, size, span: memfile.span }
  return engine.move(from, to, { ...command, adopt }, options)
}

function whyNotMoved(memfile: MemfileState, to: Host): Result<never> | undefined {
  if (memfile.state !== 'unbound') {
    const detail = `Memfile "${memfile.id}" is ${memfile.state}; a memfile binds once.`
    return conflict('memfile-not-unbound', detail, { currentState: memfile.state, allowedStates: ['unbound'] })
  }
  if (!memfile.placed) return undefined
  const detail = `Memfile "${memfile.id}" was made on another host than "${to.state.name}", where the VM is.`
  return kernelRefusal('EINVAL', 'memfile-on-other-host', detail, '/vm')
}

/** The revision of a memfile that is being bound: on the VM's host once it has moved there. */
export const bindingRevision = (engine: Engine, { memfile, vm }: Bind): number | undefined =>
  (engine.hostOfVm(vm)?.state.memfiles.get(memfile) ?? engine.hostOfMemfile(memfile)?.state.memfiles.get(memfile))
    ?.revision

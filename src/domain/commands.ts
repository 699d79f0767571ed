import type { RequestEntry } from '../hw/contract.ts'
import type { HostAccess } from './host-access.ts'
import type { ConversionMode, NotifierFlags, PrivacyModel } from './state.ts'

/** An unsigned 64-bit byte address or size as the client gave it: a hex string or an integer. */
export type Bytes64 = string | number
type Options = Readonly<Record<string, unknown>>

/**
 * Everything that can change a host. A command is plain JSON (but for `attachment`), is applied synchronously, and
 * the same commands from the same start give the same state.
 */
export type Command =
  | { readonly type: 'host.create'; readonly technology: string; readonly memory: number; readonly seed: string }
  | { readonly type: 'host.reboot' }
  | {
      readonly type: 'vm.create'
      readonly name: string | null
      readonly vcpus: number
      readonly conversion: ConversionMode
      readonly privacy: PrivacyModel
      readonly config: Options
    }
  | { readonly type: 'vm.delete'; readonly vm: string }
  | {
      readonly type: 'memfile.create'
      readonly name: string | null
      readonly size: Bytes64
      readonly span: number
      /** The client named a host or technology, so that the memfile stays there. */
      readonly placed: boolean
    }
  | {
      readonly type: 'memfile.bind'
      readonly memfile: string
      readonly vm: string
      /** The memfile was made on another host and moves here; null when it is here already. */
      readonly adopt: { readonly name: string | null; readonly size: Bytes64; readonly span: number } | null
    }
  /** The memfile was bound on another host, in the same group. */
  | { readonly type: 'memfile.leave'; readonly memfile: string }
  | { readonly type: 'memfile.consume'; readonly memfile: string; readonly name: string; readonly flags: NotifierFlags }
  | { readonly type: 'memfile.fallocate'; readonly memfile: string; readonly offset: Bytes64; readonly length: Bytes64 }
  | {
      readonly type: 'memfile.punch-hole'
      readonly memfile: string
      readonly offset: Bytes64
      readonly length: Bytes64
    }
  | { readonly type: 'memfile.delete'; readonly memfile: string }
  | {
      readonly type: 'memslot.set'
      readonly vm: string
      readonly slot: number
      readonly gpa: Bytes64
      readonly size: Bytes64
      readonly memfile: string | null
      readonly memfileOffset: Bytes64
      readonly hva: Bytes64 | 'auto' | 'none'
      readonly readOnly: boolean
      readonly dirtyLog: boolean
    }
  | { readonly type: 'memslot.delete'; readonly vm: string; readonly slot: number }
  | {
      readonly type: 'attributes.set'
      readonly vm: string
      readonly gpa: Bytes64
      readonly length: Bytes64
      readonly private: boolean
    }
  | {
      readonly type: 'page-states'
      readonly vm: string
      readonly vcpu: number
      readonly accept: boolean
      readonly entries: readonly RequestEntry[]
    }
  | {
      readonly type: 'access'
      readonly vm: string
      readonly vcpu: number
      readonly gpa: Bytes64
      readonly private: boolean | null
      readonly kind: 'read' | 'write' | 'execute'
      readonly length: number
      readonly data: string | null
      readonly vmpl: number
    }
  | ({ readonly type: 'host-access'; readonly vm: string } & HostAccess)
  | {
      readonly type: 'call'
      readonly vm: string
      readonly vcpu: number
      readonly call: string
      readonly by: 'guest' | 'host'
      readonly args: Options
    }
  | {
      readonly type: 'exit.resume'
      readonly vm: string
      readonly exit: string
      /** 0, or a negative errno: the VMM's refusal. */
      readonly ret: number
    }
  | {
      readonly type: 'mapping.create'
      readonly vm: string
      readonly gpa: Bytes64
      readonly length: Bytes64
      readonly memory: 'shared' | 'private'
    }
  | { readonly type: 'mapping.delete'; readonly vm: string; readonly mapping: string }
  | {
      readonly type: 'pin.create'
      readonly vm: string
      readonly gpa: Bytes64
      readonly length: Bytes64
      readonly by: string
    }
  | { readonly type: 'pin.delete'; readonly vm: string; readonly pin: string }
  | {
      readonly type: 'launch.update'
      readonly vm: string
      readonly gpa: Bytes64
      readonly length: Bytes64
      /** Base64 source bytes; null takes them from the VMM's shared memory at the same addresses. */
      readonly data: string | null
      readonly options: Options
    }
  | { readonly type: 'launch.finish'; readonly vm: string; readonly options: Options }
  | {
      readonly type: 'launch.image'
      readonly vm: string
      readonly finish: boolean
      readonly options: Options
      readonly attachment: Uint8Array
    }

export type CommandType = Command['type']
export type CommandOf<T extends CommandType> = Extract<Command, { readonly type: T }>

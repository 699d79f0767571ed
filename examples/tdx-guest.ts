import { type Cast, call } from './cast.ts'
import { hex } from './client.ts'
import type { Call } from './replies.ts'

/** An access whose address has this bit is shared: bit 47, for a guest with addresses of 48 bits. */
export const SHARED = 2 ** 47

const MAP_GPA = '0x10001'

/** TDG.VP.VMCALL<MapGPA>: the guest tells its VMM what it wants the range to be. */
export const mapGpa = (cast: Cast, gpa: number, size: number): Promise<Call> =>
  call(cast, 'TDG.VP.VMCALL', { r11: MAP_GPA, r12: hex(gpa), r13: hex(size) })

export const acceptPage = (cast: Cast, gpa: number, level = 0): Promise<Call> =>
  call(cast, 'TDG.MEM.PAGE.ACCEPT', { gpa: hex(gpa), level })

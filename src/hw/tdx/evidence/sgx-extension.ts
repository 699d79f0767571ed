import * as der from '../../shared/der.ts'
import type { Platform } from './platform.ts'

/** Intel's extension of a PCK certificate: a sequence of (OID, value) pairs under this OID. */
export const SGX_EXTENSION_OID = '1.2.840.113741.1.13.1'
const oid = (...arcs: readonly number[]): Buffer => der.oid([SGX_EXTENSION_OID, ...arcs].join('.'))
const entry = (arcs: readonly number[], value: Uint8Array): Buffer => der.sequence(oid(...arcs), value)

const SGX_TYPE_SCALABLE = 1

/** The extension's value: PPID, TCB, PCEID, FMSPC, SGX type, platform instance and configuration, in Intel's order. */
export function sgxExtension({ ppid, tcb, pceId, fmspc, platformInstanceId }: Platform): Buffer {
  const components = Array.from(tcb.components, (svn, index) => entry([2, index + 1], der.integer(svn)))
  return der.sequence(
    entry([1], der.octetString(ppid)),
    entry(
      [2],
      der.sequence(
        ...components,
        entry([2, 17], der.integer(tcb.pceSvn)),
        entry([2, 18], der.octetString(tcb.components)),
      ),
    ),
    entry([3], der.octetString(pceId)),
    entry([4], der.octetString(fmspc)),
    entry([5], der.enumerated(SGX_TYPE_SCALABLE)),
    entry([6], der.octetString(platformInstanceId)),
    entry([7], CONFIGURATION),
  )
}

/** A dynamic platform without cached keys, with SMT. */
const CONFIGURATION = der.sequence(
  entry([7, 1], der.boolean(true)),
  entry([7, 2], der.boolean(false)),
  entry([7, 3], der.boolean(true)),
)

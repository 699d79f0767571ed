import type { Status } from '../contract.ts'

/** Whether a status is plain success. Informational statuses, which some technologies have, are not. */
export const isSuccess = ({ code }: Status): boolean => code === 0 || code === '0x0'

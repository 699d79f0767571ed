import type { Privacy } from './privacy.ts'
import { attributes } from './privacy-attributes.ts'
import { populated } from './privacy-populated.ts'
import type { PrivacyModel, VmState } from './state.ts'

const MODELS: Readonly<Record<PrivacyModel, Privacy>> = { populated, attributes }

export const privacyModel = (model: PrivacyModel): Privacy => MODELS[model]

/** The strategy that says which of a VM's guest frames are private. */
export const privacyOf = (vm: VmState): Privacy => MODELS[vm.privacy]

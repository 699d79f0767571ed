/** Keys of the two parts of a token (arm-cca.md 8.1). */
export const PART = { platform: 44234, realm: 44241 } as const

/** Keys of the claims of both parts. */
const CLAIM = { challenge: 10, profile: 265 } as const

export const REALM_CLAIM = {
  ...CLAIM,
  personalizationValue: 44235,
  hashAlgorithm: 44236,
  publicKey: 44237,
  initialMeasurement: 44238,
  extensibleMeasurements: 44239,
  publicKeyHashAlgorithm: 44240,
} as const

export const PLATFORM_CLAIM = {
  ...CLAIM,
  instanceId: 256,
  lifecycle: 2395,
  implementationId: 2396,
  softwareComponents: 2399,
  verificationService: 2400,
  configuration: 2401,
  hashAlgorithm: 2402,
} as const

/** Keys inside a software component. */
export const COMPONENT = { type: 1, measurement: 2, version: 4, signer: 5, hashAlgorithm: 6 } as const

export const REALM_PROFILE = 'tag:arm.com,2023:realm#1.0.0'
export const PLATFORM_PROFILE = 'tag:arm.com,2023:cca_platform#1.0.0'

/**
 * PUBLIC, SIMULATED keys. They stand in for a CPU vendor's root (SGX Root CA) and platform (PCK Platform CA) keys so that
 * every gmemd installation issues PCK certificate chains of the right shape. Both private keys are published here on
 * purpose: a chain that ends in them proves nothing about any machine, and nothing may ever be trusted because of it.
 */
export const SIMULATED_ROOT_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgdnI5FjmvTma6L23X
bbZjwySV45NEmI5SjWxTWQ+2jIKhRANCAAS46ApFNq3cdHudTN7DfQWdUhC5BoIQ
dyw2hY21pnToQVjyaDSigDpOpEFe62NvKrKC6cVQ2Sy3zVVV4Sa+i6O/
-----END PRIVATE KEY-----`

export const SIMULATED_PLATFORM_CA_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAr1c8DCW8hbu3QxX
i4dcCL+jNir52wHe/ysRXepKKlChRANCAASnFiYFGRdG5oXLrFeIbZC1V6vf/wig
HGRBimycMz4hpYThD/xv0/k7jzQzOykFHqwlGxDHcOY37CrH7yz82xHi
-----END PRIVATE KEY-----`

/**
 * PUBLIC, SIMULATED key. It stands in for a manufacturer's root over the CCA platform attestation keys (CPAK) of its
 * machines, so that every gmemd installation has one root. It is published here on purpose: a certificate that it signed
 * proves nothing about any machine, and nothing may ever be trusted because of it.
 */
export const SIMULATED_ROOT_KEY = `-----BEGIN PRIVATE KEY-----
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDDclRFM64Uav+0hfqg1
rlJxl3GqS3xANLP/15+jH1+YW+gX+d/CDWh+zhhx1h4U/PahZANiAATZtl01ngTy
4ukcFqc04dbTK/AL1NIwIoDK5RVpOMVfrZdm8w9Kka2I4LbmSs1sbKRAjfC/iAsa
QxMnNxXbxWS8ZYEs0c9oYbg7YUt5GLn8Uj6jCc7x1hgpGnUyYTM4qno=
-----END PRIVATE KEY-----`

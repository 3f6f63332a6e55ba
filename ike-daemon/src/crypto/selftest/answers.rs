//! Known answers, computed with pyca/cryptography and, for MODP groups, with Python's integers.

use crate::wire::transform::{Encr, EncrId, GroupId, IntegId, PrfId};

/// Group, octets of the private values, SHA-256 of the public value of the first (octets that count up from 1) and the secret
/// it shares with the second (octets that count up from 65).
pub(super) const GROUPS: [(GroupId, usize, &str); 15] = [
    (GroupId::MODP_1024, 32, "cadf0c11bb409dd4742e50c441cc123ba859b6486f5f7890784e7564fcc6c950"),
    (GroupId::MODP_1536, 32, "ac07f568d3174fad5d150aa34f7f7a377ce45ec2d3d7ee138cc13b952fb57bc1"),
    (GroupId::MODP_2048, 40, "36dc8212425846de9a3d1796d5066e70fb50287a1e89595811c07e665469e786"),
    (GroupId::MODP_3072, 53, "35fe8ae39700386e51b2b576aaf3f6362389f97b73fc9dda70678e66ac4b9c01"),
    (GroupId::MODP_4096, 60, "617c30348f0ee75eb668c4fca97d2b6a989b9172c2c681d68031bbd8197fd1c5"),
    (GroupId::MODP_6144, 68, "a5ffa37a9f34abb8d952ebbc7bd6d6b0694a7ffb3502046784dfe8ec5a07af1d"),
    (GroupId::MODP_8192, 78, "e1c935c68b95638c597e779c64b8276905a33e160317973f127a32aa92b43d44"),
    (GroupId::ECP_521, 66, "3e322637f5df106bbb0916a223d35c609a0ed8897eddb2866cf3453a6a9d24e2"),
    (GroupId::MODP_1024_160, 20, "00a49bbb03a983f865f673444680870d573a7543c62b602bab9a2608e9c48afb"),
    (GroupId::MODP_2048_224, 28, "e0fe0ef5151209844238e6c18465f62a2e37dc7ed4805b33f91b69aa0ac05e60"),
    (GroupId::MODP_2048_256, 32, "4067f698a11a999c756511f1602482b1be443efc8b790955042d2893c0e4a0b2"),
    (GroupId::ECP_192, 24, "5308d5e3d3ee0aa56806f2e473e436709edb5d5cdb64038276841e72a9fa6e96"),
    (GroupId::ECP_224, 28, "53b2d4b6beabbaa9e2e0b340f1fb054535eb8eb642573ed4c90934decfe50c89"),
    (GroupId::BRAINPOOL_P256, 32, "ba0ef5380aae8aa3411143347d1eed4defe88ffe939874502f44f5d0cda80a53"),
    (GroupId::BRAINPOOL_P384, 48, "d76f16109a9a3bb7c65256776f577e8010f1858fee219f59165d1fb12c29a34d"),
];

/// HMAC with the key "Jefe": RFC 2202 section 3 and RFC 4231 section 4.3.
pub(super) const PRFS: [(PrfId, &str); 4] = [
    (PrfId::HMAC_SHA1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
    (PrfId::HMAC_SHA2_256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (
        PrfId::HMAC_SHA2_384,
        "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
    ),
    (
        PrfId::HMAC_SHA2_512,
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
    ),
];

/// "inner payloads" with associated data "header" behind the IV, which is 1 or counts up from 0; keys count up from 0, salt
/// included.
pub(super) const PROTECTIONS: [(Encr, IntegId, &str); 36] = [
    (
        Encr { id: EncrId::AES_GCM_12, key_bits: Some(128) },
        IntegId::NONE,
        "0000000000000001372894f4c9345e7746ebc22c7ef7f2cbcefc3247ddc550410070a0",
    ),
    (
        Encr { id: EncrId::AES_GCM_12, key_bits: Some(192) },
        IntegId::NONE,
        "00000000000000011664a52030b8ef2823d0cd3c2049248b086a262f3a8519add276e0",
    ),
    (
        Encr { id: EncrId::AES_GCM_12, key_bits: Some(256) },
        IntegId::NONE,
        "000000000000000100e155d3244175bb7fa7d43b354f7509c4c393b62313b9e1292a74",
    ),
    (
        Encr { id: EncrId::AES_GCM_16, key_bits: Some(128) },
        IntegId::NONE,
        "0000000000000001372894f4c9345e7746ebc22c7ef7f2cbcefc3247ddc550410070a0e62f25c3",
    ),
    (
        Encr { id: EncrId::AES_GCM_16, key_bits: Some(192) },
        IntegId::NONE,
        "00000000000000011664a52030b8ef2823d0cd3c2049248b086a262f3a8519add276e08b57fca7",
    ),
    (
        Encr { id: EncrId::AES_GCM_16, key_bits: Some(256) },
        IntegId::NONE,
        "000000000000000100e155d3244175bb7fa7d43b354f7509c4c393b62313b9e1292a74c5322543",
    ),
    (
        Encr { id: EncrId::AES_CCM_8, key_bits: Some(128) },
        IntegId::NONE,
        "000000000000000180d03a7c1b82b6528969b63479328b67980a21914c80da",
    ),
    (
        Encr { id: EncrId::AES_CCM_8, key_bits: Some(192) },
        IntegId::NONE,
        "00000000000000019601a00f548b18e89583c1f7c777c2d05a0d89d450ba2a",
    ),
    (
        Encr { id: EncrId::AES_CCM_8, key_bits: Some(256) },
        IntegId::NONE,
        "0000000000000001101b79eecb8830780a8e24ba0f693448944e43e6a5882e",
    ),
    (
        Encr { id: EncrId::AES_CCM_12, key_bits: Some(128) },
        IntegId::NONE,
        "000000000000000180d03a7c1b82b6528969b63479328b61c8a4f9696f9331e5c7958d",
    ),
    (
        Encr { id: EncrId::AES_CCM_12, key_bits: Some(192) },
        IntegId::NONE,
        "00000000000000019601a00f548b18e89583c1f7c777c2f7b4a9957da4c06c76f7d0aa",
    ),
    (
        Encr { id: EncrId::AES_CCM_12, key_bits: Some(256) },
        IntegId::NONE,
        "0000000000000001101b79eecb8830780a8e24ba0f69340048d722e466b38987506528",
    ),
    (
        Encr { id: EncrId::AES_CCM_16, key_bits: Some(128) },
        IntegId::NONE,
        "000000000000000180d03a7c1b82b6528969b63479328b53755b1a321a299afd19eb886c794949",
    ),
    (
        Encr { id: EncrId::AES_CCM_16, key_bits: Some(192) },
        IntegId::NONE,
        "00000000000000019601a00f548b18e89583c1f7c777c22d0e9237d0040ef3afcb0a495e546209",
    ),
    (
        Encr { id: EncrId::AES_CCM_16, key_bits: Some(256) },
        IntegId::NONE,
        "0000000000000001101b79eecb8830780a8e24ba0f6934a822cdfa3bff16c4d43093bcbe70ec67",
    ),
    (
        Encr::CHACHA20_POLY1305,
        IntegId::NONE,
        "0000000000000001f9df2333f1cca26ed6f561521bb41e40ef189e65e5d070d5768ae9becb265e",
    ),
    (
        Encr { id: EncrId::TRIPLE_DES, key_bits: None },
        IntegId::HMAC_SHA1_96,
        "0001020304050607f87cd8dc1d74b4dccb88f1611e061b73e9ff6bf5387d6a8ffe2abaec",
    ),
    (
        Encr { id: EncrId::TRIPLE_DES, key_bits: None },
        IntegId::HMAC_SHA1_160,
        "0001020304050607f87cd8dc1d74b4dccb88f1611e061b73e9ff6bf5387d6a8ffe2abaeca23878416dd2ac66",
    ),
    (
        Encr { id: EncrId::TRIPLE_DES, key_bits: None },
        IntegId::HMAC_SHA2_256_128,
        "0001020304050607f87cd8dc1d74b4dccb88f1611e061b738ea9fa02050ceda55ba77d9c9bdd979b",
    ),
    (
        Encr { id: EncrId::TRIPLE_DES, key_bits: None },
        IntegId::HMAC_SHA2_384_192,
        "0001020304050607f87cd8dc1d74b4dccb88f1611e061b73b0fad663c8fe332e5579de9e0472c314c5552e07723df910",
    ),
    (
        Encr { id: EncrId::TRIPLE_DES, key_bits: None },
        IntegId::HMAC_SHA2_512_256,
        "0001020304050607f87cd8dc1d74b4dccb88f1611e061b73bac75f187fe0cc8a09020eab738b70c3af7432042b8f5db1df7224ba630a4f50",
    ),
    (
        Encr::aes_cbc(128),
        IntegId::HMAC_SHA1_96,
        "000102030405060708090a0b0c0d0e0f3acde975ffb7d105c01794e6ded91de7381cf743642f86928560ee0e",
    ),
    (
        Encr::aes_cbc(128),
        IntegId::HMAC_SHA1_160,
        "000102030405060708090a0b0c0d0e0f3acde975ffb7d105c01794e6ded91de7381cf743642f86928560ee0e50ff6cf75e41c9ac",
    ),
    (
        Encr::aes_cbc(128),
        IntegId::HMAC_SHA2_256_128,
        "000102030405060708090a0b0c0d0e0f3acde975ffb7d105c01794e6ded91de72dfa1e8843efc893157f3b6d227ee466",
    ),
    (
        Encr::aes_cbc(128),
        IntegId::HMAC_SHA2_384_192,
        "000102030405060708090a0b0c0d0e0f3acde975ffb7d105c01794e6ded91de7a36f2960f1668093936046e4af44844ea41116539e4d2060",
    ),
    (
        Encr::aes_cbc(128),
        IntegId::HMAC_SHA2_512_256,
        "000102030405060708090a0b0c0d0e0f3acde975ffb7d105c01794e6ded91de7c35d035154490716c47f61043b46c0f1a86673d16aa98e5cb5d3e15104e58109",
    ),
    (
        Encr::aes_cbc(192),
        IntegId::HMAC_SHA1_96,
        "000102030405060708090a0b0c0d0e0f2b1c1fdbe34f0a5c06cf69de5879054899b758ef19848db27e47e007",
    ),
    (
        Encr::aes_cbc(192),
        IntegId::HMAC_SHA1_160,
        "000102030405060708090a0b0c0d0e0f2b1c1fdbe34f0a5c06cf69de5879054899b758ef19848db27e47e0077a60d347ce44ac97",
    ),
    (
        Encr::aes_cbc(192),
        IntegId::HMAC_SHA2_256_128,
        "000102030405060708090a0b0c0d0e0f2b1c1fdbe34f0a5c06cf69de58790548d7ea0cce1acd34065896354485639f56",
    ),
    (
        Encr::aes_cbc(192),
        IntegId::HMAC_SHA2_384_192,
        "000102030405060708090a0b0c0d0e0f2b1c1fdbe34f0a5c06cf69de5879054855a4e7237f1abe8ce27b8bbdfcb1855f8d3f3e1a8a4b5217",
    ),
    (
        Encr::aes_cbc(192),
        IntegId::HMAC_SHA2_512_256,
        "000102030405060708090a0b0c0d0e0f2b1c1fdbe34f0a5c06cf69de58790548d5fe5c566f3d08c1b80ade0d5178dc15b18daeae0ebe952120c7264ac78f9a57",
    ),
    (
        Encr::aes_cbc(256),
        IntegId::HMAC_SHA1_96,
        "000102030405060708090a0b0c0d0e0f789f0831031c2eca47875ab7d44dd286130f9fe28e91e36881840478",
    ),
    (
        Encr::aes_cbc(256),
        IntegId::HMAC_SHA1_160,
        "000102030405060708090a0b0c0d0e0f789f0831031c2eca47875ab7d44dd286130f9fe28e91e36881840478e11ff831f5dd433b",
    ),
    (
        Encr::aes_cbc(256),
        IntegId::HMAC_SHA2_256_128,
        "000102030405060708090a0b0c0d0e0f789f0831031c2eca47875ab7d44dd28669a5d9c9438380a7220c40900c7e17e5",
    ),
    (
        Encr::aes_cbc(256),
        IntegId::HMAC_SHA2_384_192,
        "000102030405060708090a0b0c0d0e0f789f0831031c2eca47875ab7d44dd286ce174d0198b5aeed6a7c7d3dc55dc4c16a645acf7d267c70",
    ),
    (
        Encr::aes_cbc(256),
        IntegId::HMAC_SHA2_512_256,
        "000102030405060708090a0b0c0d0e0f789f0831031c2eca47875ab7d44dd28659f2fc53abe311dbacec8a6ab0054ee40dc848d3ecbcf13ce241e2fff216d368",
    ),
];

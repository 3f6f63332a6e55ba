//! The transforms that the data path has, with keys of every length, and every authenticator with one of them.

use crate::reference;
use crate::support::Random;
use ebpf_esp::crypto::transform::{Authentication, Encryption};
use sadb_maps::sa::encr;

/// A cipher with a length of key and of ICV, and what authenticates beside it.
#[derive(Debug)]
pub(crate) struct Transform {
    pub(crate) name: &'static str,
    /// Number of the cipher ([`encr`]).
    pub(crate) encr: u8,
    pub(crate) encryption: Encryption,
    /// Octets of the key, without salt.
    pub(crate) key_len: usize,
    /// Octets of the ICV.
    pub(crate) icv_len: usize,
    pub(crate) authentication: Authentication,
}

const fn aead(name: &'static str, encr: u8, encryption: Encryption, key_len: usize, icv_len: usize) -> Transform {
    Transform { name, encr, encryption, key_len, icv_len, authentication: Authentication::None }
}

const fn pair(
    name: &'static str,
    (encr, encryption): (u8, Encryption),
    key_len: usize,
    authentication: Authentication,
) -> Transform {
    Transform { name, encr, encryption, key_len, icv_len: authentication.icv_len() as usize, authentication }
}

const NULL: (u8, Encryption) = (encr::NULL, Encryption::Null);
const AES_CBC: (u8, Encryption) = (encr::AES_CBC, Encryption::AesCbc);
const AES_CTR: (u8, Encryption) = (encr::AES_CTR, Encryption::AesCtr);
const DES: (u8, Encryption) = (encr::DES_CBC, Encryption::DesCbc);
const TRIPLE_DES: (u8, Encryption) = (encr::TRIPLE_DES_CBC, Encryption::TripleDesCbc);
const BLOWFISH: (u8, Encryption) = (encr::BLOWFISH_CBC, Encryption::BlowfishCbc);

/// All of them.
pub(crate) const ALL: &[Transform] = &[
    aead("ChaCha20-Poly1305", encr::CHACHA20_POLY1305, Encryption::ChaCha20Poly1305, 32, 16),
    aead("AES-128-GCM", encr::AES_GCM_16, Encryption::AesGcm, 16, 16),
    aead("AES-192-GCM", encr::AES_GCM_16, Encryption::AesGcm, 24, 16),
    aead("AES-256-GCM", encr::AES_GCM_16, Encryption::AesGcm, 32, 16),
    aead("AES-192-GCM, ICV 12", encr::AES_GCM_12, Encryption::AesGcm, 24, 12),
    aead("AES-256-GCM, ICV 8", encr::AES_GCM_8, Encryption::AesGcm, 32, 8),
    aead("AES-128-GMAC", encr::NULL_AES_GMAC, Encryption::AesGmac, 16, 16),
    aead("AES-192-GMAC", encr::NULL_AES_GMAC, Encryption::AesGmac, 24, 16),
    aead("AES-256-GMAC", encr::NULL_AES_GMAC, Encryption::AesGmac, 32, 16),
    aead("AES-128-CCM", encr::AES_CCM_16, Encryption::AesCcm, 16, 16),
    aead("AES-192-CCM, ICV 12", encr::AES_CCM_12, Encryption::AesCcm, 24, 12),
    aead("AES-256-CCM, ICV 8", encr::AES_CCM_8, Encryption::AesCcm, 32, 8),
    aead("AES-256-CCM", encr::AES_CCM_16, Encryption::AesCcm, 32, 16),
    pair("NULL, HMAC-MD5-96", NULL, 0, Authentication::HmacMd5),
    pair("NULL, HMAC-SHA1-96", NULL, 0, Authentication::HmacSha1),
    pair("NULL, HMAC-SHA2-256-128", NULL, 0, Authentication::HmacSha256),
    pair("NULL, HMAC-SHA2-384-192", NULL, 0, Authentication::HmacSha384),
    pair("NULL, HMAC-SHA2-512-256", NULL, 0, Authentication::HmacSha512),
    pair("AES-128-CBC, HMAC-SHA1-96", AES_CBC, 16, Authentication::HmacSha1),
    pair("AES-128-CBC, HMAC-SHA2-256-128", AES_CBC, 16, Authentication::HmacSha256),
    pair("AES-192-CBC, HMAC-SHA2-384-192", AES_CBC, 24, Authentication::HmacSha384),
    pair("AES-256-CBC, HMAC-SHA2-512-256", AES_CBC, 32, Authentication::HmacSha512),
    pair("AES-128-CTR, HMAC-SHA2-256-128", AES_CTR, 16, Authentication::HmacSha256),
    pair("AES-192-CTR, HMAC-SHA1-96", AES_CTR, 24, Authentication::HmacSha1),
    pair("AES-256-CTR, HMAC-SHA2-512-256", AES_CTR, 32, Authentication::HmacSha512),
    pair("DES-CBC, HMAC-MD5-96", DES, 8, Authentication::HmacMd5),
    pair("3DES-CBC, HMAC-SHA1-96", TRIPLE_DES, 24, Authentication::HmacSha1),
    pair("3DES-CBC, HMAC-SHA2-512-256", TRIPLE_DES, 24, Authentication::HmacSha512),
    pair("Blowfish-128-CBC, HMAC-SHA1-96", BLOWFISH, 16, Authentication::HmacSha1),
    pair("Blowfish-448-CBC, HMAC-SHA2-256-128", BLOWFISH, 56, Authentication::HmacSha256),
    pair("Blowfish-40-CBC, HMAC-MD5-96", BLOWFISH, 5, Authentication::HmacMd5),
];

impl Transform {
    /// Number of the authenticator in the AH table; 0 with an AEAD.
    pub(crate) fn auth(&self) -> u8 {
        match self.authentication {
            Authentication::HmacMd5 => 2,
            Authentication::HmacSha1 => 3,
            Authentication::HmacSha256 => 5,
            Authentication::HmacSha384 => 6,
            Authentication::HmacSha512 => 7,
            _ => 0,
        }
    }

    /// An SA with random keys.
    pub(crate) fn keys(&self, random: &mut Random, spi: u32, esn: bool) -> reference::Keys {
        // All equal octets are a key that is refused.
        let mut octets = |len: usize| (0..len).map(|_| random.next() as u8).collect();
        reference::Keys {
            encryption: self.encryption,
            authentication: self.authentication,
            key: octets(self.key_len),
            salt: octets(self.encryption.salt_len() as usize),
            auth_key: octets(self.authentication.key_len()),
            icv_len: self.icv_len,
            spi,
            esn,
        }
    }
}

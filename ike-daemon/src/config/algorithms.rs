//! The names of IKE SA algorithms in ikev2.config, and which of them this release computes with. A name that is known but
//! not supported gets an error that says so, so that a file brought along from elsewhere explains itself.

use std::ops::RangeInclusive;

use crate::wire::transform::{Encr, EncrId, GroupId, IntegId, PrfId};

/// A family of ciphers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CipherKind {
    AesCbc,
    AesGcm16,
    ChaCha20Poly1305,
}

/// A cipher and the key lengths that are acceptable, in bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cipher {
    pub(super) kind: CipherKind,
    bits: RangeInclusive<u64>,
}

/// A hash of the SHA-2 family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

static CIPHERS: &[(&str, CipherKind)] = &[
    ("aes", CipherKind::AesCbc),
    ("aes-cbc", CipherKind::AesCbc),
    ("aes-gcm", CipherKind::AesGcm16),
    ("aes-gcm16", CipherKind::AesGcm16),
    ("chacha20-poly1305", CipherKind::ChaCha20Poly1305),
];

static CIPHERS_ELSEWHERE: &[&str] =
    &["3des", "3des-cbc", "des", "des-cbc", "blowfish", "blowfish-cbc", "aes-ctr", "aes-ccm", "aes-gcm8", "aes-gcm12"];

static HASHES: &[(&str, Hash)] = &[("sha256", Hash::Sha256), ("sha384", Hash::Sha384), ("sha512", Hash::Sha512)];

static HASHES_ELSEWHERE: &[&str] = &["sha", "sha1", "md5"];

/// Groups with their strength in bits of a symmetric key and a description.
static GROUPS: &[(GroupId, u16, &str)] = &[
    (GroupId::ECP_256, 128, "256-bit ECP"),
    (GroupId::ECP_384, 192, "384-bit ECP"),
    (GroupId::CURVE25519, 128, "X25519"),
];

static GROUPS_ELSEWHERE: &[u64] = &[1, 2, 5, 14, 15, 16, 17, 18, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 32];

impl CipherKind {
    /// Key lengths in bits, longest first: the order of preference.
    fn lengths(self) -> &'static [u16] {
        match self {
            Self::AesCbc => &[256, 192, 128],
            Self::AesGcm16 => &[256, 128],
            Self::ChaCha20Poly1305 => &[256],
        }
    }

    /// Whether the cipher authenticates by itself (RFC 5282).
    pub(super) fn is_aead(self) -> bool {
        self != Self::AesCbc
    }

    fn with_key(self, bits: u16) -> Encr {
        match self {
            Self::AesCbc => Encr::aes_cbc(bits),
            Self::AesGcm16 => Encr::aes_gcm_16(bits),
            Self::ChaCha20Poly1305 => Encr::CHACHA20_POLY1305,
        }
    }
}

impl Cipher {
    /// Every key length.
    pub(super) fn whole(kind: CipherKind) -> Self {
        Self { kind, bits: 0..=u64::MAX }
    }

    /// Key lengths from `low` to `high`; the error is a message.
    pub(super) fn with_range(kind: CipherKind, (low, high): (u64, u64)) -> Result<Self, String> {
        if low > high {
            return Err(format!("the range of key lengths ends before it begins: {low} is more than {high}"));
        }
        let cipher = Self { kind, bits: low..=high };
        if cipher.transforms().is_empty() {
            let lengths: Vec<String> = kind.lengths().iter().rev().map(u16::to_string).collect();
            return Err(format!(
                "no key length of this cipher lies in {low}..{high}; this release has {} bits",
                lengths.join(", ")
            ));
        }
        Ok(cipher)
    }

    /// The transforms to offer, best first.
    pub(super) fn transforms(&self) -> Vec<Encr> {
        let fits = |bits: &&u16| self.bits.contains(&u64::from(**bits));
        self.kind.lengths().iter().filter(fits).map(|bits| self.kind.with_key(*bits)).collect()
    }
}

impl Hash {
    /// As an integrity algorithm (RFC 4868).
    pub(super) fn integ(self) -> IntegId {
        match self {
            Self::Sha256 => IntegId::HMAC_SHA2_256_128,
            Self::Sha384 => IntegId::HMAC_SHA2_384_192,
            Self::Sha512 => IntegId::HMAC_SHA2_512_256,
        }
    }

    /// As a pseudo-random function.
    pub(super) fn prf(self) -> PrfId {
        match self {
            Self::Sha256 => PrfId::HMAC_SHA2_256,
            Self::Sha384 => PrfId::HMAC_SHA2_384,
            Self::Sha512 => PrfId::HMAC_SHA2_512,
        }
    }
}

/// The cipher called `word`; the error is a message.
pub(super) fn cipher(word: &str) -> Result<CipherKind, String> {
    let names = || CIPHERS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if let Some((_, kind)) = CIPHERS.iter().find(|(name, _)| *name == word) {
        return Ok(*kind);
    }
    if CIPHERS_ELSEWHERE.contains(&word) {
        return Err(format!("the cipher {word} is known but not supported by this release; supported: {}", names()));
    }
    Err(format!("unknown cipher \"{}\"; expected one of {}", word.escape_debug(), names()))
}

/// The hash called `word`; the error is a message.
pub(super) fn hash(word: &str) -> Result<Hash, String> {
    let names = "sha256, sha384, sha512";
    if let Some((_, hash)) = HASHES.iter().find(|(name, _)| *name == word) {
        return Ok(*hash);
    }
    if HASHES_ELSEWHERE.contains(&word) {
        return Err(format!("{word} is known but not supported by this release; supported: {names}"));
    }
    Err(format!("unknown algorithm \"{}\"; expected one of {names}", word.escape_debug()))
}

/// The group with this number; the error is a message.
pub(super) fn group(number: u64) -> Result<GroupId, String> {
    if let Some((group, _, _)) = GROUPS.iter().find(|(group, _, _)| u64::from(group.0) == number) {
        return Ok(*group);
    }
    let names: Vec<String> = GROUPS.iter().map(|(group, _, what)| format!("{} ({what})", group.0)).collect();
    let names = names.join(", ");
    if GROUPS_ELSEWHERE.contains(&number) {
        return Err(format!("group {number} is known but not supported by this release; supported: {names}"));
    }
    Err(format!("unknown group {number}; expected one of {names}"))
}

/// Every group this release has: number, strength in bits of a symmetric key, description.
pub fn groups() -> impl Iterator<Item = (GroupId, u16, &'static str)> {
    GROUPS.iter().copied()
}

/// Every cipher this release has for IKE SAs, with its least and greatest key length where it has several.
pub fn ciphers() -> impl Iterator<Item = (EncrId, Option<(u16, u16)>)> {
    [CipherKind::AesCbc, CipherKind::AesGcm16, CipherKind::ChaCha20Poly1305].into_iter().filter_map(|kind| {
        let (longest, shortest) = (*kind.lengths().first()?, *kind.lengths().last()?);
        Some((kind.with_key(longest).id, (shortest != longest).then_some((shortest, longest))))
    })
}

/// Every integrity algorithm this release has for IKE SAs.
pub fn integrity() -> impl Iterator<Item = IntegId> {
    HASHES.iter().map(|(_, hash)| hash.integ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_choose_key_lengths_longest_first() {
        let bits = |low, high| Cipher::with_range(CipherKind::AesCbc, (low, high)).map(|cipher| cipher.transforms());
        assert_eq!(bits(128, 192), Ok(vec![Encr::aes_cbc(192), Encr::aes_cbc(128)]));
        assert_eq!(bits(256, 256), Ok(vec![Encr::aes_cbc(256)]));
        assert!(bits(256, 128).is_err());
        assert!(bits(129, 191).is_err());
        assert_eq!(
            Cipher::with_range(CipherKind::AesGcm16, (128, 256)).unwrap().transforms(),
            [Encr::aes_gcm_16(256), Encr::aes_gcm_16(128)]
        );
        assert_eq!(Cipher::whole(CipherKind::ChaCha20Poly1305).transforms(), [Encr::CHACHA20_POLY1305]);
    }

    #[test]
    fn known_but_unsupported_says_so() {
        for number in [2, 5, 14, 15, 16, 21, 22, 23, 24, 25, 26] {
            assert!(group(number).unwrap_err().contains("known but not supported"), "{number}");
        }
        assert!(group(99).unwrap_err().contains("unknown group"));
        assert!(cipher("3des").unwrap_err().contains("known but not supported"));
        assert!(hash("sha1").unwrap_err().contains("known but not supported"));
        assert_eq!(group(31), Ok(GroupId::CURVE25519));
    }
}

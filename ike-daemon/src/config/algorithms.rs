//! The names of IKE SA algorithms in ikev2.config, and which of them this release computes with. A name that is known but
//! not supported gets an error that says so, so that a file brought along from elsewhere explains itself.

use std::ops::RangeInclusive;

use crate::wire::transform::{Encr, EncrId, GroupId, IntegId, PrfId};

/// A family of ciphers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CipherKind {
    AesCbc,
    /// AES-GCM; the number is that of its ICV.
    AesGcm(EncrId),
    /// AES-CCM, likewise.
    AesCcm(EncrId),
    ChaCha20Poly1305,
    TripleDes,
}

/// A cipher and the key lengths that are acceptable, in bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cipher {
    pub(super) kind: CipherKind,
    bits: RangeInclusive<u64>,
}

/// What `auth_alg` and `prf_alg` name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    /// SHA-1 whose HMAC is not cut.
    Sha1Whole,
    Sha256,
    Sha384,
    Sha512,
}

static CIPHERS: &[(&str, CipherKind)] = &[
    ("aes", CipherKind::AesCbc),
    ("aes-cbc", CipherKind::AesCbc),
    ("aes-gcm", CipherKind::AesGcm(EncrId::AES_GCM_16)),
    ("aes-gcm16", CipherKind::AesGcm(EncrId::AES_GCM_16)),
    ("aes-gcm12", CipherKind::AesGcm(EncrId::AES_GCM_12)),
    ("aes-ccm", CipherKind::AesCcm(EncrId::AES_CCM_16)),
    ("aes-ccm16", CipherKind::AesCcm(EncrId::AES_CCM_16)),
    ("aes-ccm12", CipherKind::AesCcm(EncrId::AES_CCM_12)),
    ("aes-ccm8", CipherKind::AesCcm(EncrId::AES_CCM_8)),
    ("chacha20-poly1305", CipherKind::ChaCha20Poly1305),
    ("3des", CipherKind::TripleDes),
    ("3des-cbc", CipherKind::TripleDes),
];

static CIPHERS_ELSEWHERE: &[&str] = &["des", "des-cbc", "blowfish", "blowfish-cbc", "aes-ctr", "aes-gcm8"];

static HASHES: &[(&str, Hash)] = &[
    ("sha1", Hash::Sha1),
    ("sha", Hash::Sha1),
    ("sha1-160", Hash::Sha1Whole),
    ("sha256", Hash::Sha256),
    ("sha384", Hash::Sha384),
    ("sha512", Hash::Sha512),
];

static HASHES_ELSEWHERE: &[&str] = &["md5"];

/// A group as the file and `ikeadm` know it.
struct Group {
    id: GroupId,
    /// Bits of a symmetric key that is as strong (RFC 3526 section 8 at its least, RFC 5114 section 4, NIST SP 800-57).
    strength: u16,
    description: &'static str,
    /// Why not, where RFC 8247 section 2.4 or the strength say so.
    advice: Option<&'static str>,
}

const fn group_of(id: GroupId, strength: u16, description: &'static str) -> Group {
    Group { id, strength, description, advice: None }
}

const fn weak(id: GroupId, strength: u16, description: &'static str, advice: &'static str) -> Group {
    Group { id, strength, description, advice: Some(advice) }
}

const SHOULD_NOT: &str = "SHOULD NOT be used (RFC 8247 section 2.4)";
const MUST_NOT: &str = "MUST NOT be used (RFC 8247 section 2.4)";

static GROUPS: &[Group] = &[
    weak(GroupId::MODP_1024, 80, "1024-bit MODP", SHOULD_NOT),
    weak(GroupId::MODP_1536, 90, "1536-bit MODP", SHOULD_NOT),
    group_of(GroupId::MODP_2048, 112, "2048-bit MODP"),
    group_of(GroupId::MODP_3072, 128, "3072-bit MODP"),
    group_of(GroupId::MODP_4096, 152, "4096-bit MODP"),
    group_of(GroupId::MODP_6144, 176, "6144-bit MODP"),
    group_of(GroupId::MODP_8192, 200, "8192-bit MODP"),
    group_of(GroupId::ECP_256, 128, "256-bit ECP"),
    group_of(GroupId::ECP_384, 192, "384-bit ECP"),
    group_of(GroupId::ECP_521, 256, "521-bit ECP"),
    weak(GroupId::MODP_1024_160, 80, "1024-bit MODP, 160-bit subgroup", MUST_NOT),
    weak(GroupId::MODP_2048_224, 112, "2048-bit MODP, 224-bit subgroup", SHOULD_NOT),
    weak(GroupId::MODP_2048_256, 112, "2048-bit MODP, 256-bit subgroup", SHOULD_NOT),
    weak(GroupId::ECP_192, 80, "192-bit ECP", "is as strong as a key of 80 bits"),
    group_of(GroupId::ECP_224, 112, "224-bit ECP"),
    group_of(GroupId::BRAINPOOL_P256, 128, "256-bit Brainpool ECP"),
    group_of(GroupId::BRAINPOOL_P384, 192, "384-bit Brainpool ECP"),
    group_of(GroupId::CURVE25519, 128, "X25519"),
];

static GROUPS_ELSEWHERE: &[u64] = &[1, 27, 30, 32];

impl CipherKind {
    /// Key lengths in bits, longest first: the order of preference.
    fn lengths(self) -> &'static [u16] {
        match self {
            Self::AesCbc | Self::AesGcm(_) | Self::AesCcm(_) => &[256, 192, 128],
            Self::ChaCha20Poly1305 => &[256],
            Self::TripleDes => &[192],
        }
    }

    /// Whether the cipher authenticates by itself (RFC 5282).
    pub(super) fn is_aead(self) -> bool {
        !matches!(self, Self::AesCbc | Self::TripleDes)
    }

    fn with_key(self, bits: u16) -> Encr {
        match self {
            Self::AesCbc => Encr::aes_cbc(bits),
            Self::AesGcm(id) | Self::AesCcm(id) => Encr { id, key_bits: Some(bits) },
            Self::ChaCha20Poly1305 => Encr::CHACHA20_POLY1305,
            Self::TripleDes => Encr { id: EncrId::TRIPLE_DES, key_bits: None },
        }
    }

    /// Why not.
    pub(super) fn advice(self) -> Option<&'static str> {
        (self == Self::TripleDes)
            .then_some("3DES has blocks of 64 bits and is for old peers only (RFC 8247 section 2.1)")
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
    /// As an integrity algorithm (RFC 2404, RFC 4868).
    pub(super) fn integ(self) -> IntegId {
        match self {
            Self::Sha1 => IntegId::HMAC_SHA1_96,
            Self::Sha1Whole => IntegId::HMAC_SHA1_160,
            Self::Sha256 => IntegId::HMAC_SHA2_256_128,
            Self::Sha384 => IntegId::HMAC_SHA2_384_192,
            Self::Sha512 => IntegId::HMAC_SHA2_512_256,
        }
    }

    /// As a pseudo-random function.
    pub(super) fn prf(self) -> PrfId {
        match self {
            Self::Sha1 | Self::Sha1Whole => PrfId::HMAC_SHA1,
            Self::Sha256 => PrfId::HMAC_SHA2_256,
            Self::Sha384 => PrfId::HMAC_SHA2_384,
            Self::Sha512 => PrfId::HMAC_SHA2_512,
        }
    }

    /// Why not.
    pub(super) fn advice(self) -> Option<&'static str> {
        matches!(self, Self::Sha1 | Self::Sha1Whole)
            .then_some("SHA-1 is on its way out and for old peers only (RFC 8247 sections 2.2 and 2.3)")
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

/// The names of the hashes, for messages.
pub(super) fn hashes() -> String {
    HASHES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The hash called `word`; the error is a message.
pub(super) fn hash(word: &str) -> Result<Hash, String> {
    let names = hashes();
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
    if let Some(group) = GROUPS.iter().find(|group| u64::from(group.id.0) == number) {
        return Ok(group.id);
    }
    let names: Vec<String> = GROUPS.iter().map(|group| format!("{} ({})", group.id.0, group.description)).collect();
    let names = names.join(", ");
    if GROUPS_ELSEWHERE.contains(&number) {
        return Err(format!("group {number} is known but not supported by this release; supported: {names}"));
    }
    Err(format!("unknown group {number}; expected one of {names}"))
}

/// Why not.
pub(super) fn group_advice(id: GroupId) -> Option<String> {
    let group = GROUPS.iter().find(|group| group.id == id)?;
    Some(format!("group {} ({}) {}", group.id.0, group.description, group.advice?))
}

/// Every group this release has: number, strength in bits of a symmetric key, description.
pub fn groups() -> impl Iterator<Item = (GroupId, u16, &'static str)> {
    GROUPS.iter().map(|group| (group.id, group.strength, group.description))
}

/// Every cipher this release has for IKE SAs, with its least and greatest key length where it has several.
pub fn ciphers() -> impl Iterator<Item = (EncrId, Option<(u16, u16)>)> {
    let mut kinds: Vec<CipherKind> = CIPHERS.iter().map(|(_, kind)| *kind).collect();
    kinds.sort_by_key(|kind| kind.with_key(256).id);
    kinds.dedup();
    kinds.into_iter().filter_map(|kind| {
        let (longest, shortest) = (*kind.lengths().first()?, *kind.lengths().last()?);
        Some((kind.with_key(longest).id, (shortest != longest).then_some((shortest, longest))))
    })
}

/// Every integrity algorithm this release has for IKE SAs.
pub fn integrity() -> impl Iterator<Item = IntegId> {
    let mut all: Vec<IntegId> = HASHES.iter().map(|(_, hash)| hash.integ()).collect();
    all.sort();
    all.dedup();
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Provider, Standard};

    #[test]
    fn ranges_choose_key_lengths_longest_first() {
        let bits = |low, high| Cipher::with_range(CipherKind::AesCbc, (low, high)).map(|cipher| cipher.transforms());
        assert_eq!(bits(128, 192), Ok(vec![Encr::aes_cbc(192), Encr::aes_cbc(128)]));
        assert_eq!(bits(256, 256), Ok(vec![Encr::aes_cbc(256)]));
        assert!(bits(256, 128).is_err());
        assert!(bits(129, 191).is_err());
        assert_eq!(
            Cipher::with_range(CipherKind::AesGcm(EncrId::AES_GCM_16), (128, 256)).unwrap().transforms(),
            [Encr::aes_gcm_16(256), Encr::aes_gcm_16(192), Encr::aes_gcm_16(128)]
        );
        assert_eq!(Cipher::whole(CipherKind::ChaCha20Poly1305).transforms(), [Encr::CHACHA20_POLY1305]);
    }

    #[test]
    fn known_but_unsupported_says_so() {
        for number in [1, 27, 30, 32] {
            assert!(group(number).unwrap_err().contains("known but not supported"), "{number}");
        }
        assert!(group(99).unwrap_err().contains("unknown group"));
        assert!(cipher("blowfish").unwrap_err().contains("known but not supported"));
        assert!(hash("md5").unwrap_err().contains("known but not supported"));
        assert_eq!(group(31), Ok(GroupId::CURVE25519));
    }

    /// Everything that can be written can be computed, and nothing else is there.
    #[test]
    fn names_and_cryptography_agree() {
        for number in 0..=u16::MAX {
            let id = GroupId(number);
            assert_eq!(group(u64::from(number)).is_ok(), Standard.public_len(id).is_some(), "{number}");
        }
        for (_, hash) in HASHES {
            assert!(Standard.prf(hash.prf()).is_some());
        }
        for (name, kind) in CIPHERS {
            for encr in Cipher::whole(*kind).transforms() {
                for (_, hash) in HASHES {
                    let integ = if kind.is_aead() { IntegId::NONE } else { hash.integ() };
                    assert!(Standard.protection(encr, integ).is_some(), "{name}");
                }
            }
        }
        assert_eq!((ciphers().count(), integrity().count(), groups().count()), (8, 5, 18));
    }

    /// ALG-12: RFC 8247 sections 2.1 to 2.4.
    #[test]
    fn alg_12_what_is_weak_has_advice() {
        let advised: Vec<u16> =
            groups().map(|(id, ..)| id).filter(|id| group_advice(*id).is_some()).map(|id| id.0).collect();
        assert_eq!(advised, [2, 5, 22, 23, 24, 25]);
        assert!(cipher("3des").unwrap().advice().is_some() && hash("sha1").unwrap().advice().is_some());
        assert!(cipher("aes").unwrap().advice().is_none() && hash("sha256").unwrap().advice().is_none());
    }
}

//! The one table of IPsec algorithms: numbers, names, key sizes, and which of them the data path implements.
//!
//! Numbers and names are those of spec section 4.8 (PF_KEY and IKEv2 share them); ChaCha20-Poly1305 (RFC 7634) is
//! added to that table. AH and ESP authentication share one half of the table, ESP encryption has the other. Names are
//! compared without regard to case; the first name of an entry is the one that is displayed.

use sadb_maps::sa::encr;

/// Which half of the table an algorithm belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// AH, and the authentication of ESP.
    Authentication,
    /// ESP encryption, combined-mode algorithms included.
    Encryption,
}

/// Key sizes in bits: every `step` from `min` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySizes {
    /// Least bits.
    pub min: u16,
    /// Greatest bits.
    pub max: u16,
    /// Distance between two sizes; 0 when there is one size only.
    pub step: u16,
    /// Size that is meant when none is given.
    pub default: u16,
}

impl KeySizes {
    const fn fixed(bits: u16) -> Self {
        Self { min: bits, max: bits, step: 0, default: bits }
    }

    const fn aes() -> Self {
        Self { min: 128, max: 256, step: 64, default: 128 }
    }

    /// Whether keys of `bits` bits exist.
    pub fn contains(&self, bits: u16) -> bool {
        bits == self.min || (bits > self.min && bits <= self.max && (bits - self.min).checked_rem(self.step) == Some(0))
    }

    /// Whether there is one size only.
    pub fn is_fixed(&self) -> bool {
        self.min == self.max
    }
}

/// What a combined-mode algorithm (RFC 5116) needs besides its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Combined {
    /// Octets of the ICV.
    pub icv: u8,
    /// Bits of salt that follow the key in keying material.
    pub salt_bits: u16,
}

/// One algorithm.
#[derive(Clone, Copy, Debug)]
pub struct Algorithm {
    /// Half of the table.
    pub kind: Kind,
    /// Number, on the wire of PF_KEY and IKEv2.
    pub id: u8,
    /// Names; the first is displayed.
    pub names: &'static [&'static str],
    /// Key sizes, salt not counted.
    pub key: KeySizes,
    /// Cipher block in octets, or the octets of the truncated MAC.
    pub block: u8,
    /// Present when the algorithm authenticates as well (AEAD); it is then also a counter mode.
    pub combined: Option<Combined>,
    /// Key sizes in bits that the data path of this release implements; empty when it does not have the algorithm.
    pub implemented: &'static [u16],
}

impl Algorithm {
    /// The name that is displayed.
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// Bits of salt that follow the key; 0 unless combined.
    pub fn salt_bits(&self) -> u16 {
        self.combined.map_or(0, |c| c.salt_bits)
    }

    /// Whether the data path has this algorithm for at least one key size from `low` to `high` bits.
    pub fn implements(&self, low: u16, high: u16) -> bool {
        self.implemented.iter().any(|bits| (low..=high).contains(bits))
    }
}

/// The number that stands for every algorithm of a kind.
pub const ANY: u8 = 0;

/// ESP_NULL (RFC 2410).
pub const ESP_NULL: u8 = encr::NULL;

const fn auth(id: u8, names: &'static [&'static str], bits: u16, mac: u8) -> Algorithm {
    Algorithm {
        kind: Kind::Authentication,
        id,
        names,
        key: KeySizes::fixed(bits),
        block: mac,
        combined: None,
        implemented: &[],
    }
}

const fn cipher(id: u8, names: &'static [&'static str], key: KeySizes, block: u8) -> Algorithm {
    Algorithm { kind: Kind::Encryption, id, names, key, block, combined: None, implemented: &[] }
}

const fn aead(
    id: u8,
    names: &'static [&'static str],
    key: KeySizes,
    icv: u8,
    salt_bits: u16,
    implemented: &'static [u16],
) -> Algorithm {
    Algorithm {
        kind: Kind::Encryption,
        id,
        names,
        key,
        block: 16,
        combined: Some(Combined { icv, salt_bits }),
        implemented,
    }
}

/// Every algorithm, in the order in which `any` expands.
pub const ALGORITHMS: &[Algorithm] = &[
    auth(2, &["hmac-md5", "md5"], 128, 12),
    auth(3, &["hmac-sha1", "sha", "sha1", "sha-1", "hmac-sha", "hmac-sha-1"], 160, 12),
    auth(5, &["hmac-sha256", "sha256", "sha-256", "hmac-sha-256"], 256, 16),
    auth(6, &["hmac-sha384", "sha384", "sha-384", "hmac-sha-384"], 384, 24),
    auth(7, &["hmac-sha512", "sha512", "sha-512", "hmac-sha-512"], 512, 32),
    cipher(2, &["des-cbc", "des"], KeySizes::fixed(64), 8),
    cipher(3, &["3des-cbc", "3des"], KeySizes::fixed(192), 8),
    cipher(7, &["blowfish-cbc", "blowfish"], KeySizes { min: 32, max: 448, step: 8, default: 128 }, 8),
    cipher(ESP_NULL, &["null"], KeySizes::fixed(0), 1),
    cipher(12, &["aes-cbc", "aes"], KeySizes::aes(), 16),
    aead(14, &["aes-ccm8"], KeySizes::aes(), 8, 24, &[]),
    aead(15, &["aes-ccm12"], KeySizes::aes(), 12, 24, &[]),
    aead(16, &["aes-ccm", "aes-ccm16"], KeySizes::aes(), 16, 24, &[]),
    aead(18, &["aes-gcm8"], KeySizes::aes(), 8, 32, &[]),
    aead(19, &["aes-gcm12"], KeySizes::aes(), 12, 32, &[]),
    aead(encr::AES_GCM_16, &["aes-gcm", "aes-gcm16"], KeySizes::aes(), 16, 32, &[128, 256]),
    aead(encr::CHACHA20_POLY1305, &["chacha20-poly1305", "chacha20poly1305"], KeySizes::fixed(256), 16, 32, &[256]),
];

/// The algorithms of one kind.
pub fn of_kind(kind: Kind) -> impl Iterator<Item = &'static Algorithm> {
    ALGORITHMS.iter().filter(move |a| a.kind == kind)
}

/// The algorithm with this number.
pub fn by_id(kind: Kind, id: u8) -> Option<&'static Algorithm> {
    of_kind(kind).find(|a| a.id == id)
}

/// The algorithm with this name, without regard to case.
pub fn by_name(kind: Kind, name: &str) -> Option<&'static Algorithm> {
    of_kind(kind).find(|a| a.names.iter().any(|n| n.eq_ignore_ascii_case(name)))
}

/// The displayed name of a number; `<unknown N>` when the table lacks it.
pub fn display_name(kind: Kind, id: u8) -> String {
    match by_id(kind, id) {
        Some(algorithm) => algorithm.name().to_owned(),
        None if id == ANY && kind == Kind::Authentication => "none".to_owned(),
        None => format!("<unknown {id}>"),
    }
}

/// Displayed names of what the data path implements, joined by commas: the tail of "not implemented" errors.
pub fn implemented_names() -> String {
    ALGORITHMS.iter().filter(|a| !a.implemented.is_empty()).map(Algorithm::name).collect::<Vec<_>>().join(", ")
}

/// An algorithm, or a key size of it, is known but the data path has no code for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not implemented by the data path of this release; use one of: {list}",
    list = implemented_names()
)]
pub struct NotImplemented(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_within_a_kind() {
        for kind in [Kind::Authentication, Kind::Encryption] {
            for a in of_kind(kind) {
                assert_eq!(of_kind(kind).filter(|b| b.id == a.id).count(), 1, "{}", a.name());
                for name in a.names {
                    assert_eq!(by_name(kind, &name.to_uppercase()).unwrap().id, a.id);
                    assert_eq!(of_kind(kind).filter(|b| b.names.contains(name)).count(), 1, "{name}");
                }
            }
        }
    }

    #[test]
    fn key_sizes_follow_their_step() {
        let aes = by_name(Kind::Encryption, "aes").unwrap().key;
        assert!([128, 192, 256].iter().all(|b| aes.contains(*b)));
        assert!([0, 64, 127, 160, 257, 320].iter().all(|b| !aes.contains(*b)));
        let des = by_name(Kind::Encryption, "des").unwrap().key;
        assert!(des.contains(64) && !des.contains(56) && !des.contains(128));
        let null = by_id(Kind::Encryption, ESP_NULL).unwrap().key;
        assert!(null.contains(0) && !null.contains(8));
    }

    #[test]
    fn what_is_implemented_is_a_key_size_of_the_algorithm() {
        for a in ALGORITHMS {
            assert!(a.implemented.iter().all(|bits| a.key.contains(*bits)), "{}", a.name());
        }
        assert_eq!(implemented_names(), "aes-gcm, chacha20-poly1305");
        let gcm = by_name(Kind::Encryption, "aes-gcm").unwrap();
        assert!(gcm.implements(128, 256) && !gcm.implements(192, 192));
    }
}

//! What the data path can do: numbers, names, key sizes, and which algorithms `any` stands for.
//!
//! Numbers and names are those of spec section 4.8 (PF_KEY and IKEv2 share them); ChaCha20-Poly1305 (RFC 7634), AES-CTR
//! (RFC 3686) and AES-GMAC (RFC 4543) are added to that table. AH and ESP authentication share one half of the table, ESP
//! encryption has the other. Names are compared without regard to case; the first name of an entry is the one that is
//! displayed.

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

    /// Every size, least first.
    pub fn sizes(&self) -> impl Iterator<Item = u16> {
        (self.min..=self.max).step_by(usize::from(self.step.max(1)))
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

/// One algorithm.
#[derive(Clone, Copy, Debug)]
pub struct Algorithm {
    /// Half of the table.
    pub kind: Kind,
    /// Number, on the wire of PF_KEY and IKEv2.
    pub id: u8,
    /// Names; the first is displayed.
    pub names: &'static [&'static str],
    /// Mechanism in the words of PKCS #11, as ipsecalgs(8) shows it; `-` for none.
    pub mechanism: &'static str,
    /// Key sizes, salt not counted.
    pub key: KeySizes,
    /// Cipher block in octets, or the octets of the truncated MAC.
    pub block: u8,
    /// Bits of salt that follow the key in keying material: of counter modes.
    pub salt_bits: u16,
    /// Octets of the ICV when the algorithm authenticates as well (AEAD, RFC 5116).
    pub combined: Option<u8>,
    /// Whether `any` stands for it as well: what RFC 8221 asks of every implementation and does not deprecate.
    pub advised: bool,
}

impl Algorithm {
    /// The name that is displayed.
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// What to say to whoever configures an algorithm that RFC 8221 sections 5 and 6 ask not to use any more.
    pub fn deprecated(&self) -> Option<String> {
        let (words, instead) = match (self.kind, self.id) {
            (Kind::Encryption, encr::DES_CBC | encr::BLOWFISH_CBC) => ("must not", "aes-gcm or chacha20-poly1305"),
            (Kind::Encryption, encr::TRIPLE_DES_CBC) => ("should not", "aes-gcm or chacha20-poly1305"),
            (Kind::Authentication, HMAC_MD5) => ("must not", "hmac-sha256"),
            _ => return None,
        };
        Some(format!("{} {words} be used any more (RFC 8221): {instead} instead", self.name()))
    }
}

/// The number that stands for every algorithm of a kind.
pub const ANY: u8 = 0;

/// HMAC-MD5-96 (RFC 2403).
const HMAC_MD5: u8 = 2;

/// ESP_NULL (RFC 2410).
pub const ESP_NULL: u8 = encr::NULL;

const fn auth(
    id: u8,
    names: &'static [&'static str],
    mechanism: &'static str,
    bits: u16,
    mac: u8,
    advised: bool,
) -> Algorithm {
    Algorithm {
        kind: Kind::Authentication,
        id,
        names,
        mechanism,
        key: KeySizes::fixed(bits),
        block: mac,
        salt_bits: 0,
        combined: None,
        advised,
    }
}

const fn cipher(
    id: u8,
    names: &'static [&'static str],
    mechanism: &'static str,
    key: KeySizes,
    block: u8,
    advised: bool,
) -> Algorithm {
    Algorithm { kind: Kind::Encryption, id, names, mechanism, key, block, salt_bits: 0, combined: None, advised }
}

const fn aead(
    id: u8,
    names: &'static [&'static str],
    mechanism: &'static str,
    key: KeySizes,
    icv: u8,
    salt_bits: u16,
    advised: bool,
) -> Algorithm {
    Algorithm { kind: Kind::Encryption, id, names, mechanism, key, block: 16, salt_bits, combined: Some(icv), advised }
}

/// Every algorithm, in the order in which `any` expands.
pub const ALGORITHMS: &[Algorithm] = &[
    auth(HMAC_MD5, &["hmac-md5", "md5"], "CKM_MD5_HMAC_GENERAL", 128, 12, false),
    auth(3, &["hmac-sha1", "sha", "sha1", "sha-1", "hmac-sha", "hmac-sha-1"], "CKM_SHA_1_HMAC_GENERAL", 160, 12, true),
    auth(5, &["hmac-sha256", "sha256", "sha-256", "hmac-sha-256"], "CKM_SHA256_HMAC_GENERAL", 256, 16, true),
    auth(6, &["hmac-sha384", "sha384", "sha-384", "hmac-sha-384"], "CKM_SHA384_HMAC_GENERAL", 384, 24, true),
    auth(7, &["hmac-sha512", "sha512", "sha-512", "hmac-sha-512"], "CKM_SHA512_HMAC_GENERAL", 512, 32, true),
    cipher(encr::DES_CBC, &["des-cbc", "des"], "CKM_DES_CBC", KeySizes::fixed(64), 8, false),
    cipher(encr::TRIPLE_DES_CBC, &["3des-cbc", "3des"], "CKM_DES3_CBC", KeySizes::fixed(192), 8, false),
    cipher(
        encr::BLOWFISH_CBC,
        &["blowfish-cbc", "blowfish"],
        "CKM_BLOWFISH_CBC",
        KeySizes { min: 32, max: 448, step: 8, default: 128 },
        8,
        false,
    ),
    cipher(ESP_NULL, &["null"], "-", KeySizes::fixed(0), 1, false),
    cipher(encr::AES_CBC, &["aes-cbc", "aes"], "CKM_AES_CBC", KeySizes::aes(), 16, true),
    Algorithm { salt_bits: 32, ..cipher(encr::AES_CTR, &["aes-ctr"], "CKM_AES_CTR", KeySizes::aes(), 1, false) },
    aead(encr::AES_CCM_8, &["aes-ccm8"], "CKM_AES_CCM", KeySizes::aes(), 8, 24, false),
    aead(encr::AES_CCM_12, &["aes-ccm12"], "CKM_AES_CCM", KeySizes::aes(), 12, 24, false),
    aead(encr::AES_CCM_16, &["aes-ccm", "aes-ccm16"], "CKM_AES_CCM", KeySizes::aes(), 16, 24, false),
    aead(encr::AES_GCM_8, &["aes-gcm8"], "CKM_AES_GCM", KeySizes::aes(), 8, 32, false),
    aead(encr::AES_GCM_12, &["aes-gcm12"], "CKM_AES_GCM", KeySizes::aes(), 12, 32, false),
    aead(encr::AES_GCM_16, &["aes-gcm", "aes-gcm16"], "CKM_AES_GCM", KeySizes::aes(), 16, 32, true),
    aead(encr::NULL_AES_GMAC, &["aes-gmac"], "CKM_AES_GMAC", KeySizes::aes(), 16, 32, false),
    aead(
        encr::CHACHA20_POLY1305,
        &["chacha20-poly1305", "chacha20poly1305"],
        "CKM_CHACHA20_POLY1305",
        KeySizes::fixed(256),
        16,
        32,
        true,
    ),
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

    /// Every number of the table is one that the data path has.
    #[test]
    fn any_stands_for_what_rfc_8221_advises() {
        let advised = |kind| of_kind(kind).filter(|a| a.advised).map(Algorithm::name).collect::<Vec<_>>().join(" ");
        assert_eq!(advised(Kind::Authentication), "hmac-sha1 hmac-sha256 hmac-sha384 hmac-sha512");
        assert_eq!(advised(Kind::Encryption), "aes-cbc aes-gcm chacha20-poly1305");
    }
}

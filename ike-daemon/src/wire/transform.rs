//! Transform identifiers of the SA payload: the IANA "Internet Key Exchange Version 2 (IKEv2) Parameters" registries that
//! RFC 7296 section 3.3.2 opened. Numbers only; what this build can compute with them is known to [`crate::crypto`].

use std::fmt;

macro_rules! registry {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $konst:ident = $value:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(
            /// The number in the registry.
            pub u16,
        );

        impl $name {
            $($(#[$vdoc])* pub const $konst: Self = Self($value);)*

            /// The name the registry gives, or `None` for a number this build does not know.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$konst => Some($text),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "<unknown {}>", self.0),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

registry! {
    /// Transform type 1: encryption algorithm.
    EncrId {
        /// DES in CBC mode (RFC 2405).
        DES = 2, "DES-CBC";
        /// Triple DES in CBC mode (RFC 2451).
        TRIPLE_DES = 3, "3DES-CBC";
        /// Blowfish in CBC mode (RFC 2451); 128 bits without key length attribute.
        BLOWFISH = 7, "BLOWFISH-CBC";
        /// No encryption (ESP only; never without integrity).
        NULL = 11, "NULL";
        /// AES in CBC mode; key length attribute required.
        AES_CBC = 12, "AES-CBC";
        /// AES in counter mode (RFC 3686); key length attribute required.
        AES_CTR = 13, "AES-CTR";
        /// AES-CCM with an 8-octet ICV (RFC 4309); key length attribute required.
        AES_CCM_8 = 14, "AES-CCM-8";
        /// AES-CCM with a 12-octet ICV.
        AES_CCM_12 = 15, "AES-CCM-12";
        /// AES-CCM with a 16-octet ICV.
        AES_CCM_16 = 16, "AES-CCM-16";
        /// AES-GCM with an 8-octet ICV.
        AES_GCM_8 = 18, "AES-GCM-8";
        /// AES-GCM with a 12-octet ICV.
        AES_GCM_12 = 19, "AES-GCM-12";
        /// AES-GCM with a 16-octet ICV (RFC 4106, RFC 5282); key length attribute required.
        AES_GCM_16 = 20, "AES-GCM-16";
        /// AES-GMAC, which authenticates and does not encipher (RFC 4543); key length attribute required.
        NULL_AES_GMAC = 21, "NULL-AES-GMAC";
        /// ChaCha20-Poly1305 (RFC 7634); no key length attribute.
        CHACHA20_POLY1305 = 28, "CHACHA20-POLY1305";
    }
}

registry! {
    /// Transform type 2: pseudo-random function.
    PrfId {
        /// HMAC-SHA-1 (RFC 2104).
        HMAC_SHA1 = 2, "HMAC-SHA1";
        /// HMAC-SHA-256.
        HMAC_SHA2_256 = 5, "HMAC-SHA2-256";
        /// HMAC-SHA-384.
        HMAC_SHA2_384 = 6, "HMAC-SHA2-384";
        /// HMAC-SHA-512.
        HMAC_SHA2_512 = 7, "HMAC-SHA2-512";
    }
}

registry! {
    /// Transform type 3: integrity algorithm.
    IntegId {
        /// No integrity transform: what an AEAD cipher goes with.
        NONE = 0, "NONE";
        /// HMAC-MD5 cut to 96 bits (RFC 2403).
        HMAC_MD5_96 = 1, "HMAC-MD5-96";
        /// HMAC-SHA-1 cut to 96 bits (RFC 2404).
        HMAC_SHA1_96 = 2, "HMAC-SHA1-96";
        /// HMAC-SHA-1 whole, 160 bits (RFC 4595); for IKE SAs only.
        HMAC_SHA1_160 = 7, "HMAC-SHA1-160";
        /// HMAC-SHA-256 cut to 128 bits (RFC 4868).
        HMAC_SHA2_256_128 = 12, "HMAC-SHA2-256-128";
        /// HMAC-SHA-384 cut to 192 bits (RFC 4868).
        HMAC_SHA2_384_192 = 13, "HMAC-SHA2-384-192";
        /// HMAC-SHA-512 cut to 256 bits (RFC 4868).
        HMAC_SHA2_512_256 = 14, "HMAC-SHA2-512-256";
    }
}

registry! {
    /// Transform type 4: key exchange group.
    GroupId {
        /// No key exchange (CREATE_CHILD_SA only).
        NONE = 0, "NONE";
        /// 768-bit MODP; known by name only.
        MODP_768 = 1, "MODP-768";
        /// 1024-bit MODP (RFC 2409 section 6.2).
        MODP_1024 = 2, "MODP-1024";
        /// 1536-bit MODP (RFC 3526).
        MODP_1536 = 5, "MODP-1536";
        /// 2048-bit MODP (RFC 3526).
        MODP_2048 = 14, "MODP-2048";
        /// 3072-bit MODP (RFC 3526).
        MODP_3072 = 15, "MODP-3072";
        /// 4096-bit MODP (RFC 3526).
        MODP_4096 = 16, "MODP-4096";
        /// 6144-bit MODP (RFC 3526).
        MODP_6144 = 17, "MODP-6144";
        /// 8192-bit MODP (RFC 3526).
        MODP_8192 = 18, "MODP-8192";
        /// 256-bit random ECP, P-256 (RFC 5903).
        ECP_256 = 19, "ECP-256";
        /// 384-bit random ECP, P-384 (RFC 5903).
        ECP_384 = 20, "ECP-384";
        /// 521-bit random ECP, P-521 (RFC 5903).
        ECP_521 = 21, "ECP-521";
        /// 1024-bit MODP with a subgroup of 160 bits (RFC 5114).
        MODP_1024_160 = 22, "MODP-1024-160";
        /// 2048-bit MODP with a subgroup of 224 bits (RFC 5114).
        MODP_2048_224 = 23, "MODP-2048-224";
        /// 2048-bit MODP with a subgroup of 256 bits (RFC 5114).
        MODP_2048_256 = 24, "MODP-2048-256";
        /// 192-bit random ECP, P-192 (RFC 5114).
        ECP_192 = 25, "ECP-192";
        /// 224-bit random ECP, P-224 (RFC 5114).
        ECP_224 = 26, "ECP-224";
        /// brainpoolP224r1 (RFC 6954); known by name only.
        BRAINPOOL_P224 = 27, "BRAINPOOL-P224R1";
        /// brainpoolP256r1 (RFC 6954).
        BRAINPOOL_P256 = 28, "BRAINPOOL-P256R1";
        /// brainpoolP384r1 (RFC 6954).
        BRAINPOOL_P384 = 29, "BRAINPOOL-P384R1";
        /// brainpoolP512r1 (RFC 6954); known by name only.
        BRAINPOOL_P512 = 30, "BRAINPOOL-P512R1";
        /// Curve25519 (RFC 8031).
        CURVE25519 = 31, "CURVE25519";
        /// Curve448 (RFC 8031); known by name only.
        CURVE448 = 32, "CURVE448";
    }
}

/// An encryption algorithm with its key length, as one transform of a proposal says it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Encr {
    /// Which cipher.
    pub id: EncrId,
    /// Key length in bits, without the salt of an AEAD; `None` for ciphers with one fixed length (RFC 7296 section 3.3.5).
    pub key_bits: Option<u16>,
}

impl Encr {
    /// AES-GCM with a 16-octet ICV and a key of `key_bits` bits.
    pub const fn aes_gcm_16(key_bits: u16) -> Self {
        Self { id: EncrId::AES_GCM_16, key_bits: Some(key_bits) }
    }

    /// AES-CBC with a key of `key_bits` bits.
    pub const fn aes_cbc(key_bits: u16) -> Self {
        Self { id: EncrId::AES_CBC, key_bits: Some(key_bits) }
    }

    /// ChaCha20-Poly1305, whose key always has 256 bits.
    pub const CHACHA20_POLY1305: Self = Self { id: EncrId::CHACHA20_POLY1305, key_bits: None };

    /// Whether the cipher authenticates by itself and so excludes an integrity transform (RFC 5282 section 8).
    pub fn is_aead(self) -> bool {
        matches!(
            self.id,
            EncrId::AES_CCM_8
                | EncrId::AES_CCM_12
                | EncrId::AES_CCM_16
                | EncrId::AES_GCM_8
                | EncrId::AES_GCM_12
                | EncrId::AES_GCM_16
                | EncrId::NULL_AES_GMAC
                | EncrId::CHACHA20_POLY1305
        )
    }

    /// Whether both are one cipher with one key length: Blowfish has 128 bits where no attribute says otherwise
    /// (RFC 7296 section 3.3.5, RFC 2451 section 2.3).
    pub fn means(self, other: Self) -> bool {
        let bits = |encr: Self| if encr.id == EncrId::BLOWFISH { encr.key_bits.or(Some(128)) } else { encr.key_bits };
        self.id == other.id && bits(self) == bits(other)
    }
}

impl fmt::Display for Encr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key_bits {
            Some(bits) => write!(f, "{}({bits})", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

//! The transforms of ESP and AH by name: what each wants of a packet and of a key. Numbers on the wire and in the maps are
//! not known here.

/// Which way an SA works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Outbound.
    Encrypt,
    /// Inbound.
    Decrypt,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Encrypt => Self::Decrypt,
            Self::Decrypt => Self::Encrypt,
        }
    }
}

/// What enciphers the payload of ESP, and whether that authenticates as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Nothing (RFC 2410).
    Null,
    /// DES-CBC (RFC 2405).
    DesCbc,
    /// Triple DES-CBC (RFC 2451).
    TripleDesCbc,
    /// Blowfish-CBC (RFC 2451).
    BlowfishCbc,
    /// AES-CBC (RFC 3602).
    AesCbc,
    /// AES-CTR (RFC 3686).
    AesCtr,
    /// AES-CCM (RFC 4309).
    AesCcm,
    /// AES-GCM (RFC 4106).
    AesGcm,
    /// AES-GMAC, which enciphers nothing (RFC 4543).
    AesGmac,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305,
}

impl Encryption {
    /// Octets of the explicit IV.
    #[must_use]
    pub const fn iv_len(self) -> u32 {
        match self {
            Self::Null => 0,
            Self::AesCbc => 16,
            _ => 8,
        }
    }

    /// What the length of the ciphertext is a multiple of, in octets.
    #[must_use]
    pub const fn align(self) -> u32 {
        match self {
            Self::AesCbc => 16,
            Self::DesCbc | Self::TripleDesCbc | Self::BlowfishCbc => 8,
            _ => 4,
        }
    }

    /// Whether the transform authenticates what it enciphers, so that no other may.
    #[must_use]
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::AesCcm | Self::AesGcm | Self::AesGmac | Self::ChaCha20Poly1305)
    }

    /// Octets of salt or nonce that keying material has behind the key.
    #[must_use]
    pub const fn salt_len(self) -> u32 {
        match self {
            Self::AesCcm => 3,
            Self::AesCtr | Self::AesGcm | Self::AesGmac | Self::ChaCha20Poly1305 => 4,
            _ => 0,
        }
    }

    /// Whether an ICV of so many octets goes with it; with 0 for what does not authenticate.
    #[must_use]
    pub const fn takes_icv_len(self, len: u32) -> bool {
        match self {
            Self::AesCcm | Self::AesGcm => matches!(len, 8 | 12 | 16),
            Self::AesGmac | Self::ChaCha20Poly1305 => len == 16,
            _ => len == 0,
        }
    }

    /// Whether a key of so many octets, salt not counted, goes with it.
    #[must_use]
    pub const fn takes_key_len(self, len: usize) -> bool {
        match self {
            Self::Null => len == 0,
            Self::DesCbc => len == 8,
            Self::TripleDesCbc => len == 24,
            Self::BlowfishCbc => 4 <= len && len <= 56,
            Self::ChaCha20Poly1305 => len == 32,
            Self::AesCbc | Self::AesCtr | Self::AesCcm | Self::AesGcm | Self::AesGmac => matches!(len, 16 | 24 | 32),
        }
    }

    /// The number of the first block of key stream that meets the message, for the modes that count; the one before it,
    /// where there is one, masks the ICV.
    #[must_use]
    pub const fn first_block(self) -> u32 {
        match self {
            Self::AesGcm | Self::AesGmac => 2,
            _ => 1,
        }
    }
}

/// What authenticates an ESP packet apart from its encryption, or an AH packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Nothing: the encryption does it.
    None,
    /// HMAC-MD5-96 (RFC 2403).
    HmacMd5,
    /// HMAC-SHA1-96 (RFC 2404).
    HmacSha1,
    /// HMAC-SHA2-256-128 (RFC 4868).
    HmacSha256,
    /// HMAC-SHA2-384-192 (RFC 4868).
    HmacSha384,
    /// HMAC-SHA2-512-256 (RFC 4868).
    HmacSha512,
    /// AES-XCBC-MAC-96 (RFC 3566).
    AesXcbc,
    /// AES-CMAC-96 (RFC 4494).
    AesCmac,
}

impl Authentication {
    /// Octets of the ICV.
    #[must_use]
    pub const fn icv_len(self) -> u32 {
        match self {
            Self::None => 0,
            Self::HmacMd5 | Self::HmacSha1 | Self::AesXcbc | Self::AesCmac => 12,
            Self::HmacSha256 => 16,
            Self::HmacSha384 => 24,
            Self::HmacSha512 => 32,
        }
    }

    /// Octets of the key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::None => 0,
            Self::HmacMd5 | Self::AesXcbc | Self::AesCmac => 16,
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }
}

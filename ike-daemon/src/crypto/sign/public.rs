//! Public keys out of a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7, RFC 5480, RFC 8410), and verification.

use std::fmt;

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::{Decode, Sequence, Tag, Tagged};
use p521::elliptic_curve::sec1::ToSec1Point;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::{BadSignature, EcdsaForm, HashAlgorithm, Scheme};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
pub(super) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(super) const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
pub(super) const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

/// RSA moduli that are used, in bits (RFC 8247 section 4.1.1: not below 2048).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Octets of an RSA exponent: above, verification takes long for no gain.
const MAX_EXPONENT: usize = 4;

/// Which family a key belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KeyKind {
    /// RSA, for PKCS#1 v1.5 and PSS.
    Rsa,
    /// A NIST curve.
    Ecdsa,
    /// Ed25519.
    Eddsa,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "RSA",
            Self::Ecdsa => "ECDSA",
            Self::Eddsa => "EdDSA",
        })
    }
}

/// A key that verifies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PublicKey {
    /// RSAPublicKey in DER (RFC 8017 appendix A.1.1).
    Rsa(Vec<u8>),
    /// A point of P-256, uncompressed.
    P256(Vec<u8>),
    /// A point of P-384, uncompressed.
    P384(Vec<u8>),
    /// A point of P-521, uncompressed.
    P521(Vec<u8>),
    /// The 32 octets of an Ed25519 key.
    Ed25519(Vec<u8>),
}

/// A public key that is not used (CRT-08).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PublicKeyError {
    /// Another algorithm.
    #[error("keys of algorithm {0} are not supported")]
    Algorithm(ObjectIdentifier),
    /// Another curve, or its parameters written out.
    #[error("the curve is none of P-256, P-384 and P-521")]
    Curve,
    /// No key.
    #[error("the public key is malformed")]
    Malformed,
    /// A modulus that is too small or too big.
    #[error("an RSA key of {0} bits; expected 2048 to 8192")]
    RsaBits(usize),
    /// A modulus or exponent that is even, or an exponent that is too small or too big.
    #[error("an RSA key with an impossible modulus or exponent")]
    RsaNumbers,
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl PublicKey {
    /// Takes a key over from a certificate.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub fn of(info: &SubjectPublicKeyInfoRef<'_>) -> Result<Self, PublicKeyError> {
        let octets = bits(&info.subject_public_key)?;
        let parameters = info.algorithm.parameters;
        match info.algorithm.oid {
            RSA => {
                if parameters.is_some_and(|p| p.tag() != Tag::Null) {
                    return Err(PublicKeyError::Malformed);
                }
                Self::rsa(octets)
            }
            EC => {
                let curve = parameters.and_then(|p: AnyRef<'_>| p.decode_as::<ObjectIdentifier>().ok());
                Self::point(curve.ok_or(PublicKeyError::Curve)?, octets)
            }
            ED25519 if parameters.is_none() && octets.len() == 32 => Ok(Self::Ed25519(octets.to_vec())),
            ED25519 => Err(PublicKeyError::Malformed),
            other => Err(PublicKeyError::Algorithm(other)),
        }
    }

    /// An RSA key from RSAPublicKey in DER.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub(super) fn rsa(octets: &[u8]) -> Result<Self, PublicKeyError> {
        let key = RsaPublicKey::from_der(octets).map_err(|_| PublicKeyError::Malformed)?;
        let modulus = key.modulus.as_bytes();
        let exponent = key.exponent.as_bytes();
        let leading = modulus.first().map_or(0, |octet| octet.leading_zeros());
        let bits = (modulus.len() * 8).saturating_sub(usize::try_from(leading).unwrap_or(0));
        if !RSA_BITS.contains(&bits) {
            return Err(PublicKeyError::RsaBits(bits));
        }
        let odd = |number: &[u8]| number.last().is_some_and(|octet| octet & 1 == 1);
        let fits = odd(modulus) && odd(exponent) && exponent.len() <= MAX_EXPONENT && exponent != [1];
        if fits { Ok(Self::Rsa(octets.to_vec())) } else { Err(PublicKeyError::RsaNumbers) }
    }

    /// A point of the curve that `curve` names, compressed or not.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub(super) fn point(curve: ObjectIdentifier, octets: &[u8]) -> Result<Self, PublicKeyError> {
        let bad = |_| PublicKeyError::Malformed;
        match curve {
            P256 => p256::PublicKey::from_sec1_bytes(octets)
                .map(|key| Self::P256(key.to_sec1_point(false).as_bytes().to_vec()))
                .map_err(bad),
            P384 => p384::PublicKey::from_sec1_bytes(octets)
                .map(|key| Self::P384(key.to_sec1_point(false).as_bytes().to_vec()))
                .map_err(bad),
            P521 => p521::PublicKey::from_sec1_bytes(octets)
                .map(|key| Self::P521(key.to_sec1_point(false).as_bytes().to_vec()))
                .map_err(bad),
            _ => Err(PublicKeyError::Curve),
        }
    }

    /// The family.
    pub fn kind(&self) -> KeyKind {
        match self {
            Self::Rsa(_) => KeyKind::Rsa,
            Self::P256(_) | Self::P384(_) | Self::P521(_) => KeyKind::Ecdsa,
            Self::Ed25519(_) => KeyKind::Eddsa,
        }
    }

    /// Whether the algorithm is one of this key (SIG-03).
    pub fn can(&self, scheme: Scheme) -> bool {
        let kind = match scheme {
            Scheme::RsaPkcs1(_) | Scheme::RsaPss(_) => KeyKind::Rsa,
            Scheme::Ecdsa(_) => KeyKind::Ecdsa,
            Scheme::Ed25519 => KeyKind::Eddsa,
        };
        kind == self.kind()
    }

    /// Verifies a signature as X.509 and method 14 write it. SHA-1 only serves RSA with PKCS#1 v1.5; whoever calls decides
    /// whether it may.
    ///
    /// # Errors
    /// [`BadSignature`], also where the algorithm is none of this key.
    pub fn verify(&self, scheme: Scheme, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        self.verify_as(scheme, EcdsaForm::Der, message, signature)
    }

    /// The same for an ECDSA signature in either form.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify_as(
        &self,
        scheme: Scheme,
        form: EcdsaForm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        if let Some((algorithm, key)) = self.by_ring(scheme, form) {
            return UnparsedPublicKey::new(algorithm, key).verify(message, signature).map_err(|_| BadSignature);
        }
        let Scheme::Ecdsa(hash) = scheme else { return Err(BadSignature) };
        if hash == HashAlgorithm::Sha1 {
            return Err(BadSignature);
        }
        let digest = hash.digest(message);
        macro_rules! verify {
            ($curve:ident, $key:expr) => {{
                use $curve::ecdsa::signature::hazmat::PrehashVerifier;
                let signature = match form {
                    EcdsaForm::Der => $curve::ecdsa::Signature::from_der(signature),
                    EcdsaForm::Fixed => $curve::ecdsa::Signature::from_slice(signature),
                };
                let key = $curve::ecdsa::VerifyingKey::from_sec1_bytes($key).map_err(|_| BadSignature)?;
                let signature = signature.map_err(|_| BadSignature)?;
                key.verify_prehash(digest.as_ref(), &signature).map_err(|_| BadSignature)
            }};
        }
        match self {
            Self::P256(key) => verify!(p256, key),
            Self::P384(key) => verify!(p384, key),
            Self::P521(key) => verify!(p521, key),
            Self::Rsa(_) | Self::Ed25519(_) => Err(BadSignature),
        }
    }

    fn by_ring(&self, scheme: Scheme, form: EcdsaForm) -> Option<(&'static dyn VerificationAlgorithm, &[u8])> {
        use HashAlgorithm::{Sha1, Sha256, Sha384, Sha512};
        let algorithm: &'static dyn VerificationAlgorithm = match (self, scheme, form) {
            (Self::Rsa(_), Scheme::RsaPkcs1(Sha1), _) => &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            (Self::Rsa(_), Scheme::RsaPkcs1(Sha256), _) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Self::Rsa(_), Scheme::RsaPkcs1(Sha384), _) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Self::Rsa(_), Scheme::RsaPkcs1(Sha512), _) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Self::Rsa(_), Scheme::RsaPss(Sha256), _) => &signature::RSA_PSS_2048_8192_SHA256,
            (Self::Rsa(_), Scheme::RsaPss(Sha384), _) => &signature::RSA_PSS_2048_8192_SHA384,
            (Self::Rsa(_), Scheme::RsaPss(Sha512), _) => &signature::RSA_PSS_2048_8192_SHA512,
            (Self::P256(_), Scheme::Ecdsa(Sha256), EcdsaForm::Der) => &signature::ECDSA_P256_SHA256_ASN1,
            (Self::P256(_), Scheme::Ecdsa(Sha256), EcdsaForm::Fixed) => &signature::ECDSA_P256_SHA256_FIXED,
            (Self::P384(_), Scheme::Ecdsa(Sha384), EcdsaForm::Der) => &signature::ECDSA_P384_SHA384_ASN1,
            (Self::P384(_), Scheme::Ecdsa(Sha384), EcdsaForm::Fixed) => &signature::ECDSA_P384_SHA384_FIXED,
            (Self::Ed25519(_), Scheme::Ed25519, _) => &signature::ED25519,
            _ => return None,
        };
        Some((algorithm, self.octets()))
    }

    fn octets(&self) -> &[u8] {
        match self {
            Self::Rsa(octets)
            | Self::P256(octets)
            | Self::P384(octets)
            | Self::P521(octets)
            | Self::Ed25519(octets) => octets,
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(octets) => match RsaPublicKey::from_der(octets) {
                Ok(key) => write!(f, "RSA-{}", key.modulus.as_bytes().len() * 8),
                Err(_) => f.write_str("RSA"),
            },
            Self::P256(_) => f.write_str("ECDSA P-256"),
            Self::P384(_) => f.write_str("ECDSA P-384"),
            Self::P521(_) => f.write_str("ECDSA P-521"),
            Self::Ed25519(_) => f.write_str("Ed25519"),
        }
    }
}

fn bits<'a>(string: &BitStringRef<'a>) -> Result<&'a [u8], PublicKeyError> {
    string.as_bytes().ok_or(PublicKeyError::Malformed)
}

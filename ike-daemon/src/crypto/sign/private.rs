//! Private keys: PKCS#8 (RFC 5958), SEC1 (RFC 5915) and PKCS#1 (RFC 8017 appendix A.1.2), in PEM or DER, and signing.
//!
//! The octets that were read are wiped by their owner. What ring makes of them it keeps to itself, and does not wipe.

use std::fmt;

use der::Decode;
use der::asn1::ObjectIdentifier;
use p521::elliptic_curve::sec1::ToSec1Point;
use p521::pkcs8::PrivateKeyInfoRef;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use sec1::EcPrivateKey;
use zeroize::Zeroizing;

use super::public::{P256, P384, P521};
use super::{EcdsaForm, HashAlgorithm, PublicKey, Scheme};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A private key that is not used. Never says anything about the key's octets.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// None of the three forms.
    #[error("expected a private key: PKCS#8, SEC1 or PKCS#1, in PEM or DER")]
    Malformed,
    /// PEM with encryption.
    #[error("the key is encrypted; write it without a passphrase, readable by nobody else: openssl pkey -in FILE")]
    Encrypted,
    /// Another algorithm.
    #[error("keys of algorithm {0} are not supported")]
    Algorithm(ObjectIdentifier),
    /// Another curve, or none said.
    #[error("the curve is none of P-256, P-384 and P-521")]
    Curve,
    /// The library refuses it: RSA of less than 2048 or more than 4096 bits, or numbers that do not belong together.
    #[error("the key is refused: {0}")]
    Refused(String),
    /// The library could not sign with this algorithm.
    #[error("cannot sign")]
    Sign,
}

enum Inner {
    Rsa(Box<RsaKeyPair>),
    /// With signatures as r and s.
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    P521(Box<p521::ecdsa::SigningKey>),
    Ed25519(Ed25519KeyPair),
}

/// A key that signs.
pub struct PrivateKey {
    inner: Inner,
    public: PublicKey,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public)
    }
}

impl PrivateKey {
    /// Reads the first private key of a file in PEM, or the one of a file in DER.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(octets: &[u8]) -> Result<Self, KeyError> {
        const BEGIN: &[u8] = b"-----BEGIN ";
        let mut rest = octets;
        while let Some(at) = rest.windows(BEGIN.len()).position(|window| window == BEGIN) {
            rest = rest.get(at..).unwrap_or_default();
            let block = pem_block(rest);
            let label = der::pem::decode_label(block).unwrap_or_default();
            match label {
                "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => {
                    if block.windows(9).any(|window| window == b"ENCRYPTED") {
                        return Err(KeyError::Encrypted);
                    }
                    let (_, inside) = der::pem::decode_vec(block).map_err(|_| KeyError::Malformed)?;
                    return Self::from_der(&Zeroizing::new(inside));
                }
                "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted),
                // EC PARAMETERS and certificates may stand in front.
                _ => rest = rest.get(BEGIN.len()..).unwrap_or_default(),
            }
        }
        Self::from_der(octets)
    }

    /// A key in DER, in any of the three forms.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_der(octets: &[u8]) -> Result<Self, KeyError> {
        if let Ok(info) = PrivateKeyInfoRef::from_der(octets) {
            let inside = info.private_key.as_bytes();
            return match info.algorithm.oid {
                RSA => Self::rsa(inside),
                EC => {
                    let curve = info.algorithm.parameters.and_then(|p| p.decode_as::<ObjectIdentifier>().ok());
                    let key = EcPrivateKey::from_der(inside).map_err(|_| KeyError::Malformed)?;
                    Self::ec(curve.ok_or(KeyError::Curve)?, key.private_key)
                }
                ED25519 => {
                    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(octets).map_err(refused)?;
                    let public = PublicKey::Ed25519(pair.public_key().as_ref().to_vec());
                    Ok(Self { inner: Inner::Ed25519(pair), public })
                }
                other => Err(KeyError::Algorithm(other)),
            };
        }
        if let Ok(key) = EcPrivateKey::from_der(octets) {
            let curve = key.parameters.and_then(|parameters| parameters.named_curve());
            return Self::ec(curve.ok_or(KeyError::Curve)?, key.private_key);
        }
        // An RSAPrivateKey is a SEQUENCE of integers; anything else is no key at all.
        Self::rsa(octets).map_err(|_| KeyError::Malformed)
    }

    fn rsa(octets: &[u8]) -> Result<Self, KeyError> {
        let pair = RsaKeyPair::from_der(octets).map_err(refused)?;
        let public = PublicKey::rsa(pair.public().as_ref()).map_err(|error| KeyError::Refused(error.to_string()))?;
        Ok(Self { inner: Inner::Rsa(Box::new(pair)), public })
    }

    /// The public point is computed: what a file says about it is not trusted, and need not be there.
    fn ec(curve: ObjectIdentifier, secret: &[u8]) -> Result<Self, KeyError> {
        let bad = |_| KeyError::Malformed;
        match curve {
            P256 => {
                let key = p256::SecretKey::from_slice(secret).map_err(bad)?;
                let point = key.public_key().to_sec1_point(false);
                let pair = ring_pair(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, secret, point.as_bytes())?;
                Ok(Self { inner: Inner::P256(pair), public: PublicKey::P256(point.as_bytes().to_vec()) })
            }
            P384 => {
                let key = p384::SecretKey::from_slice(secret).map_err(bad)?;
                let point = key.public_key().to_sec1_point(false);
                let pair = ring_pair(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, secret, point.as_bytes())?;
                Ok(Self { inner: Inner::P384(pair), public: PublicKey::P384(point.as_bytes().to_vec()) })
            }
            P521 => {
                let key = p521::SecretKey::from_slice(secret).map_err(bad)?;
                let point = key.public_key().to_sec1_point(false);
                let public = PublicKey::P521(point.as_bytes().to_vec());
                Ok(Self { inner: Inner::P521(Box::new(p521::ecdsa::SigningKey::from(key))), public })
            }
            _ => Err(KeyError::Curve),
        }
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// What this key can compute, best first.
    pub fn schemes(&self) -> &'static [Scheme] {
        use HashAlgorithm::{Sha256, Sha384, Sha512};
        match self.inner {
            // PSS first (SIG-06).
            Inner::Rsa(_) => &[
                Scheme::RsaPss(Sha256),
                Scheme::RsaPss(Sha384),
                Scheme::RsaPss(Sha512),
                Scheme::RsaPkcs1(Sha256),
                Scheme::RsaPkcs1(Sha384),
                Scheme::RsaPkcs1(Sha512),
            ],
            Inner::P256(_) => &[Scheme::Ecdsa(Sha256)],
            Inner::P384(_) => &[Scheme::Ecdsa(Sha384)],
            Inner::P521(_) => &[Scheme::Ecdsa(Sha512), Scheme::Ecdsa(Sha384), Scheme::Ecdsa(Sha256)],
            Inner::Ed25519(_) => &[Scheme::Ed25519],
        }
    }

    /// Signs; an ECDSA signature comes in `form`.
    ///
    /// # Errors
    /// [`KeyError::Sign`] where the algorithm is none of [`PrivateKey::schemes`], or the library fails.
    pub fn sign(&self, scheme: Scheme, form: EcdsaForm, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        if !self.schemes().contains(&scheme) {
            return Err(KeyError::Sign);
        }
        let random = SystemRandom::new();
        match (&self.inner, form) {
            (Inner::Rsa(pair), _) => {
                let encoding = rsa_encoding(scheme).ok_or(KeyError::Sign)?;
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, message, &mut out).map_err(|_| KeyError::Sign)?;
                Ok(out)
            }
            (Inner::Ed25519(pair), _) => Ok(pair.sign(message).as_ref().to_vec()),
            (Inner::P256(pair) | Inner::P384(pair), EcdsaForm::Fixed) => {
                Ok(pair.sign(&random, message).map_err(|_| KeyError::Sign)?.as_ref().to_vec())
            }
            (Inner::P256(pair), EcdsaForm::Der) => {
                let fixed = pair.sign(&random, message).map_err(|_| KeyError::Sign)?;
                let signature = p256::ecdsa::Signature::from_slice(fixed.as_ref()).map_err(|_| KeyError::Sign)?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            (Inner::P384(pair), EcdsaForm::Der) => {
                let fixed = pair.sign(&random, message).map_err(|_| KeyError::Sign)?;
                let signature = p384::ecdsa::Signature::from_slice(fixed.as_ref()).map_err(|_| KeyError::Sign)?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            (Inner::P521(key), form) => {
                use p521::ecdsa::signature::hazmat::PrehashSigner;
                let hash = scheme.hash().ok_or(KeyError::Sign)?;
                let digest = hash.digest(message);
                let signature: p521::ecdsa::Signature =
                    key.sign_prehash(digest.as_ref()).map_err(|_| KeyError::Sign)?;
                Ok(match form {
                    EcdsaForm::Fixed => signature.to_bytes().to_vec(),
                    EcdsaForm::Der => signature.to_der().as_bytes().to_vec(),
                })
            }
        }
    }
}

fn rsa_encoding(scheme: Scheme) -> Option<&'static dyn signature::RsaEncoding> {
    use HashAlgorithm::{Sha256, Sha384, Sha512};
    Some(match scheme {
        Scheme::RsaPkcs1(Sha256) => &signature::RSA_PKCS1_SHA256,
        Scheme::RsaPkcs1(Sha384) => &signature::RSA_PKCS1_SHA384,
        Scheme::RsaPkcs1(Sha512) => &signature::RSA_PKCS1_SHA512,
        Scheme::RsaPss(Sha256) => &signature::RSA_PSS_SHA256,
        Scheme::RsaPss(Sha384) => &signature::RSA_PSS_SHA384,
        Scheme::RsaPss(Sha512) => &signature::RSA_PSS_SHA512,
        _ => return None,
    })
}

fn ring_pair(
    algorithm: &'static signature::EcdsaSigningAlgorithm,
    secret: &[u8],
    public: &[u8],
) -> Result<EcdsaKeyPair, KeyError> {
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, secret, public, &SystemRandom::new()).map_err(refused)
}

fn refused(error: ring::error::KeyRejected) -> KeyError {
    KeyError::Refused(error.to_string())
}

/// From the first `-----BEGIN` to the line of its end.
fn pem_block(octets: &[u8]) -> &[u8] {
    const END: &[u8] = b"-----END ";
    let Some(at) = octets.windows(END.len()).position(|window| window == END) else { return octets };
    let behind = octets.get(at..).unwrap_or_default();
    let line = behind.iter().position(|octet| *octet == b'\n').unwrap_or(behind.len());
    octets.get(..at + line).unwrap_or(octets)
}

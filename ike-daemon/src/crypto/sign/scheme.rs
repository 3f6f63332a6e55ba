//! Names of signature algorithms: AlgorithmIdentifier of X.509 and of RFC 7427, and the hash numbers of RFC 7427 section 4.

use std::fmt;

use der::asn1::{AnyRef, Null, ObjectIdentifier};
use der::{Decode, Encode, Sequence, SliceReader, Tag, Tagged};
use ring::digest;
use x509_cert::spki::{AlgorithmIdentifier, AlgorithmIdentifierRef};

const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
const RSA_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ECDSA_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A hash in front of a signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HashAlgorithm {
    /// Broken; verified only for method 1 of peers that know no other (RFC 8247 section 3.2).
    Sha1,
    /// SHA2-256.
    Sha256,
    /// SHA2-384.
    Sha384,
    /// SHA2-512.
    Sha512,
}

impl HashAlgorithm {
    /// Those good enough for a new signature, best known first.
    pub const SOUND: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// Octets of output.
    pub fn output_len(self) -> usize {
        self.algorithm().output_len()
    }

    /// The number that SIGNATURE_HASH_ALGORITHMS has for it (RFC 7427 section 7).
    pub fn number(self) -> u16 {
        match self {
            Self::Sha1 => 1,
            Self::Sha256 => 2,
            Self::Sha384 => 3,
            Self::Sha512 => 4,
        }
    }

    pub(super) fn digest(self, message: &[u8]) -> digest::Digest {
        digest::digest(self.algorithm(), message)
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn of(oid: ObjectIdentifier) -> Option<Self> {
        match oid {
            SHA1 => Some(Self::Sha1),
            SHA256 => Some(Self::Sha256),
            SHA384 => Some(Self::Sha384),
            SHA512 => Some(Self::Sha512),
            _ => None,
        }
    }

    fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha1 => SHA1,
            Self::Sha256 => SHA256,
            Self::Sha384 => SHA384,
            Self::Sha512 => SHA512,
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA2-256",
            Self::Sha384 => "SHA2-384",
            Self::Sha512 => "SHA2-512",
        })
    }
}

/// How an ECDSA signature is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EcdsaForm {
    /// SEQUENCE of r and s: X.509 and method 14.
    Der,
    /// r and s, each as long as the order of the group: methods 9 to 11 (RFC 4754 section 7).
    Fixed,
}

/// A signature algorithm with its hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2).
    RsaPkcs1(HashAlgorithm),
    /// RSASSA-PSS with MGF1 of the same hash and a salt of its length (RFC 8017 section 8.1).
    RsaPss(HashAlgorithm),
    /// ECDSA; the curve is that of the key.
    Ecdsa(HashAlgorithm),
    /// Ed25519 (RFC 8032): the message is not hashed before.
    Ed25519,
}

/// No signature algorithm that is computed here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadScheme {
    /// Another algorithm.
    #[error("signature algorithm {0} is not known")]
    Unknown(ObjectIdentifier),
    /// Parameters that the algorithm does not have, or lacks, or none that are computed here.
    #[error("signature algorithm {0} has unusable parameters")]
    Parameters(ObjectIdentifier),
    /// No AlgorithmIdentifier.
    #[error("the name of the signature algorithm is malformed")]
    Malformed,
}

/// RSASSA-PSS-params (RFC 4055 section 3.1).
#[derive(Sequence)]
struct PssParameters<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    hash: Option<AlgorithmIdentifierRef<'a>>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    mask: Option<AlgorithmIdentifierRef<'a>>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    salt: Option<u32>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    trailer: Option<u32>,
}

impl Scheme {
    /// The algorithm that an AlgorithmIdentifier names (SIG-05: with all of its parameters).
    ///
    /// # Errors
    /// [`BadScheme`].
    pub fn of(identifier: &AlgorithmIdentifierRef<'_>) -> Result<Self, BadScheme> {
        let oid = identifier.oid;
        let bad = || BadScheme::Parameters(oid);
        let absent = identifier.parameters.is_none();
        // RFC 4055 section 5 wants NULL, and that its absence is accepted.
        let null = identifier.parameters.is_none_or(is_null);
        let rsa = |hash| if null { Ok(Self::RsaPkcs1(hash)) } else { Err(bad()) };
        let ecdsa = |hash| if absent { Ok(Self::Ecdsa(hash)) } else { Err(bad()) };
        match oid {
            RSA_SHA1 => rsa(HashAlgorithm::Sha1),
            RSA_SHA256 => rsa(HashAlgorithm::Sha256),
            RSA_SHA384 => rsa(HashAlgorithm::Sha384),
            RSA_SHA512 => rsa(HashAlgorithm::Sha512),
            ECDSA_SHA1 => ecdsa(HashAlgorithm::Sha1),
            ECDSA_SHA256 => ecdsa(HashAlgorithm::Sha256),
            ECDSA_SHA384 => ecdsa(HashAlgorithm::Sha384),
            ECDSA_SHA512 => ecdsa(HashAlgorithm::Sha512),
            ED25519 if absent => Ok(Self::Ed25519),
            ED25519 => Err(bad()),
            RSA_PSS => pss(identifier.parameters).map(Self::RsaPss).ok_or_else(bad),
            _ => Err(BadScheme::Unknown(oid)),
        }
    }

    /// The same from DER, in front of other octets, which are handed back (RFC 7427 section 3).
    ///
    /// # Errors
    /// [`BadScheme`].
    pub fn split_der(octets: &[u8]) -> Result<(Self, usize), BadScheme> {
        let mut reader = SliceReader::new(octets).map_err(|_| BadScheme::Malformed)?;
        let identifier = AlgorithmIdentifierRef::decode(&mut reader).map_err(|_| BadScheme::Malformed)?;
        let length = usize::try_from(der::Reader::position(&reader)).map_err(|_| BadScheme::Malformed)?;
        Ok((Self::of(&identifier)?, length))
    }

    /// The AlgorithmIdentifier in DER; the shortest form that RFC 7427 appendix A has for it.
    ///
    /// # Errors
    /// Never for an algorithm of this type.
    pub fn to_der(self) -> Result<Vec<u8>, der::Error> {
        let oid = match self {
            Self::RsaPkcs1(HashAlgorithm::Sha1) => RSA_SHA1,
            Self::RsaPkcs1(HashAlgorithm::Sha256) => RSA_SHA256,
            Self::RsaPkcs1(HashAlgorithm::Sha384) => RSA_SHA384,
            Self::RsaPkcs1(HashAlgorithm::Sha512) => RSA_SHA512,
            Self::Ecdsa(HashAlgorithm::Sha1) => ECDSA_SHA1,
            Self::Ecdsa(HashAlgorithm::Sha256) => ECDSA_SHA256,
            Self::Ecdsa(HashAlgorithm::Sha384) => ECDSA_SHA384,
            Self::Ecdsa(HashAlgorithm::Sha512) => ECDSA_SHA512,
            Self::Ed25519 => ED25519,
            Self::RsaPss(hash) => return pss_identifier(hash),
        };
        match self {
            Self::RsaPkcs1(_) => AlgorithmIdentifier { oid, parameters: Some(Null) }.to_der(),
            _ => AlgorithmIdentifierRef { oid, parameters: None }.to_der(),
        }
    }

    /// The hash; `None` where the message goes into the signature as it is.
    pub fn hash(self) -> Option<HashAlgorithm> {
        match self {
            Self::RsaPkcs1(hash) | Self::RsaPss(hash) | Self::Ecdsa(hash) => Some(hash),
            Self::Ed25519 => None,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RsaPkcs1(hash) => write!(f, "RSA with {hash}"),
            Self::RsaPss(hash) => write!(f, "RSA-PSS with {hash}"),
            Self::Ecdsa(hash) => write!(f, "ECDSA with {hash}"),
            Self::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

fn is_null(parameters: AnyRef<'_>) -> bool {
    parameters.tag() == Tag::Null && parameters.value().is_empty()
}

/// The one hash of PSS parameters; `None` where they are not what ring computes: MGF1 with the same hash, salt of its length.
fn pss(parameters: Option<AnyRef<'_>>) -> Option<HashAlgorithm> {
    let parameters: PssParameters<'_> = parameters?.decode_as().ok()?;
    let hash_of = |identifier: &AlgorithmIdentifierRef<'_>| {
        HashAlgorithm::of(identifier.oid).filter(|_| identifier.parameters.is_none_or(is_null))
    };
    // Absent fields stand for SHA-1, 20 octets and trailer 1.
    let hash = hash_of(parameters.hash.as_ref()?)?;
    let mask = parameters.mask?;
    let inner: AlgorithmIdentifierRef<'_> = mask.parameters?.decode_as().ok()?;
    let fits = mask.oid == MGF1
        && hash_of(&inner) == Some(hash)
        && usize::try_from(parameters.salt?).ok() == Some(hash.output_len())
        && parameters.trailer.unwrap_or(1) == 1
        && hash != HashAlgorithm::Sha1;
    fits.then_some(hash)
}

fn pss_identifier(hash: HashAlgorithm) -> Result<Vec<u8>, der::Error> {
    let null = Null.to_der()?;
    let null = AnyRef::from_der(&null)?;
    let inner = AlgorithmIdentifierRef { oid: hash.oid(), parameters: Some(null) };
    let inner_der = inner.to_der()?;
    let mask = AlgorithmIdentifierRef { oid: MGF1, parameters: Some(AnyRef::from_der(&inner_der)?) };
    let salt = u32::try_from(hash.output_len()).unwrap_or(u32::MAX);
    let parameters = PssParameters { hash: Some(inner), mask: Some(mask), salt: Some(salt), trailer: None }.to_der()?;
    AlgorithmIdentifierRef { oid: RSA_PSS, parameters: Some(AnyRef::from_der(&parameters)?) }.to_der()
}

//! Curves that ring has not: P-192, P-224 (RFC 5114 sections 2.4 and 2.5), P-521 (RFC 5903), brainpoolP256r1 and
//! brainpoolP384r1 (RFC 6954). A public value is both coordinates, the shared secret the first one.

use zeroize::Zeroizing;

use super::KeyExchange;
use crate::crypto::{CryptoError, Secret};
use crate::wire::transform::GroupId;

/// What SEC 1 puts in front of an uncompressed point and the KE payload has not.
const UNCOMPRESSED: u8 = 4;

/// A curve as its crate knows it: the crates have the same functions on types of their own.
struct Curve {
    /// Octets of a coordinate and of a private value.
    octets: usize,
    /// The bits of the first octet of a private value that may be set.
    first: u8,
    /// The public value of a private one; `None` when that is zero or not below the order.
    public: fn(&[u8]) -> Option<Box<[u8]>>,
    /// The shared secret; `None` when the point, which begins with [`UNCOMPRESSED`], is not on the curve.
    shared: fn(&[u8], &[u8]) -> Option<Secret>,
}

macro_rules! curve {
    ($library:ident, $name:ty, $octets:literal, $first:literal) => {
        Curve {
            octets: $octets,
            first: $first,
            public: |private| {
                let private = $library::elliptic_curve::SecretKey::<$name>::from_slice(private).ok()?;
                Some(private.public_key().to_sec1_bytes())
            },
            shared: |private, point| {
                let private = $library::elliptic_curve::SecretKey::<$name>::from_slice(private).ok()?;
                let point = $library::elliptic_curve::PublicKey::<$name>::from_sec1_bytes(point).ok()?;
                let shared =
                    $library::elliptic_curve::ecdh::diffie_hellman(private.to_nonzero_scalar(), point.as_affine());
                Some(Secret::copy_of(shared.raw_secret_bytes()))
            },
        }
    };
}

static P192: Curve = curve!(p192, p192::NistP192, 24, 0xff);
static P224: Curve = curve!(p224, p224::NistP224, 28, 0xff);
static P521: Curve = curve!(p521, p521::NistP521, 66, 0x01);
static BRAINPOOL_256: Curve = curve!(bp256, bp256::BrainpoolP256r1, 32, 0xff);
static BRAINPOOL_384: Curve = curve!(bp384, bp384::BrainpoolP384r1, 48, 0xff);

fn curve(id: GroupId) -> Option<&'static Curve> {
    match id {
        GroupId::ECP_192 => Some(&P192),
        GroupId::ECP_224 => Some(&P224),
        GroupId::ECP_521 => Some(&P521),
        GroupId::BRAINPOOL_P256 => Some(&BRAINPOOL_256),
        GroupId::BRAINPOOL_P384 => Some(&BRAINPOOL_384),
        _ => None,
    }
}

pub(super) fn public_len(id: GroupId) -> Option<usize> {
    curve(id).map(|curve| 2 * curve.octets)
}

pub(super) fn private_len(id: GroupId) -> Option<usize> {
    curve(id).map(|curve| curve.octets)
}

pub(super) struct Ephemeral {
    id: GroupId,
    curve: &'static Curve,
    private: Zeroizing<Vec<u8>>,
    public: Vec<u8>,
}

impl Ephemeral {
    pub(super) fn new(id: GroupId, private: &[u8]) -> Result<Self, CryptoError> {
        let curve = curve(id).ok_or(CryptoError::Unavailable)?;
        let mut private = Zeroizing::new(private.to_vec());
        private.first_mut().into_iter().for_each(|first| *first &= curve.first);
        let point = (curve.public)(&private).ok_or(CryptoError::Length)?;
        let public = point.strip_prefix(&[UNCOMPRESSED]).ok_or(CryptoError::Length)?.to_vec();
        Ok(Self { id, curve, private, public })
    }
}

impl KeyExchange for Ephemeral {
    fn group(&self) -> GroupId {
        self.id
    }

    fn public(&self) -> &[u8] {
        &self.public
    }

    fn complete(self: Box<Self>, peer: &[u8]) -> Result<Secret, CryptoError> {
        if peer.len() != 2 * self.curve.octets {
            return Err(CryptoError::Length);
        }
        let point = [&[UNCOMPRESSED], peer].concat();
        (self.curve.shared)(&self.private, &point).ok_or(CryptoError::PublicValue)
    }
}

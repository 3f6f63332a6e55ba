//! The groups of ring.

use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use ring::rand::SystemRandom;

use super::KeyExchange;
use crate::crypto::{CryptoError, Secret};
use crate::wire::transform::GroupId;

/// A group as ring knows it. SEC 1 puts an octet 4 in front of an uncompressed point; RFC 5903 section 7 does not.
struct Group {
    algorithm: &'static agreement::Algorithm,
    prefix: &'static [u8],
    public_len: usize,
}

fn group(id: GroupId) -> Option<Group> {
    match id {
        GroupId::CURVE25519 => Some(Group { algorithm: &agreement::X25519, prefix: &[], public_len: 32 }),
        GroupId::ECP_256 => Some(Group { algorithm: &agreement::ECDH_P256, prefix: &[4], public_len: 64 }),
        GroupId::ECP_384 => Some(Group { algorithm: &agreement::ECDH_P384, prefix: &[4], public_len: 96 }),
        _ => None,
    }
}

pub(super) fn public_len(id: GroupId) -> Option<usize> {
    group(id).map(|group| group.public_len)
}

pub(super) struct Ephemeral {
    id: GroupId,
    group: Group,
    private: EphemeralPrivateKey,
    public: Vec<u8>,
}

impl Ephemeral {
    pub(super) fn generate(id: GroupId) -> Result<Self, CryptoError> {
        let group = group(id).ok_or(CryptoError::Unavailable)?;
        let private =
            EphemeralPrivateKey::generate(group.algorithm, &SystemRandom::new()).map_err(|_| CryptoError::Entropy)?;
        let public = private.compute_public_key().map_err(|_| CryptoError::Entropy)?;
        let public = public.as_ref().strip_prefix(group.prefix).ok_or(CryptoError::Length)?.to_vec();
        Ok(Self { id, group, private, public })
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
        if peer.len() != self.group.public_len {
            return Err(CryptoError::Length);
        }
        let point = [self.group.prefix, peer].concat();
        let peer = UnparsedPublicKey::new(self.group.algorithm, point);
        agreement::agree_ephemeral(self.private, &peer, Secret::copy_of).map_err(|_| CryptoError::PublicValue)
    }
}

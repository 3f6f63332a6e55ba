//! The authenticators behind one face: octets in pieces, the ICV in the end.

use crate::crypto::Block16;
use crate::crypto::cmac::Cmac;
use crate::crypto::hash::{Hash, Md5, Sha1, Sha256, Sha384, Sha512};
use crate::crypto::hmac::{self, Mac};
use crate::crypto::material::KeyArea;
use crate::crypto::transform::Authentication;

/// The authenticator of everything in `pieces`, untruncated, zeros behind; zeros for [`Authentication::None`].
#[must_use]
pub fn authenticate(authentication: Authentication, keys: &KeyArea, pieces: &[&[u8]]) -> [u8; 64] {
    match authentication {
        Authentication::None => [0; 64],
        Authentication::HmacMd5 => hmac_of::<Md5>(&keys.hmac(), pieces),
        Authentication::HmacSha1 => hmac_of::<Sha1>(&keys.hmac(), pieces),
        Authentication::HmacSha256 => hmac_of::<Sha256>(&keys.hmac(), pieces),
        Authentication::HmacSha384 => hmac_of::<Sha384>(&keys.hmac(), pieces),
        Authentication::HmacSha512 => hmac_of::<Sha512>(&keys.hmac(), pieces),
        Authentication::AesXcbc | Authentication::AesCmac => {
            let mut mac = Cmac::new(keys.cmac());
            pieces.iter().for_each(|piece| mac.update(piece));
            octets(&mac.finish())
        }
    }
}

fn hmac_of<H: Hash>(key: &hmac::Key<H>, pieces: &[&[u8]]) -> [u8; 64] {
    let mut mac = Mac::new(key);
    pieces.iter().for_each(|piece| mac.update(piece));
    mac.finish(key)
}

/// The octets of a block, zeros behind.
pub(super) fn octets(block: &Block16) -> [u8; 64] {
    let mut octets = [0; 64];
    let chunks = octets.as_chunks_mut::<4>().0.iter_mut();
    chunks.zip(block.0).for_each(|(four, word)| *four = word.to_ne_bytes());
    octets
}

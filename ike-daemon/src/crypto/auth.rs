//! What AUTH covers, and AUTH with a pre-shared key (RFC 7296 section 2.15).

use super::{Prf, Secret};
use crate::wire::nonce::Nonce;

const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// What one side signs.
#[derive(Clone, Copy, Debug)]
pub struct SignedOctets<'a> {
    /// The signer's first message, from the first octet of its IKE header, as it finally went out (V2-AUTH-01).
    pub message: &'a [u8],
    /// The other side's nonce.
    pub peer_nonce: &'a Nonce,
    /// SK_pi or SK_pr of the signer.
    pub sk_p: &'a Secret,
    /// Body of the signer's ID payload, RESERVED included.
    pub id_body: &'a [u8],
}

impl SignedOctets<'_> {
    /// AUTH data for method 2 (V2-AUTH-02).
    pub fn with_psk(&self, prf: &dyn Prf, key: &Secret) -> Secret {
        let maced_id = self.maced_id(prf);
        let padded = prf.compute(key.expose(), &[KEY_PAD]);
        prf.compute(padded.expose(), &[self.message, self.peer_nonce.octets(), maced_id.expose()])
    }

    /// The octets that a signature is made over.
    pub fn octets(&self, prf: &dyn Prf) -> Vec<u8> {
        [self.message, self.peer_nonce.octets(), self.maced_id(prf).expose()].concat()
    }

    fn maced_id(&self, prf: &dyn Prf) -> Secret {
        prf.compute(self.sk_p.expose(), &[self.id_body])
    }
}

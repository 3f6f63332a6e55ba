//! NAT detection (RFC 7296 section 2.23): the two notifications, and what the peer's say.

use super::api::{IkeSpis, NatState, Path};
use super::context::Failure;
use crate::crypto::nat_detection_hash;
use crate::wire::chain::{ChainBuilder, PayloadType};
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;

/// Adds both notifications as the sender on `path` sees it.
pub(super) fn announce(chain: &mut ChainBuilder, spis: IkeSpis, path: &Path) -> Result<(), Failure> {
    let source = nat_detection_hash(spis.initiator, spis.responder, path.local);
    let destination = nat_detection_hash(spis.initiator, spis.responder, path.remote);
    chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType::NAT_DETECTION_SOURCE_IP, source.to_vec()))?;
    chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType::NAT_DETECTION_DESTINATION_IP, destination.to_vec()))?;
    Ok(())
}

/// What the peer's notifications say about the path they came by. A peer that sends none knows nothing of NATs. `spis` are
/// those of the message that carried them.
pub(super) fn evaluate(payloads: &Payloads, spis: IkeSpis, path: &Path) -> NatState {
    let hashes = |kind: NotifyType| payloads.notifies.iter().filter(move |n| n.kind == kind).map(|n| n.data.as_slice());
    let theirs = nat_detection_hash(spis.initiator, spis.responder, path.remote);
    let ours = nat_detection_hash(spis.initiator, spis.responder, path.local);
    let differs = |kind: NotifyType, seen: [u8; 20]| {
        let mut all = hashes(kind).peekable();
        all.peek().is_some() && all.all(|hash| hash != seen)
    };
    NatState {
        local: differs(NotifyType::NAT_DETECTION_DESTINATION_IP, ours),
        remote: differs(NotifyType::NAT_DETECTION_SOURCE_IP, theirs),
    }
}

//! IKE SAs that begin without a child (RFC 6023): a responder says that it takes them, and the children of an initiator that
//! uses it come with CREATE_CHILD_SA, the first one too.

use crate::wire::EncodeError;
use crate::wire::chain::{ChainBuilder, PayloadType};
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;

/// Says in the answer to IKE_SA_INIT that IKE_AUTH may come without a child (section 3).
pub(super) fn announce(chain: &mut ChainBuilder) -> Result<(), EncodeError> {
    chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType::CHILDLESS_IKEV2_SUPPORTED, Vec::new()))
}

/// Whether an IKE_AUTH request asks for none: it has none of the three payloads. One with some of them is malformed.
pub(super) fn asks_for_none(request: &Payloads) -> bool {
    request.sa.is_none() && request.ts_initiator.is_none() && request.ts_responder.is_none()
}

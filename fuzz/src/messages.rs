//! Messages between the programs of one host: the door of the daemons, the PF_KEY bus that any local user can write to.

use ike_door::frame::{self, HEADER};
use ike_door::message::{Envelope, Reply, Request};
use sadb_maps::host::pfkey::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// The first octet says which message is expected; the length in front of each is tried as well.
pub(crate) fn door(octets: &[u8]) {
    let Some((kind, text)) = octets.split_first() else { return };
    if let Some(header) = text.first_chunk() {
        let _ = frame::length(*header).map(|length| assert!(length <= frame::MAX_FRAME));
    }
    match kind % 3 {
        0 => again::<Envelope>(text),
        1 => again::<Request>(text),
        _ => again::<Reply>(text),
    }
}

fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &[u8]) {
    let Ok(message) = frame::decode::<T>(text) else { return };
    let written = frame::encode(&message).expect("a message that was read");
    let (header, text) = written.split_first_chunk::<HEADER>().expect("a length");
    assert_eq!(frame::length(*header).expect("not too long"), text.len());
    assert_eq!(frame::decode::<T>(text).expect("a message that was written"), message);
}

pub(crate) fn pfkey(octets: &[u8]) {
    // The length field, in 64-bit words, put right, so that the rest is reached; and as it is.
    let _ = Message::decode(octets);
    let mut whole = octets.to_vec();
    let words = u16::try_from(whole.len() / 8).unwrap_or(u16::MAX);
    if let Some(field) = whole.get_mut(4..6) {
        field.copy_from_slice(&words.to_ne_bytes());
    }
    let Ok(message) = Message::decode(&whole) else { return };
    assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message));
}

//! Messages in fragments (RFC 7383): cutting what is too long for a link, and putting together what the peer cut.
//!
//! Every fragment is protected by itself and only authentic ones come here, so nobody but the peer fills this memory: at
//! most [`MAX_OCTETS`] for each IKE SA.

use zeroize::Zeroizing;

use crate::crypto::digest;
use crate::wire::EncodeError;
use crate::wire::chain::{ChainBuilder, Fragment, PayloadType};
use crate::wire::notify::{Notify, NotifyType};
use crate::wire::payloads::Payloads;

/// Fragments of one message.
const MAX_FRAGMENTS: u16 = 64;
/// Octets of the payloads of one message.
const MAX_OCTETS: usize = 32_768;

/// Octets of IP and UDP in front of a datagram.
const IPV4_UDP: usize = 20 + 8;
const IPV6_UDP: usize = 40 + 8;
/// The non-ESP marker (RFC 3948 section 2.2).
const MARKER: usize = 4;

/// Octets of an IKE message that fit into an IP packet of `mtu` octets (RFC 7383 section 2.5.1).
pub(super) fn room(mtu: u16, is_ipv4: bool, has_marker: bool) -> usize {
    let around = if is_ipv4 { IPV4_UDP } else { IPV6_UDP } + if has_marker { MARKER } else { 0 };
    usize::from(mtu).saturating_sub(around)
}

/// Says in IKE_SA_INIT that we can put fragments together (FRG-01).
pub(super) fn announce(chain: &mut ChainBuilder) -> Result<(), EncodeError> {
    chain.push(PayloadType::NOTIFY, &Notify::plain(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED, Vec::new()))
}

/// Whether the peer can.
pub(super) fn announced(payloads: &Payloads) -> bool {
    payloads.notify(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED).is_some()
}

/// What a message is known by while it arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    pub(super) id: u32,
    pub(super) response: bool,
}

/// A message whose fragments come in.
pub(super) struct Reassembly {
    key: Key,
    first: PayloadType,
    /// Of the datagram with the first fragment: by it a retransmission is known (FRG-08).
    digest: [u8; 32],
    parts: Vec<Option<Zeroizing<Vec<u8>>>>,
    missing: usize,
    octets: usize,
}

/// A message of which nothing is missing.
pub(super) struct Whole {
    pub(super) plain: Zeroizing<Vec<u8>>,
    pub(super) first: PayloadType,
    pub(super) digest: [u8; 32],
}

/// A fragment that is none of a message, doubled, or too much.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Useless;

impl Reassembly {
    /// Takes the content of an authentic fragment. `slot` holds what came of this message, or of another one, before.
    /// `None` until the message is whole.
    ///
    /// # Errors
    /// [`Useless`]: nothing has changed.
    pub(super) fn add(
        slot: &mut Option<Box<Self>>,
        key: Key,
        fragment: Fragment,
        first: PayloadType,
        datagram: &[u8],
        plain: Zeroizing<Vec<u8>>,
    ) -> Result<Option<Whole>, Useless> {
        let Fragment { number, total } = fragment;
        // FRG-06.
        if number == 0 || number > total || total > MAX_FRAGMENTS {
            return Err(Useless);
        }
        let (index, total) = (usize::from(number - 1), usize::from(total));
        // FRG-07: the sender cuts finer when what it sent before was lost.
        let known = match slot.take().filter(|known| known.key == key && known.parts.len() >= total) {
            Some(known) => slot.insert(known),
            None => slot.insert(Box::new(Self::new(key, total))),
        };
        if known.parts.len() != total || known.octets + plain.len() > MAX_OCTETS {
            return Err(Useless);
        }
        let part = known.parts.get_mut(index).filter(|part| part.is_none()).ok_or(Useless)?;
        known.octets += plain.len();
        known.missing -= 1;
        *part = Some(plain);
        if index == 0 {
            (known.first, known.digest) = (first, digest(datagram));
        }
        if known.missing > 0 {
            return Ok(None);
        }
        let mut plain = Zeroizing::new(Vec::with_capacity(known.octets));
        known.parts.iter().flatten().for_each(|part| plain.extend_from_slice(part));
        let whole = Whole { plain, first: known.first, digest: known.digest };
        *slot = None;
        Ok(Some(whole))
    }

    fn new(key: Key, total: usize) -> Self {
        let parts = vec![None; total];
        Self { key, first: PayloadType::NONE, digest: [0; 32], parts, missing: total, octets: 0 }
    }
}

/// The pieces of `plain`, of at most `each` octets; `None` when they are too many.
pub(super) fn cut(plain: &[u8], each: usize) -> Option<Vec<(Fragment, &[u8])>> {
    if each == 0 {
        return None;
    }
    let total = u16::try_from(plain.len().div_ceil(each)).ok().filter(|total| (1..=MAX_FRAGMENTS).contains(total))?;
    let pieces = (1..=total).zip(plain.chunks(each));
    Some(pieces.map(|(number, piece)| (Fragment { number, total }, piece)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { id: 1, response: false };
    const INNER: PayloadType = PayloadType::ID_I;

    fn add(slot: &mut Option<Box<Reassembly>>, number: u16, total: u16, octets: &[u8]) -> Option<Vec<u8>> {
        keyed(slot, KEY, number, total, octets)
    }

    fn keyed(slot: &mut Option<Box<Reassembly>>, key: Key, number: u16, total: u16, octets: &[u8]) -> Option<Vec<u8>> {
        let first = if number == 1 { INNER } else { PayloadType::NONE };
        let plain = Zeroizing::new(octets.to_vec());
        let whole =
            Reassembly::add(slot, key, Fragment { number, total }, first, &[number.to_be_bytes()[1]], plain).ok()??;
        assert_eq!((whole.first, whole.digest), (INNER, digest(&[1])));
        Some(whole.plain.to_vec())
    }

    /// FRG-06: nothing is taken twice, or from outside the message.
    #[test]
    fn frg_06_numbers() {
        let slot = &mut None;
        for (number, total) in [(0, 0), (0, 2), (3, 2), (1, 0), (1, MAX_FRAGMENTS + 1), (u16::MAX, u16::MAX)] {
            assert_eq!(add(slot, number, total, b"x"), None);
        }
        assert_eq!(add(slot, 2, 2, b"second"), None);
        assert_eq!(add(slot, 2, 2, b"other"), None);
        assert_eq!(add(slot, 1, 2, b"first, "), Some(b"first, second".to_vec()));
        assert!(slot.is_none());
        assert_eq!(add(slot, 1, 1, b"alone"), Some(b"alone".to_vec()));
    }

    /// FRG-07: more fragments replace fewer, fewer are dropped; another message replaces an unfinished one.
    #[test]
    fn frg_07_totals() {
        let slot = &mut None;
        assert_eq!(add(slot, 1, 2, b"long"), None);
        assert_eq!(add(slot, 2, 3, b"b"), None);
        assert_eq!(add(slot, 2, 2, b"er"), None);
        assert_eq!(add(slot, 3, 3, b"c"), None);
        assert_eq!(add(slot, 1, 3, b"a"), Some(b"abc".to_vec()));
        assert_eq!(add(slot, 1, 2, b"old"), None);
        let next = Key { id: 2, response: false };
        assert_eq!(keyed(slot, next, 2, 2, b"w"), None);
        assert_eq!(keyed(slot, next, 1, 2, b"ne"), Some(b"new".to_vec()));
    }

    /// FRG-09: bounded in octets.
    #[test]
    fn frg_09_bounds() {
        let slot = &mut None;
        let each = vec![7; MAX_OCTETS / 8];
        for number in 1..=8 {
            assert_eq!(add(slot, number, 9, &each), None);
        }
        assert_eq!(add(slot, 9, 9, b"x"), None);
        assert_eq!(slot.as_ref().unwrap().octets, MAX_OCTETS);
        assert_eq!(add(slot, 9, 9, b""), Some(vec![7; MAX_OCTETS]));
    }

    /// FRG-03: numbers run from 1 to the total, and what is cut can be put together.
    #[test]
    fn frg_03_cut() {
        let plain: Vec<u8> = (0..=255).collect();
        for each in [4, 5, 100, 255, 256, 1000] {
            let pieces = cut(&plain, each).unwrap();
            let slot = &mut None;
            let mut whole = None;
            for (fragment, piece) in pieces.iter().rev() {
                assert!(piece.len() <= each && usize::from(fragment.total) == pieces.len());
                whole = add(slot, fragment.number, fragment.total, piece);
            }
            assert_eq!(whole, Some(plain.clone()));
        }
        assert!(cut(&plain, 3).is_none() && cut(&plain, 0).is_none() && cut(&[], 100).is_none());
    }

    #[test]
    fn room_is_what_ip_and_udp_leave() {
        assert_eq!((room(576, true, false), room(1280, false, true)), (548, 1228));
        assert_eq!(room(10, true, true), 0);
    }
}

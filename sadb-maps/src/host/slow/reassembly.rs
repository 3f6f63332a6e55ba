//! Fragments that become packets again (RFC 791, RFC 8200 section 4.5, RFC 5722), within bounds: so many packets, each no
//! longer than the data path takes, for so long. Fragments that overlap without being the same spoil their packet.

use super::packet::{Fragment, Identity, fragment, join};
use crate::abi::MAX_XDP_MTU;
use crate::slow::{Outcome, PATIENCE};
use std::collections::BTreeMap;

/// Packets that are in the making at once; with the limit of their length less than 1 MiB.
const IN_ALL: usize = 256;

/// The same between two addresses, so that one peer does not drive out all others.
const PER_PAIR: usize = 64;

/// A packet in the making.
#[derive(Debug, Default)]
struct Partial {
    begun: u64,
    /// Header of the first fragment.
    header: Option<Vec<u8>>,
    /// By offset; they do not overlap.
    pieces: BTreeMap<usize, Vec<u8>>,
    /// Octets of the whole payload, as the last fragment says.
    end: Option<usize>,
    /// The ECN fields seen, a bit for each.
    ecn: u8,
    /// Its fragments contradict each other: it stays until its time is over and takes up what else comes of it.
    spoiled: bool,
}

/// The packets in the making.
#[derive(Debug, Default)]
pub struct Reassembly {
    partials: BTreeMap<Identity, Partial>,
    /// Packets that made room for others.
    pub evicted: u64,
}

impl Reassembly {
    /// Takes a fragment as octets of IP, of anybody; what lies behind it is padding. `now` is boot time in nanoseconds. Gives
    /// the packet that it makes whole, without the fragment header in IPv6.
    ///
    /// # Errors
    /// What is to be counted: it is no fragment or a malformed one, it contradicts others of its packet, or the whole would
    /// be longer than the data path takes. In the last two cases what comes later of the packet is taken and forgotten.
    pub fn take(&mut self, now: u64, ip: &[u8]) -> Result<Option<Vec<u8>>, Outcome> {
        self.add(now, &fragment(ip).ok_or(Outcome::Malformed)?)
    }

    fn add(&mut self, now: u64, fragment: &Fragment<'_>) -> Result<Option<Vec<u8>>, Outcome> {
        let identity = fragment.identity;
        if !self.partials.contains_key(&identity) {
            self.make_room(&identity);
        }
        let partial = self.partials.entry(identity).or_insert_with(|| Partial { begun: now, ..Partial::default() });
        match partial.take(fragment) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(outcome) => {
                partial.spoil();
                return Err(outcome);
            }
        }
        let whole = self.partials.remove(&identity).ok_or(Outcome::Malformed)?.finish()?;
        Ok(Some(whole))
    }

    /// Drops the oldest packet between the same addresses, or of all, when there are too many.
    fn make_room(&mut self, identity: &Identity) {
        let same = |other: &&Identity| (other.src, other.dst) == (identity.src, identity.dst);
        let own = self.partials.keys().filter(same).count();
        let oldest = |all: &mut dyn Iterator<Item = (&Identity, &Partial)>| {
            all.min_by_key(|(_, partial)| partial.begun).map(|(identity, _)| *identity)
        };
        let victim = if own >= PER_PAIR {
            oldest(&mut self.partials.iter().filter(|(other, _)| same(other)))
        } else if self.partials.len() >= IN_ALL {
            oldest(&mut self.partials.iter())
        } else {
            None
        };
        let removed = victim.and_then(|victim| self.partials.remove(&victim));
        self.evicted += u64::from(removed.is_some_and(|removed| !removed.spoiled));
    }

    /// Drops what has waited too long, and says how many packets that were.
    pub fn expire(&mut self, now: u64) -> u64 {
        let mut expired = 0;
        self.partials.retain(|_, partial| {
            let keep = now.saturating_sub(partial.begun) < PATIENCE;
            expired += u64::from(!keep && !partial.spoiled);
            keep
        });
        expired
    }

    /// Packets in the making.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.partials.len()
    }
}

impl Partial {
    /// Takes a fragment; whether the packet is whole now.
    fn take(&mut self, fragment: &Fragment<'_>) -> Result<bool, Outcome> {
        if self.spoiled {
            return Ok(false);
        }
        let (start, stop) = (fragment.offset, fragment.offset + fragment.payload.len());
        if stop + fragment.header.len() > MAX_XDP_MTU as usize {
            return Err(Outcome::TooLong);
        }
        if self.pieces.get(&start).is_some_and(|piece| piece == fragment.payload) {
            // RFC 8200: the very same again may be ignored.
            return Ok(false);
        }
        let before = self.pieces.range(..stop).next_back();
        let overlaps = before.is_some_and(|(at, piece)| at + piece.len() > start);
        let beyond = self.end.is_some_and(|end| stop > end || !fragment.more && stop != end);
        let furthest = self.pieces.last_key_value().map_or(0, |(at, piece)| at + piece.len());
        if overlaps || beyond || !fragment.more && furthest > stop {
            return Err(Outcome::Overlap);
        }
        if !fragment.more {
            self.end = Some(stop);
        }
        if start == 0 {
            self.header = Some(fragment.header.clone());
        }
        self.ecn |= 1 << fragment.ecn;
        self.pieces.insert(start, fragment.payload.to_vec());
        let octets: usize = self.pieces.values().map(Vec::len).sum();
        Ok(self.end == Some(octets))
    }

    fn spoil(&mut self) {
        *self = Self { begun: self.begun, spoiled: true, ..Self::default() };
    }

    /// The packet. A congestion mark on one fragment is one on the packet, unless another said that it takes no part (RFC
    /// 3168 section 5.3).
    fn finish(self) -> Result<Vec<u8>, Outcome> {
        const NOT_ECT: u8 = 1;
        const CONGESTED: u8 = 1 << 3;
        let header = self.header.ok_or(Outcome::Malformed)?;
        let ecn = match self.ecn {
            marked if marked & CONGESTED != 0 && marked & NOT_ECT != 0 => return Err(Outcome::Overlap),
            marked if marked & CONGESTED != 0 => 3,
            marked if marked & NOT_ECT != 0 => 0,
            marked if marked & 1 << 2 != 0 => 2,
            _ => 1,
        };
        let payload: Vec<u8> = self.pieces.into_values().flatten().collect();
        let whole = join(header, &payload, ecn).ok_or(Outcome::TooLong)?;
        if whole.len() > MAX_XDP_MTU as usize { Err(Outcome::TooLong) } else { Ok(whole) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::samples::{v4, v6};
    use super::*;

    fn add(reassembly: &mut Reassembly, now: u64, ip: &[u8]) -> Result<Option<Vec<u8>>, Outcome> {
        reassembly.take(now, ip)
    }

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|i| i as u8 ^ (i >> 8) as u8).collect()
    }

    /// ESP-IN-01: whatever the order, and whichever come twice.
    #[test]
    fn any_order_gives_the_packet() {
        let payload = content(40);
        let piece = |from: usize, to: usize| v4(0, 1, from, to != 40, &payload[from..to]);
        let all = [piece(0, 16), piece(16, 24), piece(24, 40)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut reassembly = Reassembly::default();
            let [first, second, third] = order.map(|i| &all[i]);
            assert_eq!(add(&mut reassembly, 0, first), Ok(None));
            assert_eq!(add(&mut reassembly, 0, second), Ok(None));
            assert_eq!(add(&mut reassembly, 0, second), Ok(None), "the same again");
            let whole = add(&mut reassembly, 0, third).unwrap().unwrap();
            assert_eq!((&whole[20..], &whole[6..8]), (&payload[..], &[0, 0][..]));
            assert_eq!(reassembly.len(), 0);
        }
    }

    #[test]
    fn ipv6_and_its_headers() {
        let payload = content(20);
        let mut reassembly = Reassembly::default();
        assert_eq!(add(&mut reassembly, 0, &v6(5, 16, false, &payload[16..])), Ok(None));
        let whole = add(&mut reassembly, 0, &v6(5, 0, true, &payload[..16])).unwrap().unwrap();
        assert_eq!((&whole[48..], whole[40]), (&payload[..], 50));
        // An atomic fragment (RFC 6946) is whole.
        let whole = add(&mut reassembly, 0, &v6(6, 0, false, &payload)).unwrap().unwrap();
        assert_eq!(whole.len(), 68);
    }

    /// ARC-FRG-05: overlapping fragments spoil the packet, and what comes later of it as well.
    #[test]
    fn overlaps_spoil_the_packet() {
        type Piece = (usize, usize, bool);
        let cases: [(&[Piece], usize); 5] = [
            (&[(0, 16, true), (8, 24, true)], 1),
            (&[(8, 24, true), (0, 16, true)], 1),
            (&[(0, 32, true), (8, 16, true)], 1),
            (&[(0, 16, true), (16, 24, false), (24, 32, true)], 2),
            (&[(0, 32, true), (16, 24, false)], 1),
        ];
        for (pieces, bad) in cases {
            let mut reassembly = Reassembly::default();
            for (index, (from, to, more)) in pieces.iter().enumerate() {
                let other = vec![index as u8; to - from];
                let result = add(&mut reassembly, 0, &v4(0, 1, *from, *more, &other));
                // What makes it whole before it is spoiled has been given out.
                if result.as_ref().is_ok_and(Option::is_some) {
                    break;
                }
                let expected = if index == bad { Err(Outcome::Overlap) } else { Ok(None) };
                assert_eq!(result, expected, "{pieces:?}");
            }
        }
        let mut reassembly = Reassembly::default();
        assert_eq!(add(&mut reassembly, 0, &v4(0, 1, 0, true, &[1; 16])), Ok(None));
        assert_eq!(add(&mut reassembly, 0, &v4(0, 1, 8, true, &[2; 16])), Err(Outcome::Overlap));
        assert_eq!(add(&mut reassembly, 0, &v4(0, 1, 0, true, &[1; 16])), Ok(None));
        assert_eq!(add(&mut reassembly, 0, &v4(0, 1, 16, false, &[1; 16])), Ok(None), "spoiled for good");
        assert_eq!(reassembly.expire(PATIENCE), 0, "and counted once");
    }

    #[test]
    fn packets_between_other_ends_or_with_another_identification_do_not_mix() {
        let mut reassembly = Reassembly::default();
        assert_eq!(add(&mut reassembly, 0, &v4(0, 1, 0, true, &[1; 8])), Ok(None));
        assert_eq!(add(&mut reassembly, 0, &v4(0, 2, 8, false, &[1; 8])), Ok(None));
        let mut other = v4(0, 1, 8, false, &[1; 8]);
        other[15] = 3;
        assert_eq!(add(&mut reassembly, 0, &other), Ok(None));
        other[15] = 2;
        other[9] = 51;
        assert_eq!(add(&mut reassembly, 0, &other), Ok(None));
        assert_eq!(reassembly.len(), 4);
    }

    #[test]
    fn memory_and_time_are_bounded() {
        let mut reassembly = Reassembly::default();
        let from = |host: u8, ident: u16| {
            let mut ip = v4(0, ident, 0, true, &[1; 8]);
            ip[15] = host;
            ip
        };
        for ident in 0..1000 {
            assert_eq!(add(&mut reassembly, u64::from(ident), &from(1, ident)), Ok(None));
        }
        assert_eq!((reassembly.len(), reassembly.evicted), (PER_PAIR, 1000 - PER_PAIR as u64));
        for host in 2..=255 {
            for ident in 0..8 {
                let _ = add(&mut reassembly, 2000, &from(host, ident));
                assert!(reassembly.len() <= IN_ALL);
            }
        }
        assert_eq!(reassembly.expire(2000 + PATIENCE - 1), 0);
        assert_eq!(reassembly.expire(2000 + PATIENCE), IN_ALL as u64);
        assert_eq!(reassembly.len(), 0);
        let most = MAX_XDP_MTU as usize - 20;
        assert_eq!(add(&mut reassembly, 0, &v4(0, 1, most / 8 * 8, false, &[1; 8])), Err(Outcome::TooLong));
        assert_eq!(add(&mut reassembly, 0, &v4(0, 2, 65_528, false, &[1; 8])), Err(Outcome::TooLong));
    }

    /// RFC 3168 section 5.3.
    #[test]
    fn congestion_marks_are_kept() {
        for (one, two, expected) in
            [(2, 3, Some(3)), (1, 1, Some(1)), (0, 3, None), (3, 0, None), (2, 2, Some(2)), (0, 0, Some(0))]
        {
            let mut reassembly = Reassembly::default();
            assert_eq!(add(&mut reassembly, 0, &v4(one, 1, 0, true, &[1; 8])), Ok(None));
            let whole = add(&mut reassembly, 0, &v4(two, 1, 8, false, &[1; 8]));
            match expected {
                Some(ecn) => assert_eq!(whole.unwrap().unwrap()[1], ecn),
                None => assert_eq!(whole, Err(Outcome::Overlap)),
            }
        }
    }
}

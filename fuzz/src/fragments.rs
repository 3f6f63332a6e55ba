//! Fragments that become packets again, and packets that are cut (ESP-IN-01, AH-08, ARC-FRG-05, TUN-11): the code of the
//! slow path beside a model that keeps a list of fragments and looks through all of it each time.

use crate::rfc1071::sum;
use sadb_maps::abi::MAX_XDP_MTU;
use sadb_maps::host::slow::{Reassembly, split};
use sadb_maps::slow::{Outcome, PATIENCE};

/// Bounds that the code under test states: packets in the making in all, and between two addresses.
const IN_ALL: usize = 256;
const PER_PAIR: usize = 64;

/// Octets of the input that say what comes next.
const STEP: usize = 8;

const HOP_BY_HOP: [u8; 8] = [43, 0, 5, 2, 0, 0, 1, 0];
const ROUTING: [u8; 24] = [60, 2, 0, 0, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const DESTINATION: [u8; 8] = [0, 0, 0x1e, 4, 1, 2, 3, 4];
/// Record route, which only the first fragment keeps; nothing; loose source route, which all have; the end.
const OPTIONS: [u8; 16] = [7, 7, 4, 0, 0, 0, 0, 1, 0x83, 7, 4, 1, 2, 3, 4, 0];

pub(crate) fn run(octets: &[u8]) {
    let (mut code, mut model, mut now) = (Reassembly::default(), Model::default(), 0);
    for step in octets.chunks_exact(STEP) {
        let step = Step(step.try_into().expect("of that length"));
        // Never the same moment twice, so that one packet is the oldest.
        now += 1 + u64::from(step.0[7]).pow(3) * 1_000_000;
        if step.has(0, 3) {
            cut(step);
            continue;
        }
        let ip = step.fragment();
        assert_eq!(code.take(now, &ip), model.take(now, &ip), "{step:?} {ip:02x?}");
        if step.has(5, 7) {
            assert_eq!(code.expire(now), model.expire(now));
        }
        assert_eq!(code.evicted, model.evicted);
    }
    assert_eq!(code.expire(now + PATIENCE), model.expire(now + PATIENCE), "left in the end");
}

/// Kind, identification, place (two octets), length, flags, content, time.
#[derive(Clone, Copy, Debug)]
struct Step([u8; STEP]);

impl Step {
    fn has(self, octet: usize, bit: u8) -> bool {
        self.0[octet] & 1 << bit != 0
    }

    fn is_v4(self) -> bool {
        !self.has(0, 0)
    }

    fn place(self) -> usize {
        usize::from(u16::from_be_bytes([self.0[2], self.0[3]]))
    }

    fn ecn(self) -> u8 {
        self.0[5] >> 1 & 3
    }

    /// Addresses of one of eight pairs.
    fn addresses<const N: usize>(self) -> [[u8; N]; 2] {
        let (mut src, mut dst) = ([0x20; N], [0x21; N]);
        src[N - 1] = self.0[0] >> 4 & 3;
        dst[N - 1] = self.0[0] >> 6 & 1;
        [src, dst]
    }

    /// The header without fragment header, for so many octets behind it.
    fn header(self, behind: usize) -> Vec<u8> {
        let more = self.has(0, 2);
        if self.is_v4() {
            let mut header = vec![if more { 0x49 } else { 0x45 }, 0xb8 | self.ecn()];
            let options: &[u8] = if more { &OPTIONS } else { &[] };
            header.extend((20 + options.len() + behind).to_be_bytes()[6..].iter());
            header.extend([0, self.0[1], 0, 0, 64, 50 + (self.0[5] >> 3 & 1), 0, 0]);
            header.extend(self.addresses::<4>().concat());
            header.extend(options);
            check(&mut header);
            return header;
        }
        let extensions = if more { [&HOP_BY_HOP[..], &ROUTING, &DESTINATION].concat() } else { vec![] };
        let mut header = vec![0x6b, 0x80 | self.ecn() << 4, 0, 1];
        header.extend((extensions.len() + behind).to_be_bytes()[6..].iter());
        header.extend([if more { 0 } else { 50 }, 64]);
        header.extend(self.addresses::<16>().concat());
        header.extend(extensions);
        if more {
            let last = header.len() - DESTINATION.len();
            header[last] = 50;
        }
        header
    }

    /// A fragment, which one octet may make into something else.
    fn fragment(self) -> Vec<u8> {
        let offset = if self.has(5, 6) { self.place() & 0x1fff } else { usize::from(self.0[3]) } * 8;
        let len = usize::from(self.0[4]) * 8 + if self.has(5, 5) { usize::from(self.0[6] & 7) } else { 0 };
        // What overlaps may say the same.
        let payload: Vec<u8> = (0..len).map(|at| self.0[6].wrapping_add(((offset + at) / 8) as u8)).collect();
        let more = self.has(5, 0);
        let mut ip;
        if self.is_v4() {
            ip = self.header(len);
            let place = (offset / 8) as u16 | if more { 0x2000 } else { 0 } | if self.has(5, 4) { 0x4000 } else { 0 };
            ip[6..8].copy_from_slice(&place.to_be_bytes());
        } else {
            ip = self.header(8 + len);
            let named = if self.has(0, 2) { ip.len() - DESTINATION.len() } else { 6 };
            ip[named] = 44;
            ip.extend([50, 0]);
            ip.extend((offset as u16 | u16::from(more)).to_be_bytes());
            ip.extend([0, 0, 0, self.0[1]]);
        }
        ip.extend(payload);
        if self.has(0, 1) {
            let at = self.place() % ip.len();
            ip[at] ^= self.0[6] | 1;
            ip.truncate(ip.len() - usize::from(self.0[4] & 1));
            ip.extend(vec![0; usize::from(self.0[4] & 6)]);
        }
        ip
    }
}

/// A packet is cut, and its fragments, in another order, make it again.
fn cut(step: Step) {
    let header = step.header(0).len();
    let len = step.place() % (MAX_XDP_MTU as usize + 1 - header);
    let mut whole = step.header(len);
    whole.extend((0..len).map(|at| step.0[6].wrapping_add((at ^ at >> 8) as u8)));
    let forbidden = step.is_v4() && step.has(5, 4);
    if forbidden {
        whole[6] |= 0x40;
        check(&mut whole[..header]);
    }
    let mtu = usize::from(step.0[4]) * 8 + usize::from(step.0[1]);
    // In front of the fragmentable part: in IPv6 all but destination options, and the fragment header.
    let extensions = if step.has(0, 2) { HOP_BY_HOP.len() + ROUTING.len() } else { 0 };
    let front = if step.is_v4() { header } else { 40 + extensions + 8 };
    let nothing = step.is_v4() && len == 0;
    let empty = !step.is_v4() && whole.len() == front - 8;
    let found = split(&[&whole[..], &[0; 3]].concat(), mtu, 7);
    let possible = !forbidden && !empty && (nothing || mtu >= front + 8);
    assert_eq!(found.is_some(), possible, "{len} octets behind {front}, {mtu} pass: {step:?}");
    let Some(mut parts) = found else { return };
    assert!(parts.iter().all(|part| part.len() <= mtu));
    // A packet without content has no fragment that could say so.
    if parts.is_empty() {
        return assert!(nothing);
    }
    if step.is_v4() && parts.len() == 1 {
        return assert_eq!(parts[0], whole);
    }
    if step.is_v4() {
        assert!(parts.iter().all(|part| sum(&part[..usize::from(part[0] & 15) * 4]) == 0xffff));
    }
    let at = usize::from(step.0[7]) % parts.len();
    parts.rotate_left(at);
    if step.has(5, 0) {
        parts.reverse();
    }
    let mut reassembly = Reassembly::default();
    let last = parts.pop().expect("one of several");
    assert!(parts.iter().all(|part| reassembly.take(1, part) == Ok(None)));
    assert_eq!(reassembly.take(1, &last), Ok(Some(whole)), "{step:?}");
}

/// Writes the checksum of an IPv4 header.
fn check(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = !sum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

#[derive(Clone, PartialEq)]
struct Key {
    ends: Vec<u8>,
    ident: Vec<u8>,
    /// Nothing in IPv6.
    proto: Option<u8>,
}

struct Piece {
    header: Vec<u8>,
    payload: Vec<u8>,
    offset: usize,
    more: bool,
    ecn: u8,
}

impl Piece {
    fn stop(&self) -> usize {
        self.offset + self.payload.len()
    }
}

struct Making {
    key: Key,
    begun: u64,
    pieces: Vec<Piece>,
    spoiled: bool,
}

/// In the order in which they were begun.
#[derive(Default)]
struct Model {
    making: Vec<Making>,
    evicted: u64,
}

impl Model {
    fn take(&mut self, now: u64, ip: &[u8]) -> Result<Option<Vec<u8>>, Outcome> {
        let (key, piece) = read(ip).ok_or(Outcome::Malformed)?;
        let known = self.making.iter().position(|making| making.key == key);
        let at = known.unwrap_or_else(|| {
            self.make_room(&key);
            self.making.push(Making { key, begun: now, pieces: vec![], spoiled: false });
            self.making.len() - 1
        });
        let making = &mut self.making[at];
        match making.add(piece) {
            Ok(false) => Ok(None),
            Ok(true) => whole(self.making.remove(at).pieces).map(Some),
            Err(outcome) => {
                making.spoiled = true;
                making.pieces.clear();
                Err(outcome)
            }
        }
    }

    fn make_room(&mut self, key: &Key) {
        let same: Vec<usize> =
            self.making.iter().enumerate().filter(|(_, other)| other.key.ends == key.ends).map(|(at, _)| at).collect();
        let victim = match self.making.len() {
            _ if same.len() == PER_PAIR => Some(same[0]),
            IN_ALL => Some(0),
            _ => None,
        };
        if let Some(at) = victim
            && !self.making.remove(at).spoiled
        {
            self.evicted += 1;
        }
    }

    fn expire(&mut self, now: u64) -> u64 {
        let (old, young) = std::mem::take(&mut self.making).into_iter().partition(|one| one.begun + PATIENCE <= now);
        self.making = young;
        let old: Vec<Making> = old;
        old.iter().filter(|one| !one.spoiled).count() as u64
    }
}

impl Making {
    /// Whether the packet is whole.
    fn add(&mut self, new: Piece) -> Result<bool, Outcome> {
        if self.spoiled {
            return Ok(false);
        }
        if new.header.len() + new.stop() > MAX_XDP_MTU as usize {
            return Err(Outcome::TooLong);
        }
        if self.pieces.iter().any(|old| (old.offset, &old.payload) == (new.offset, &new.payload)) {
            return Ok(false);
        }
        let overlaps = |old: &Piece| old.offset < new.stop() && new.offset < old.stop();
        let contradicts =
            |old: &Piece| !old.more && (new.stop() > old.stop() || !new.more) || !new.more && old.stop() > new.stop();
        if self.pieces.iter().any(|old| overlaps(old) || contradicts(old)) {
            return Err(Outcome::Overlap);
        }
        self.pieces.push(new);
        let Some(end) = self.pieces.iter().find(|piece| !piece.more).map(Piece::stop) else { return Ok(false) };
        let mut there = vec![false; end];
        self.pieces.iter().for_each(|piece| there[piece.offset..piece.stop()].fill(true));
        Ok(there.iter().all(|there| *there))
    }
}

/// The packet of all its pieces. RFC 3168 section 5.3 says what becomes of the ECN field.
fn whole(mut pieces: Vec<Piece>) -> Result<Vec<u8>, Outcome> {
    pieces.sort_by_key(|piece| piece.offset);
    let seen = |ecn: u8| pieces.iter().any(|piece| piece.ecn == ecn);
    let ecn = match [seen(0), seen(1), seen(2), seen(3)] {
        [true, _, _, true] => return Err(Outcome::Overlap),
        [_, _, _, true] => 3,
        [true, ..] => 0,
        [_, _, true, _] => 2,
        _ => 1,
    };
    let mut ip = pieces[0].header.clone();
    let header = ip.len();
    ip.extend(pieces.iter().flat_map(|piece| &piece.payload));
    let len = ip.len();
    if ip[0] >> 4 == 4 {
        ip[1] = ip[1] >> 2 << 2 | ecn;
        ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        ip[6] &= 0x40;
        ip[7] = 0;
        check(&mut ip[..header]);
    } else {
        ip[1] = ip[1] & 0xcf | ecn << 4;
        ip[4..6].copy_from_slice(&(len as u16 - 40).to_be_bytes());
    }
    if len > MAX_XDP_MTU as usize { Err(Outcome::TooLong) } else { Ok(ip) }
}

/// RFC 791 section 3.1, RFC 8200 section 4.5.
fn read(ip: &[u8]) -> Option<(Key, Piece)> {
    let short = |at: usize| Some(usize::from(u16::from_be_bytes(ip.get(at..at + 2)?.try_into().ok()?)));
    let (key, piece) = match ip.first()? >> 4 {
        4 => {
            let (header, total, place) = (usize::from(ip[0] & 15) * 4, short(2)?, short(6)?);
            let ip = ip.get(..total)?;
            if header < 20 || total < header || place & 0x3fff == 0 {
                return None;
            }
            let key = Key { ends: ip[12..20].to_vec(), ident: ip[4..6].to_vec(), proto: Some(ip[9]) };
            let (offset, more) = ((place & 0x1fff) * 8, place & 0x2000 != 0);
            let (header, payload) = (ip[..header].to_vec(), ip[header..].to_vec());
            (key, Piece { header, payload, offset, more, ecn: ip[1] & 3 })
        }
        6 => {
            let ip = ip.get(..40 + short(4)?)?;
            let mapped = |address: &[u8]| address[..10] == [0; 10] && address[10..12] == [0xff, 0xff];
            if mapped(&ip[8..24]) || mapped(&ip[24..40]) {
                return None;
            }
            let (mut named, mut at) = (6, 40);
            for _ in 1..6 {
                if ![0, 43, 60].contains(&ip[named]) {
                    break;
                }
                (named, at) = (at, at + 8 + usize::from(*ip.get(at + 1)?) * 8);
            }
            let fragment = ip.get(at..at + 8).filter(|_| ip[named] == 44)?;
            let key = Key { ends: ip[8..40].to_vec(), ident: fragment[4..8].to_vec(), proto: None };
            let mut header = ip[..at].to_vec();
            header[named] = fragment[0];
            let place = usize::from(u16::from_be_bytes([fragment[2], fragment[3]]));
            let (offset, more) = (place & 0xfff8, place & 1 != 0);
            (key, Piece { header, payload: ip[at + 8..].to_vec(), offset, more, ecn: ip[1] >> 4 & 3 })
        }
        _ => return None,
    };
    let len = piece.payload.len();
    (len != 0 && (!piece.more || len.is_multiple_of(8))).then_some((key, piece))
}

//! IP packets as octets: fragments read and made (RFC 791, RFC 8200 section 4.5), for octets of anybody.

use crate::Addr;

/// Octets of the least IPv4 header.
const V4_HEADER: usize = 20;
/// Octets of the IPv6 header.
const V6_HEADER: usize = 40;
/// Octets of the fragment header of IPv6.
const FRAGMENT_HEADER: usize = 8;
/// Extension headers in front of a fragment header before it counts as unreadable.
const MAX_EXTENSIONS: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DEST_OPTIONS: u8 = 60;

/// What says which packet a fragment is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) src: Addr,
    pub(super) dst: Addr,
    pub(super) ident: u32,
    /// The protocol, in IPv4; zero in IPv6, where it is no part of it.
    pub(super) proto: u8,
}

/// A fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub(super) identity: Identity,
    /// The header in front of the fragmentable part, that of IPv6 without the fragment header and with the next header that
    /// is behind it.
    pub(super) header: Vec<u8>,
    /// What it carries.
    pub(super) payload: &'a [u8],
    /// Where that lies, in octets.
    pub(super) offset: usize,
    /// More is to come behind it.
    pub(super) more: bool,
    /// The ECN field.
    pub(super) ecn: u8,
}

pub(super) fn word(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn address<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Reads a fragment; `None` when it is none, or malformed. What lies behind the packet is padding.
pub(super) fn fragment(ip: &[u8]) -> Option<Fragment<'_>> {
    match ip.first()? >> 4 {
        4 => fragment_v4(ip),
        6 => fragment_v6(ip),
        _ => None,
    }
}

fn fragment_v4(ip: &[u8]) -> Option<Fragment<'_>> {
    let header_len = usize::from(ip.first()? & 0xf) * 4;
    let total = usize::from(word(ip, 2)?);
    if header_len < V4_HEADER || total <= header_len {
        return None;
    }
    let ip = ip.get(..total)?;
    let flags = word(ip, 6)?;
    let (header, payload) = ip.split_at_checked(header_len)?;
    let fragment = Fragment {
        identity: Identity {
            src: Addr::v4(u32::from_ne_bytes(address(ip, 12)?)),
            dst: Addr::v4(u32::from_ne_bytes(address(ip, 16)?)),
            ident: u32::from(word(ip, 4)?),
            proto: *ip.get(9)?,
        },
        header: header.to_vec(),
        payload,
        offset: usize::from(flags & 0x1fff) * 8,
        more: flags & 0x2000 != 0,
        ecn: *ip.get(1)? & 3,
    };
    sound(fragment).filter(|fragment| fragment.more || fragment.offset != 0)
}

fn fragment_v6(ip: &[u8]) -> Option<Fragment<'_>> {
    let total = usize::from(word(ip, 4)?) + V6_HEADER;
    let ip = ip.get(..total)?;
    // Where the number of the next header is, and where that header is.
    let (mut named, mut at) = (6, V6_HEADER);
    for _ in 0..MAX_EXTENSIONS {
        match *ip.get(named)? {
            HOP_BY_HOP | ROUTING | DEST_OPTIONS => {
                (named, at) = (at, at + (usize::from(*ip.get(at + 1)?) + 1) * 8);
            }
            FRAGMENT => {
                let place = word(ip, at + 2)?;
                let mut header = ip.get(..at)?.to_vec();
                *header.get_mut(named)? = *ip.get(at)?;
                let first = u32::from_be_bytes(address(ip, 0)?);
                let (src, dst) = (Addr::from_octets(address(ip, 8)?), Addr::from_octets(address(ip, 24)?));
                // Here they would pass for IPv4, and nobody has such an address on the wire.
                if src.is_v4() || dst.is_v4() {
                    return None;
                }
                return sound(Fragment {
                    identity: Identity { src, dst, ident: u32::from_be_bytes(address(ip, at + 4)?), proto: 0 },
                    header,
                    payload: ip.get(at + FRAGMENT_HEADER..)?,
                    offset: usize::from(place & 0xfff8),
                    more: place & 1 != 0,
                    ecn: (first >> 20) as u8 & 3,
                });
            }
            _ => return None,
        }
    }
    None
}

/// All but the last end at eight octets, and none is empty.
fn sound(fragment: Fragment<'_>) -> Option<Fragment<'_>> {
    let len = fragment.payload.len();
    let whole = !fragment.more || len.is_multiple_of(8);
    (len != 0 && whole).then_some(fragment)
}

/// The packet of a header as [`Fragment::header`] has it and the whole payload; `None` when that is too long for IP.
pub(super) fn join(mut header: Vec<u8>, payload: &[u8], ecn: u8) -> Option<Vec<u8>> {
    let total = header.len().checked_add(payload.len())?;
    if header.first()? >> 4 == 4 {
        let len = u16::try_from(total).ok()?.to_be_bytes();
        header.get_mut(2..4)?.copy_from_slice(&len);
        let tos = header.get_mut(1)?;
        *tos = *tos & !3 | ecn;
        // The bit against fragmentation stays.
        *header.get_mut(6)? &= 0x40;
        *header.get_mut(7)? = 0;
        header.get_mut(10..12)?.fill(0);
        let sum = !words(&header);
        header.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
    } else {
        let len = u16::try_from(total.checked_sub(V6_HEADER)?).ok()?.to_be_bytes();
        header.get_mut(4..6)?.copy_from_slice(&len);
        let class = header.get_mut(1)?;
        *class = *class & !0x30 | ecn << 4;
    }
    header.extend_from_slice(payload);
    Some(header)
}

/// The one's complement sum of the words of up to 64 KiB (RFC 1071); the checksum is what it lacks.
pub(super) fn words(octets: &[u8]) -> u16 {
    let pair = |pair: &[u8]| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    };
    let sum = octets.chunks(2).fold(0u32, |sum, octets| sum + pair(octets));
    let folded = (sum & 0xffff) + (sum >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

/// The sealed packet with an identification if it is IPv4 and has none: the kernel would give each of its fragments another
/// one. `None` for AH without one, which covers the field; the programs give it one before they seal.
pub(super) fn identified(ip: &[u8]) -> Option<Vec<u8>> {
    const AH: u8 = 51;
    let mut ip = ip.to_vec();
    if ip.first()? >> 4 == 4 && word(&ip, 4)? == 0 {
        if *ip.get(9)? == AH {
            return None;
        }
        ip.get_mut(4..6)?.fill(0xff);
    }
    Some(ip)
}

/// Cuts a packet into fragments of at most `mtu` octets; one that is a fragment itself into smaller ones. `ident` goes into
/// the fragment header of IPv6. What lies behind the packet is padding. `None` when the packet forbids it, is malformed, or
/// `mtu` is too small.
pub fn split(ip: &[u8], mtu: usize, ident: u32) -> Option<Vec<Vec<u8>>> {
    match ip.first()? >> 4 {
        4 => split_v4(ip, mtu),
        6 => split_v6(ip, mtu, ident),
        _ => None,
    }
}

fn split_v4(ip: &[u8], mtu: usize) -> Option<Vec<Vec<u8>>> {
    const FORBIDDEN: u16 = 0x4000;
    const MORE: u16 = 0x2000;
    let header_len = usize::from(ip.first()? & 0xf) * 4;
    let ip = ip.get(..usize::from(word(ip, 2)?))?;
    let place = word(ip, 6)?;
    let (header, payload) = ip.split_at_checked(header_len)?;
    if header_len < V4_HEADER || place & FORBIDDEN != 0 {
        return None;
    }
    let later = later_header(header)?;
    let mut fragments = vec![];
    let (mut rest, mut offset) = (payload, usize::from(place & 0x1fff));
    while !rest.is_empty() {
        let mut fragment = if fragments.is_empty() { header.to_vec() } else { later.clone() };
        let room = mtu.checked_sub(fragment.len())? & !7;
        let (part, behind) = rest.split_at_checked(room.min(rest.len())).filter(|_| room != 0)?;
        let more = if behind.is_empty() { place & MORE } else { MORE };
        let len = u16::try_from(fragment.len() + part.len()).ok()?;
        let here = u16::try_from(offset).ok().filter(|at| at & !0x1fff == 0)?;
        fragment.get_mut(2..4)?.copy_from_slice(&len.to_be_bytes());
        fragment.get_mut(6..8)?.copy_from_slice(&(here | more).to_be_bytes());
        fragment.get_mut(10..12)?.fill(0);
        let sum = !words(&fragment);
        fragment.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
        fragment.extend_from_slice(part);
        fragments.push(fragment);
        (rest, offset) = (behind, offset + part.len() / 8);
    }
    Some(fragments)
}

/// The header of the fragments behind the first: only options that say so are copied (RFC 791 section 3.1).
fn later_header(header: &[u8]) -> Option<Vec<u8>> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const COPIED: u8 = 0x80;
    let (fixed, mut options) = header.split_at_checked(V4_HEADER)?;
    let mut later = fixed.to_vec();
    while let Some(kind) = options.first() {
        let len = match *kind {
            END => break,
            NOTHING => 1,
            _ => usize::from(*options.get(1)?),
        };
        let (option, behind) = options.split_at_checked(len).filter(|_| len != 0)?;
        if kind & COPIED != 0 {
            later.extend_from_slice(option);
        }
        options = behind;
    }
    later.resize(later.len().next_multiple_of(4), END);
    *later.first_mut()? = 0x40 | u8::try_from(later.len() / 4).ok()?;
    Some(later)
}

fn split_v6(ip: &[u8], mtu: usize, ident: u32) -> Option<Vec<Vec<u8>>> {
    let ip = ip.get(..usize::from(word(ip, 4)?) + V6_HEADER)?;
    // Hop-by-hop options and a routing header stay in front of the fragment header.
    let (mut named, mut at) = (6, V6_HEADER);
    for _ in 0..MAX_EXTENSIONS {
        match *ip.get(named)? {
            HOP_BY_HOP | ROUTING => (named, at) = (at, at + (usize::from(*ip.get(at + 1)?) + 1) * 8),
            FRAGMENT => return None,
            _ => break,
        }
    }
    let next = *ip.get(named)?;
    let (front, payload) = ip.split_at_checked(at)?;
    let room = mtu.checked_sub(at + FRAGMENT_HEADER)? & !7;
    if room == 0 {
        return None;
    }
    let mut fragments = vec![];
    let last = payload.len().div_ceil(room).checked_sub(1)?;
    for (index, part) in payload.chunks(room).enumerate() {
        let mut fragment = front.to_vec();
        *fragment.get_mut(named)? = FRAGMENT;
        let len = u16::try_from(at - V6_HEADER + FRAGMENT_HEADER + part.len()).ok()?;
        fragment.get_mut(4..6)?.copy_from_slice(&len.to_be_bytes());
        let place = u16::try_from(index * room).ok()? | u16::from(index != last);
        fragment.extend([next, 0]);
        fragment.extend(place.to_be_bytes());
        fragment.extend(ident.to_be_bytes());
        fragment.extend_from_slice(part);
        fragments.push(fragment);
    }
    Some(fragments)
}

#[cfg(test)]
pub(super) mod samples {
    //! Fragments for tests.

    /// A fragment of IPv4 with this TOS, identification and payload.
    pub(crate) fn v4(tos: u8, ident: u16, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
        let place = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
        let len = (20 + payload.len()) as u16;
        let mut ip = vec![0x45, tos];
        ip.extend(len.to_be_bytes());
        ip.extend(ident.to_be_bytes());
        ip.extend(place.to_be_bytes());
        ip.extend([64, 50, 0, 0, 198, 51, 100, 2, 203, 0, 113, 2]);
        ip.extend(payload);
        ip
    }

    /// A fragment of IPv6 behind a hop-by-hop header.
    pub(crate) fn v6(ident: u32, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
        let mut ip = vec![0x60, 0, 0, 0];
        ip.extend((16 + payload.len() as u16).to_be_bytes());
        ip.extend([0, 64]);
        ip.extend([0x20; 16]);
        ip.extend([0x21; 16]);
        ip.extend([44, 0, 1, 4, 0, 0, 0, 0]);
        ip.extend([50, 0]);
        ip.extend((offset as u16 | u16::from(more)).to_be_bytes());
        ip.extend(ident.to_be_bytes());
        ip.extend(payload);
        ip
    }
}

#[cfg(test)]
mod tests {
    use super::super::reassembly::Reassembly;
    use super::samples::{v4, v6};
    use super::*;

    #[test]
    fn fragments_are_read() {
        let ip = v4(1, 7, 16, true, &[9; 24]);
        let padded = [ip.as_slice(), &[0; 5]].concat();
        let found = fragment(&padded).unwrap();
        assert_eq!((found.offset, found.more, found.ecn, found.payload), (16, true, 1, &[9; 24][..]));
        assert_eq!((found.identity.ident, found.identity.proto, found.header.len()), (7, 50, 20));
        let ip = v6(0x1234_5678, 8, false, &[1; 3]);
        let found = fragment(&ip).unwrap();
        assert_eq!((found.offset, found.more, found.payload), (8, false, &[1; 3][..]));
        assert_eq!((found.identity.ident, found.identity.proto), (0x1234_5678, 0));
        assert_eq!((found.header.len(), found.header[40]), (48, 50), "the fragment header is out of the chain");
    }

    #[test]
    fn a_packet_that_is_cut_has_an_identification() {
        let ident = |ip: &[u8]| word(ip, 4);
        assert_eq!(ident(&identified(&v4(0, 7, 0, false, &[9; 24])).unwrap()), Some(7));
        assert_eq!(ident(&identified(&v4(0, 0, 0, false, &[9; 24])).unwrap()), Some(0xffff));
        let mut ah = v4(0, 7, 0, false, &[9; 24]);
        ah[9] = 51;
        assert_eq!(identified(&ah).unwrap(), ah);
        ah[4..6].fill(0);
        assert_eq!(identified(&ah), None, "AH covers it");
        let v6 = v6(0, 0, true, &[9; 24]);
        assert_eq!(identified(&v6).unwrap(), v6);
        assert_eq!(identified(&[]), None);
    }

    #[test]
    fn what_is_no_fragment_is_refused() {
        assert_eq!(fragment(&v4(0, 7, 0, false, &[9; 24])), None, "whole");
        assert_eq!(fragment(&v4(0, 7, 0, true, &[9; 23])), None, "not at eight octets");
        assert_eq!(fragment(&v4(0, 7, 8, false, &[])), None, "empty");
        assert_eq!(fragment(&v4(0, 7, 8, false, &[1])[..20]), None, "cut short");
        assert_eq!(fragment(&[]), None);
        assert_eq!(fragment(&v6(1, 0, true, &[1; 8])[..50]), None);
        let mut many = v6(1, 0, false, &[1; 64]);
        // Hop-by-hop headers without end.
        many[40..].iter_mut().for_each(|octet| *octet = 0);
        assert_eq!(fragment(&many), None);
    }

    #[test]
    fn a_joined_header_is_that_of_the_whole() {
        let ip = v4(3, 7, 0, true, &[9; 8]);
        let found = fragment(&ip).unwrap();
        let whole = join(found.header.clone(), &[5; 100], 2).unwrap();
        assert_eq!((whole.len(), whole[1], word(&whole, 2), word(&whole, 6)), (120, 2, Some(120), Some(0)));
        assert_eq!(words(&whole[..20]), 0xffff);
        assert_eq!(join(found.header, &[0; 65_516], 0), None, "longer than IP can be");
        let ip = v6(1, 0, true, &[9; 8]);
        let whole = join(fragment(&ip).unwrap().header, &[5; 100], 1).unwrap();
        assert_eq!((whole.len(), word(&whole, 4), whole[1]), (148, Some(108), 0x10));
    }

    /// ESP-FMT-12, TUN-11: what is cut and made whole again is what it was.
    #[test]
    fn fragments_make_the_packet_again() {
        let content: Vec<u8> = (0..3000).map(|i| i as u8 ^ (i >> 8) as u8).collect();
        let whole_v4 = join(fragment(&v4(0, 7, 0, true, &[0; 8])).unwrap().header, &content, 0).unwrap();
        let whole_v6 = join(fragment(&v6(7, 0, true, &[0; 8])).unwrap().header, &content, 0).unwrap();
        for (whole, header) in [(&whole_v4, 20), (&whole_v6, 48)] {
            for mtu in [header + 16, 576, 1000, 1280, 1499, 1500, 3000, 4000] {
                let parts = split(whole, mtu, 9).unwrap();
                assert!(parts.iter().all(|part| part.len() <= mtu));
                let mut reassembly = Reassembly::default();
                let made: Vec<_> = parts
                    .iter()
                    .filter(|part| fragment(part).is_some())
                    .filter_map(|part| reassembly.take(0, part).unwrap())
                    .collect();
                if parts.len() == 1 && whole[0] >> 4 == 4 {
                    assert_eq!(&parts[0], whole, "nothing to cut");
                } else {
                    assert_eq!(made, std::slice::from_ref(whole), "MTU {mtu}");
                }
            }
            assert_eq!(split(whole, header + 7, 9), None);
            assert_eq!(split(&whole[..100], 576, 9), None);
        }
        let mut forbidden = whole_v4.clone();
        forbidden[6] |= 0x40;
        assert_eq!(split(&forbidden, 576, 9), None);
        let first = split(&whole_v6, 576, 9).unwrap().remove(0);
        assert_eq!(split(&first, 400, 9), None, "a router must not cut IPv6");
        // A fragment in the middle becomes smaller ones in the middle.
        let middle = split(&whole_v4, 1500, 9).unwrap().remove(1);
        let parts = split(&middle, 576, 9).unwrap();
        let read: Vec<_> = parts.iter().map(|part| fragment(part).unwrap()).collect();
        assert!(read.iter().all(|part| part.more) && read[0].offset == 1480);
        assert_eq!(read.iter().map(|part| part.payload.len()).sum::<usize>(), 1480);
    }

    #[test]
    fn options_that_say_so_are_copied() {
        let mut ip = v4(0, 7, 0, false, &[5; 1000]);
        // Record route (not copied), nothing, loose source route (copied).
        let options = [7, 7, 4, 0, 0, 0, 0, 1, 0x83, 7, 4, 1, 2, 3, 4, 0];
        ip.splice(20..20, options);
        ip[0] = 0x49;
        ip[2..4].copy_from_slice(&1036u16.to_be_bytes());
        let parts = split(&ip, 576, 9).unwrap();
        assert_eq!((parts[0][0], &parts[0][20..36]), (0x49, &options[..]));
        assert_eq!((parts[1][0], &parts[1][20..28]), (0x47, &[0x83, 7, 4, 1, 2, 3, 4, 0][..]));
        ip[21] = 99;
        assert_eq!(split(&ip, 576, 9), None, "an option that is longer than the header");
    }
}

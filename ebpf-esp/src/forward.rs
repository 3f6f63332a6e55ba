//! What a router does to a packet that it forwards (RFC 1812 section 5.2, RFC 8200 section 3), as far as it can be done
//! without the stack: which packets are plain enough, and one hop less.

use crate::packet::{ETH_LEN, Frame, Parsed};
use sadb_maps::Addr;

/// Whether a router has nothing to do for the packet but to send it on: it has hops left, no options or extension headers,
/// which routers may have to read, readable selectors, ends that can be anywhere, and a header without errors. Everything
/// else is the stack's. The packet starts behind an Ethernet header.
#[inline(always)]
pub fn is_plain<F: Frame>(frame: &F, packet: &Parsed) -> bool {
    let header = if packet.v4 { 20 } else { 40 };
    packet.ttl > 1
        && packet.l4 == ETH_LEN + header
        && !packet.fragment
        && !packet.opaque
        && is_routable(&packet.src)
        && is_routable(&packet.dst)
        && (!packet.v4 || has_right_checksum(frame))
}

/// Whether the IPv4 header without options behind the Ethernet header has the checksum that it should (RFC 1812 section
/// 5.2.2).
#[inline(always)]
fn has_right_checksum<F: Frame>(frame: &F) -> bool {
    let Some([a, b, c, d, e]) = frame.read::<[u32; 5]>(ETH_LEN) else { return false };
    // Of ones' complement, the order of octets does not matter (RFC 1071 section 2).
    let sum = a as u64 + b as u64 + c as u64 + d as u64 + e as u64;
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    // One more carry is possible, and 0 is no sum of a header whose first octet is not 0.
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

/// Whether the address may stand in a packet that crosses a router: unicast, of more than one host or link.
#[inline(always)]
fn is_routable(address: &Addr) -> bool {
    if address.is_v4() {
        let first = address.0[3].to_ne_bytes()[0];
        // "This network", loopback, multicast, reserved and broadcast, link-local (RFC 6890).
        return first != 0 && first != 127 && first < 224 && address.0[3].to_ne_bytes()[..2] != [169, 254];
    }
    let [first, second, ..] = address.0[0].to_ne_bytes();
    // Multicast, link-local; unspecified, loopback and the rest of ::/96 that nobody routes.
    first != 0xff && !(first == 0xfe && second & 0xc0 == 0x80) && (address.0[0] | address.0[1]) != 0
}

/// One hop less, and the checksum of IPv4 to match (RFC 1624). The packet has a hop to lose, and starts behind an Ethernet
/// header.
#[inline(always)]
pub fn one_hop_less<F: Frame>(frame: &F, packet: &Parsed) -> Option<()> {
    let less = packet.ttl - 1;
    if !packet.v4 {
        return frame.write(ETH_LEN + 7, less);
    }
    let [_, checksum] = frame.read::<[u16; 2]>(ETH_LEN + 8)?;
    let old = u16::from_ne_bytes([packet.ttl, packet.proto]);
    let new = u16::from_ne_bytes([less, packet.proto]);
    frame.write(ETH_LEN + 8, less)?;
    frame.write(ETH_LEN + 10, update_checksum(checksum, old, new))
}

/// RFC 1624 equation 3, on words in memory order.
#[inline(always)]
pub fn update_checksum(sum: u16, old: u16, new: u16) -> u16 {
    let mut s = (!sum) as u32 + (!old) as u32 + new as u32;
    s = (s & 0xffff) + (s >> 16);
    s = (s & 0xffff) + (s >> 16);
    !(s as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Content, parse};
    use core::cell::UnsafeCell;

    struct Buffer(UnsafeCell<Vec<u8>>);

    impl Frame for Buffer {
        fn at<T: Copy>(&self, offset: u32) -> Option<*mut T> {
            // SAFETY: one thread, and no reference outlives a call.
            let octets = unsafe { &mut *self.0.get() };
            let place = octets.get_mut(offset as usize..offset as usize + size_of::<T>())?;
            Some(place.as_mut_ptr().cast())
        }
    }

    fn frame(octets: Vec<u8>) -> Buffer {
        Buffer(UnsafeCell::new(octets))
    }

    fn parsed(frame: &Buffer) -> Parsed {
        match parse(frame) {
            Content::Ip(parsed) => parsed,
            other => panic!("{other:?}"),
        }
    }

    fn checksum(header: &[u8]) -> u16 {
        let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        !((sum & 0xffff) + (sum >> 16)) as u16
    }

    fn v4(src: [u8; 4], dst: [u8; 4], ttl: u8) -> Vec<u8> {
        let mut octets = vec![0; 14];
        octets[12..].copy_from_slice(&[0x08, 0]);
        octets.extend([0x45, 0, 0, 28, 0x12, 0x34, 0, 0, ttl, 17, 0, 0]);
        octets.extend([src, dst].concat());
        mend(&mut octets);
        octets.extend([0, 53, 0, 53, 0, 8, 0, 0]);
        octets
    }

    /// Gives the IPv4 header its checksum.
    fn mend(octets: &mut [u8]) {
        octets[24..26].fill(0);
        let end = 14 + usize::from(octets[14] & 0xf) * 4;
        let sum = checksum(&octets[14..end]);
        octets[24..26].copy_from_slice(&sum.to_be_bytes());
    }

    fn v6(src: [u8; 16], dst: [u8; 16], hops: u8) -> Vec<u8> {
        let mut octets = vec![0; 14];
        octets[12..].copy_from_slice(&[0x86, 0xdd]);
        octets.extend([0x60, 0, 0, 0, 0, 8, 17, hops]);
        octets.extend([src, dst].concat());
        octets.extend([0, 53, 0, 53, 0, 8, 0, 0]);
        octets
    }

    const HOST: [u8; 4] = [10, 1, 0, 9];
    const FAR: [u8; 4] = [10, 2, 0, 9];

    /// RFC 1812 section 5.3.1: the TTL goes down by one, and the checksum of the header stays right.
    #[test]
    fn a_hop_less_leaves_a_right_checksum() {
        for ttl in 2..=255 {
            let frame = frame(v4(HOST, FAR, ttl));
            let packet = parsed(&frame);
            assert!(is_plain(&frame, &packet));
            one_hop_less(&frame, &packet).unwrap();
            let octets = frame.0.into_inner();
            assert_eq!((octets[22], checksum(&octets[14..34])), (ttl - 1, 0), "TTL {ttl}");
        }
        let host = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let frame = frame(v6(host, host, 64));
        let packet = parsed(&frame);
        assert!(is_plain(&frame, &packet));
        one_hop_less(&frame, &packet).unwrap();
        assert_eq!(frame.0.into_inner()[21], 63);
    }

    #[test]
    fn what_needs_a_stack_is_not_plain() {
        let plain = |octets: Vec<u8>| {
            let frame = frame(octets);
            is_plain(&frame, &parsed(&frame))
        };
        assert!(plain(v4(HOST, FAR, 64)));
        assert!(!plain(v4(HOST, FAR, 1)) && !plain(v4(HOST, FAR, 0)), "no hop left");
        for odd in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 5], [255; 4], [240, 0, 0, 1], [169, 254, 1, 1]] {
            assert!(!plain(v4(odd, FAR, 64)), "from {odd:?}");
            assert!(!plain(v4(HOST, odd, 64)), "to {odd:?}");
        }
        let mut options = v4(HOST, FAR, 64);
        options[14] = 0x46;
        options[17] = 32;
        options.splice(34..34, [1; 4]);
        mend(&mut options);
        assert!(!plain(options), "options");
        for (high, low) in [(0x20, 0), (0, 1)] {
            let mut fragment = v4(HOST, FAR, 64);
            fragment[20..22].copy_from_slice(&[high, low]);
            mend(&mut fragment);
            assert!(!plain(fragment), "a fragment");
        }
        let host = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let mut local = host;
        local[..2].copy_from_slice(&[0xfe, 0x80]);
        let mut group = host;
        group[0] = 0xff;
        let mut loopback = [0; 16];
        loopback[15] = 1;
        for odd in [local, group, loopback, [0; 16]] {
            assert!(!plain(v6(odd, host, 64)) && !plain(v6(host, odd, 64)), "{odd:?}");
        }
        let mut hop_by_hop = v6(host, host, 64);
        hop_by_hop[18..21].copy_from_slice(&[0, 16, 0]);
        hop_by_hop.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
        assert!(!plain(hop_by_hop), "an extension header");
    }

    /// RFC 1812 section 5.2.2: a router checks the header of what it forwards. Every header with one bit wrong is found.
    #[test]
    fn a_header_with_an_error_is_not_plain() {
        for ident in 0..=u16::MAX {
            let mut octets = v4(HOST, FAR, 64);
            octets[18..20].copy_from_slice(&ident.to_be_bytes());
            mend(&mut octets);
            assert!(has_right_checksum(&frame(octets)), "identification {ident}");
        }
        for bit in 0..160 {
            let mut octets = v4(HOST, FAR, 64);
            octets[14 + bit / 8] ^= 1 << (bit % 8);
            assert!(!has_right_checksum(&frame(octets)), "bit {bit}");
        }
        let mut octets = v4(HOST, FAR, 64);
        octets[24] ^= 0x40;
        let frame = frame(octets);
        assert!(!is_plain(&frame, &parsed(&frame)));
    }
}

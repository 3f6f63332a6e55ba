//! The answer to a packet that is too long: ICMP "fragmentation needed" (RFC 1191) and ICMPv6 "packet too big"
//! (RFC 4443 section 3.2), with the exact length that fits.
//!
//! The frame has been cut to [`QUOTED`] octets of the packet and then grown at the head by [`V4_GROWTH`] or
//! [`V6_GROWTH`]; the old Ethernet header lies in front of the quoted packet, the new one is to be written.

use crate::esp::{Fields, ipv4_header, ipv6_header};
use crate::packet::{ETH_IPV4, ETH_IPV6, ETH_LEN, Frame, Parsed, proto};
use sadb_maps::Addr;

/// Octets of the offending packet that are quoted; every packet that is too long has them.
pub const QUOTED: u32 = 128;
/// IPv4 header and ICMP header.
pub const V4_GROWTH: u32 = 28;
/// IPv6 header and ICMPv6 header.
pub const V6_GROWTH: u32 = 48;

/// The least MTU that IPv6 knows (RFC 8200 section 5).
pub const V6_MINIMUM: u32 = 1280;

/// Whether the sender of a packet may be told anything by ICMP: not about an ICMP error, not a multitude, not when it is no
/// single host, and in IPv4 only about the first fragment (RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7, RFC 4443
/// section 2.4 (e), where a packet to many may be too big all the same).
#[inline(always)]
pub fn may_be_answered(packet: &Parsed) -> bool {
    const REDIRECT: u8 = 137;
    const ALL_ONES: u32 = u32::MAX;
    if packet.is_icmp_error() {
        return false;
    }
    if packet.v4 {
        let (src, dst) = (u32::from_be(packet.src.0[3]), u32::from_be(packet.dst.0[3]));
        // This network, loopback, multicast, class E with the broadcast address.
        let of_one = !matches!(src >> 24, 0 | 127 | 224..);
        let to_one = dst >> 28 != 0xe && dst != ALL_ONES;
        return of_one && to_one && !packet.opaque;
    }
    let of_one = packet.src.0 != [0; 4] && u32::from_be(packet.src.0[0]) >> 24 != 0xff;
    // Of a later fragment of ICMPv6 nobody can tell what it is of.
    let of_icmp = packet.proto == proto::ICMPV6 && (packet.opaque || packet.icmp[0] == REDIRECT);
    of_one && !of_icmp
}

/// Writes the IPv4 answer to `src`, in the name of `dst`.
#[inline(always)]
pub fn write_v4<F: Frame>(frame: &F, src: Addr, dst: Addr, limit: u32) -> Option<()> {
    turn_ethernet(frame, V4_GROWTH, ETH_IPV4)?;
    let header = ipv4_header(dst, src, Fields { tos: 0xc0, ..Fields::plain(proto::ICMP) }, 0, 20 + 8 + QUOTED);
    frame.write(ETH_LEN, header)?;
    let icmp = ETH_LEN + 20;
    frame.write(icmp, [0x0304_0000u32.to_be(), (limit & 0xffff).to_be()])?;
    let sum = sum_words(frame, icmp, 0)?;
    frame.write(icmp + 2, !sum)
}

/// Writes the IPv6 answer to `src`, in the name of `dst`.
#[inline(always)]
pub fn write_v6<F: Frame>(frame: &F, src: Addr, dst: Addr, limit: u32) -> Option<()> {
    turn_ethernet(frame, V6_GROWTH, ETH_IPV6)?;
    let header = ipv6_header(dst, src, Fields::plain(proto::ICMPV6), 8 + QUOTED);
    frame.write(ETH_LEN, header)?;
    let icmp = ETH_LEN + 40;
    let limit = if limit < V6_MINIMUM { V6_MINIMUM } else { limit };
    frame.write(icmp, [0x0200_0000u32.to_be(), limit.to_be()])?;
    let mut pseudo = (8 + QUOTED).to_be() as u64 + (proto::ICMPV6 as u32).to_be() as u64;
    let [_, _, addresses @ ..] = header;
    for word in addresses {
        pseudo += word as u64;
    }
    let sum = sum_words(frame, icmp, pseudo)?;
    frame.write(icmp + 2, !sum)
}

/// New Ethernet header: the addresses of the old one the other way round.
#[inline(always)]
fn turn_ethernet<F: Frame>(frame: &F, grown: u32, ether_type: u16) -> Option<()> {
    let [a, b, c, d, e, f] = frame.read::<[u16; 6]>(grown)?;
    frame.write(0, [d, e, f, a, b, c])?;
    frame.write(12, ether_type.to_be())
}

/// Folded sum of the ICMP header and the quoted packet, plus `start`.
#[inline(always)]
fn sum_words<F: Frame>(frame: &F, offset: u32, start: u64) -> Option<u16> {
    let words = frame.at::<[u32; 34]>(offset)?;
    let mut sum = start;
    let mut i = 0;
    while i < 34 {
        // SAFETY: `at` promises 34 words.
        sum += unsafe { words.cast::<u32>().add(i).read_unaligned() } as u64;
        i += 1;
    }
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    Some(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{parse_v4, parse_v6};
    use core::cell::UnsafeCell;

    struct Octets(UnsafeCell<Vec<u8>>);

    impl Frame for Octets {
        fn at<T: Copy>(&self, offset: u32) -> Option<*mut T> {
            // SAFETY: nothing else refers to the octets.
            let octets = unsafe { &mut *self.0.get() };
            octets.get_mut(offset as usize..offset as usize + size_of::<T>()).map(|part| part.as_mut_ptr().cast())
        }
    }

    fn v4(src: [u8; 4], dst: [u8; 4], fragment: u16, proto: u8, kind: u8) -> bool {
        let [high, low] = fragment.to_be_bytes();
        let front = [0x45, 0, 0, 40, 0, 7, high, low, 64, proto, 0, 0];
        let octets = [&front[..], &src, &dst, &[kind, 0], &[0; 18]].concat();
        may_be_answered(&parse_v4(&Octets(UnsafeCell::new(octets)), 0).unwrap())
    }

    fn v6(src: [u8; 16], dst: [u8; 16], fragment: Option<u16>, proto: u8, kind: u8) -> bool {
        let mut behind = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        if let Some(field) = fragment {
            behind.splice(..0, [&[proto, 0][..], &field.to_be_bytes(), &[0, 0, 0, 7]].concat());
        }
        let next = if fragment.is_some() { 44 } else { proto };
        let front = [0x60, 0, 0, 0, 0, behind.len() as u8, next, 64];
        let octets = [&front[..], &src, &dst, &behind].concat();
        may_be_answered(&parse_v6(&Octets(UnsafeCell::new(octets)), 0).unwrap())
    }

    /// RFC 1122 section 3.2.2 and RFC 1812 section 4.3.2.7, case by case.
    #[test]
    fn who_is_told_in_ipv4() {
        const HOST: [u8; 4] = [198, 51, 100, 1];
        const PEER: [u8; 4] = [203, 0, 113, 1];
        assert!(v4(HOST, PEER, 0x4000, 6, 0));
        assert!(v4(HOST, PEER, 0x4000, 1, 8), "an echo request");
        for kind in [3, 4, 5, 11, 12] {
            assert!(!v4(HOST, PEER, 0x4000, 1, kind), "ICMP type {kind}");
        }
        assert!(v4(HOST, PEER, 0x2000, 17, 0), "a first fragment");
        assert!(!v4(HOST, PEER, 0x2001, 17, 0), "a later one");
        assert!(!v4(HOST, PEER, 1, 17, 0), "the last one");
        for dst in [[224, 0, 0, 5], [239, 255, 255, 255], [255, 255, 255, 255]] {
            assert!(!v4(HOST, dst, 0, 17, 0), "to {dst:?}");
        }
        for src in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255, 255, 255, 255]] {
            assert!(!v4(src, PEER, 0, 17, 0), "from {src:?}");
        }
    }

    /// RFC 4443 section 2.4 (e), case by case.
    #[test]
    fn who_is_told_in_ipv6() {
        let one = |last: u8| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        let many = [0xff, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
        let (src, dst) = (one(1), one(2));
        assert!(v6(src, dst, None, 6, 0) && v6(src, dst, None, 58, 128));
        for kind in [1, 2, 3, 4, 100, 127, 137] {
            assert!(!v6(src, dst, None, 58, kind), "ICMPv6 type {kind}");
        }
        assert!(v6(src, many, None, 17, 0), "what goes to many may be too big");
        assert!(!v6([0; 16], dst, None, 17, 0) && !v6(many, dst, None, 17, 0));
        assert!(v6(src, dst, Some(1), 17, 0) && v6(src, dst, Some(8), 17, 0), "fragments are the sender's");
        assert!(!v6(src, dst, Some(8), 58, 128), "who knows of what");
    }
}

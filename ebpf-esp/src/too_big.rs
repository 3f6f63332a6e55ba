//! The answer to a packet that is too long: ICMP "fragmentation needed" (RFC 1191) and ICMPv6 "packet too big"
//! (RFC 4443 section 3.2), with the exact length that fits.
//!
//! The frame has been cut to [`QUOTED`] octets of the packet and then grown at the head by [`V4_GROWTH`] or
//! [`V6_GROWTH`]; the old Ethernet header lies in front of the quoted packet, the new one is to be written.

use crate::esp::{Fields, ipv4_header, ipv6_header};
use crate::packet::{ETH_IPV4, ETH_IPV6, ETH_LEN, Frame, proto};
use sadb_maps::Addr;

/// Octets of the offending packet that are quoted; every packet that is too long has them.
pub const QUOTED: u32 = 128;
/// IPv4 header and ICMP header.
pub const V4_GROWTH: u32 = 28;
/// IPv6 header and ICMPv6 header.
pub const V6_GROWTH: u32 = 48;

/// The least MTU that IPv6 knows (RFC 8200 section 5).
pub const V6_MINIMUM: u32 = 1280;

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

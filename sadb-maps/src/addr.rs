//! IP addresses as the maps hold them.

use bytemuck::{Pod, Zeroable};

/// An IPv4 or IPv6 address: sixteen octets in the order of the wire, IPv4 as `::ffff:a.b.c.d`.
///
/// One representation for both families keeps every comparison in the kernel to four words. Each word holds four
/// octets as they lie in memory, so a word equals `u32::from_ne_bytes` of the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Addr(pub [u32; 4]);

/// The third word of an IPv4 address: `0000:ffff`.
pub const V4_PREFIX: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Addr {
    /// The unspecified address of neither family: all octets zero. Matches nothing on the wire but `::`.
    pub const UNSPECIFIED: Self = Self([0; 4]);

    /// An IPv4 address from its four octets as one word in memory order.
    #[inline(always)]
    pub const fn v4(word: u32) -> Self {
        Self([0, 0, V4_PREFIX, word])
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == V4_PREFIX
    }

    /// Whether all octets are zero, or all but the IPv4 prefix.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[3] == 0 && (self.0[2] == 0 || self.0[2] == V4_PREFIX)
    }

    /// Whether `self`, with the bits outside `mask` cleared, equals `prefix`.
    #[inline(always)]
    pub const fn in_prefix(&self, prefix: &Self, mask: &Self) -> bool {
        ((self.0[0] & mask.0[0]) ^ prefix.0[0])
            | ((self.0[1] & mask.0[1]) ^ prefix.0[1])
            | ((self.0[2] & mask.0[2]) ^ prefix.0[2])
            | ((self.0[3] & mask.0[3]) ^ prefix.0[3])
            == 0
    }

    /// Whether `low <= self <= high`, comparing octet by octet from the first.
    #[inline(always)]
    pub const fn in_range(&self, low: &Self, high: &Self) -> bool {
        self.at_least(low) && high.at_least(self)
    }

    #[inline(always)]
    const fn at_least(&self, low: &Self) -> bool {
        let (sh, sl) = self.halves();
        let (lh, ll) = low.halves();
        sh > lh || (sh == lh && sl >= ll)
    }

    /// The two halves as numbers whose order is that of the octets.
    #[inline(always)]
    const fn halves(&self) -> (u64, u64) {
        (
            ((u32::from_be(self.0[0]) as u64) << 32) | u32::from_be(self.0[1]) as u64,
            ((u32::from_be(self.0[2]) as u64) << 32) | u32::from_be(self.0[3]) as u64,
        )
    }

    /// The mask of the first `bits` of sixteen octets; above 128 all of them.
    pub const fn mask(bits: u32) -> Self {
        let bits = if bits > 128 { 128 } else { bits };
        let value = if bits == 0 { 0 } else { u128::MAX << (128 - bits) };
        Self::from_octets(value.to_be_bytes())
    }

    /// From sixteen octets of the wire.
    pub const fn from_octets(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// The sixteen octets of the wire.
    pub const fn octets(&self) -> [u8; 16] {
        let (high, low) = self.halves();
        (((high as u128) << 64) | low as u128).to_be_bytes()
    }
}

#[cfg(any(feature = "host", test))]
mod std_addresses {
    use super::Addr;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    impl From<IpAddr> for Addr {
        fn from(ip: IpAddr) -> Self {
            match ip {
                IpAddr::V4(v4) => Self::v4(u32::from_ne_bytes(v4.octets())),
                IpAddr::V6(v6) => Self::from_octets(v6.octets()),
            }
        }
    }

    impl From<Addr> for IpAddr {
        fn from(addr: Addr) -> Self {
            if addr.is_v4() {
                Self::V4(Ipv4Addr::from(addr.0[3].to_ne_bytes()))
            } else {
                Self::V6(Ipv6Addr::from(addr.octets()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn addr(text: &str) -> Addr {
        Addr::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["192.0.2.1", "0.0.0.0", "255.255.255.255", "::", "2001:db8::1", "::1"] {
            assert_eq!(IpAddr::from(addr(text)).to_string(), text);
            assert_eq!(Addr::from_octets(addr(text).octets()), addr(text));
        }
    }

    #[test]
    fn a_prefix_holds_its_members_only() {
        let (net, mask) = (addr("10.1.0.0"), Addr::mask(96 + 16));
        assert!(addr("10.1.255.9").in_prefix(&net, &mask));
        assert!(!addr("10.2.0.0").in_prefix(&net, &mask));
        assert!(!addr("::a01:9").in_prefix(&net, &mask));
        let (net, mask) = (addr("2001:db8:1::"), Addr::mask(48));
        assert!(addr("2001:db8:1:ffff::1").in_prefix(&net, &mask));
        assert!(!addr("2001:db8:2::").in_prefix(&net, &mask));
    }

    #[test]
    fn ranges_compare_octet_by_octet() {
        let (low, high) = (addr("10.0.1.250"), addr("10.0.2.5"));
        for (text, inside) in [
            ("10.0.1.249", false),
            ("10.0.1.250", true),
            ("10.0.1.255", true),
            ("10.0.2.5", true),
            ("10.0.2.6", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(addr(text).in_range(&low, &high), inside, "{text}");
        }
    }
}
